"""What one person owns, counted; and what of it stays when the account goes."""

from allauth.mfa.models import Authenticator
from django.contrib.admin.models import LogEntry
from django.contrib.auth.models import User
from django.db.models import Exists, OuterRef, QuerySet

from apps.accounts.queries import identities_of
from apps.alerts.models import Alert
from apps.backtests.models import BacktestRun
from apps.market.models import WatchedAsset
from apps.market.queries import every_asset
from apps.notify.models import Channel, Message, Silence
from apps.portfolios.models import Portfolio, Transaction
from apps.rules.models import Rule, RuleChange
from apps.rules.queries import rules_of

# Apps whose rows belong to the installation.
_OF_THE_INSTALLATION = ("auth", "market", "sources")
LAST_SUPERUSER = "This is the last account that may do everything. Make another superuser first."

Counts = list[tuple[str, int]]


def counts_of(user: User) -> Counts:
    """Return how many there are of each kind of thing that `user` owns, of kinds of which there are some."""
    rows = {
        "Rules": rules_of(user),
        "Alerts": Alert.objects.filter(owner=user),
        "Channels": Channel.objects.filter(owner=user),
        "Messages to these channels": Message.objects.filter(channel__owner=user),
        "Silences": Silence.objects.filter(owner=user),
        "API tokens": user.api_tokens,
        "Portfolios": Portfolio.objects.filter(owner=user),
        "Transactions": Transaction.objects.filter(portfolio__owner=user),
        "Derived series and manual assets": every_asset().filter(owner=user),
        "Backtests": BacktestRun.objects.filter(owner=user),
        "Watched assets": WatchedAsset.objects.filter(user=user),
        "Authenticator app and recovery codes": Authenticator.objects.filter(user=user),
        "Identities of single sign-on": identities_of(user),
    }
    return _some({name: of_kind.order_by().count() for name, of_kind in rows.items()})


def counts_staying(user: User) -> Counts:
    """Return how many things stay when the account of `user` is deleted, by what they are."""
    in_logs = Rule.objects.filter(
        Exists(RuleChange.objects.filter(rule=OuterRef("pk"), entry__feed__owner=None)), owner=user
    )
    return _some(
        {
            "Rules in the logs of feeds, without their names, so that these logs can be read again": in_logs.count(),
            "Entries about feeds, assets and people in the administration's log": entries_that_stay(user).count(),
        }
    )


def _some(counts: dict[str, int]) -> Counts:
    return [(name, count) for name, count in counts.items() if count]


def rules_that_stay(user: User) -> QuerySet[Rule]:
    """Return the rules of `user`, deleted ones too, that a log names, by which others' rules are evaluated too."""
    return Rule.objects.filter(Exists(RuleChange.objects.filter(rule=OuterRef("pk"))), owner=user)


def entries_that_stay(user: User) -> QuerySet[LogEntry]:
    """Return what `user` did to rows of the installation, by the log of the admin."""
    done = LogEntry.objects.filter(user=user, content_type__app_label__in=_OF_THE_INSTALLATION)
    own = LogEntry.objects.filter(user=user, content_type__model="user", object_id=str(user.pk))
    # Rows with an owner have negative ids.
    return done.exclude(object_id__startswith="-").exclude(pk__in=own.values("pk"))


def why_not_deleted(user: User) -> str:
    """Return why the account cannot be deleted, or ""."""
    if user.pk < 0:
        return "It is an account of the installation's own."
    return LAST_SUPERUSER if user.is_superuser and not has_other_superuser(user) else ""


def has_other_superuser(user: User) -> bool:
    """Tell whether somebody besides `user` may do everything, and can sign in."""
    return User.objects.filter(is_superuser=True, is_active=True).exclude(pk=user.pk).exists()


def lock_superusers(*, besides_pk: int) -> list[User]:
    """Return the superusers and the account of this id, locked, so that of the last two who go at once one stays."""
    accounts = User.objects.filter(pk=besides_pk) | User.objects.filter(is_superuser=True)
    return list(accounts.select_for_update(no_key=True).order_by("pk"))

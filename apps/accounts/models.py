"""People's profiles, recent attempts to sign in, and keys under which their programs have created something."""

from django.conf import settings
from django.core.exceptions import ValidationError
from django.db import models
from django.db.models import Q

from apps.accounts.domain import time_zones
from apps.locales import DEFAULT_CODE, LOCALES


def validate_time_zone(name: str) -> None:
    """Raise ValidationError for a name that is not in the time zone database."""
    # Compared, not opened: a name is a path to the library, and some names raise other errors than an unknown one.
    if name not in time_zones():
        raise ValidationError("There is no such time zone; write one like Europe/Kyiv.")


class Profile(models.Model):
    """A person's preferences; without a row, the defaults.

    time_zone: in which pages and messages show times, and the preset for the quiet hours of new channels; locale: how
    they write numbers, dates and times, a code of LOCALES;
    inbox_seen_at: when the person last looked into the inbox.
    """

    user = models.OneToOneField(settings.AUTH_USER_MODEL, models.CASCADE, primary_key=True, related_name="profile")
    time_zone = models.CharField(
        max_length=64,
        default="UTC",
        validators=[validate_time_zone],
        help_text="Pages, charts, forms and messages have times in this zone; pages show UTC on hover. Portfolios, "
        "webhooks and the API are in UTC. New channels begin with it for their quiet hours.",
    )
    locale = models.CharField(
        "numbers and dates",
        max_length=8,
        choices=[(code, one.name) for code, one in LOCALES.items()],
        default=DEFAULT_CODE,
        help_text="Pages, charts and messages write numbers, dates and times like this; their texts are in English. "
        "Forms show numbers with a decimal point, and read a comma too. Files, webhooks and the API have a point only.",
    )
    inbox_seen_at = models.DateTimeField(null=True, editable=False)

    class Meta:
        constraints = [models.CheckConstraint(condition=Q(locale__in=list(LOCALES)), name="profile_locale_is_known")]

    def __str__(self) -> str:
        return f"{self.user}: {self.time_zone}, {self.locale}"


class SignInAttempt(models.Model):
    """One try with a password that has not succeeded, or one request for a mail; kept for an hour.

    account: a digest of the name or address that was typed, since people type passwords into that field, too;
    address: where it came from, or "" where that cannot be known.
    """

    class Kind(models.TextChoices):
        PASSWORD = "password", "password"
        MAIL = "mail", "mail"

    kind = models.CharField(max_length=8, choices=Kind)
    account = models.CharField(max_length=64)
    address = models.CharField(max_length=64, blank=True)
    at = models.DateTimeField()

    class Meta:
        # They serve the two counts, and the end of the hour.
        indexes = [
            models.Index(fields=["account", "at"], name="sign_in_attempts_of_account"),
            models.Index(fields=["address", "at"], name="sign_in_attempts_from_address"),
            models.Index(fields=["at"], name="sign_in_attempt_oldest_first"),
        ]

    def __str__(self) -> str:
        return f"{self.kind} at {self.at}"


class IdempotencyKey(models.Model):
    """What a program, or a form of the site, has created for an owner under a key of its own, so that a repeat creates
    nothing more; kept for a day.

    digest: of what was to be created; created: the id of what came of it, "" only within that transaction.
    """

    owner = models.ForeignKey(settings.AUTH_USER_MODEL, models.CASCADE, related_name="idempotency_keys")
    key = models.CharField(max_length=64)
    digest = models.CharField(max_length=64)
    created = models.TextField(blank=True)
    at = models.DateTimeField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["owner", "key"], name="one_idempotency_key_per_owner")]
        # Serves pruning.
        indexes = [models.Index(fields=["at"], name="idempotency_key_oldest_first")]

    def __str__(self) -> str:
        return self.key

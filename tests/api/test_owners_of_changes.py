"""Nobody changes another owner's rows, by whatever id. Mutations and their ids are enumerated from the schema: a new
one fails until it is listed here."""

import pytest
from django.db import connection
from django.utils import timezone
from graphql import get_named_type, is_input_object_type, is_required_argument

from apps.api.tokens.services import create_token
from apps.market.models import Asset
from apps.notify.services import create_silence
from apps.owned_ids import external_id_of, new_owned_id
from apps.portfolios.importing import keep_file
from tests.api.asking import MUTATION, NOBODYS, codes, everything
from tests.builders import at, make_backtest, make_member, make_notified_alerts, make_owned
from tests.portfolios.domain.test_ghostfolio import ROW, in_json
from tests.portfolios.rows import bought, make_portfolio, record

pytestmark = pytest.mark.django_db

FAR = "2999-01-01T00:00:00Z"
DOCUMENT = {"assets": ["ADA-0"], "condition": {"kind": "above", "level": "12"}}
BOUGHT = {"kind": "BUY", "at": FAR, "asset": "ADA-0", "quantity": "1", "amount": "9", "currency": "EUR"}
# Mutation -> what it is called with, beside an id: all that would be right.
ARGUMENTS = {
    "acknowledgeAlert": {},
    "createSilence": {"idempotencyKey": "k", "endsAt": FAR, "comment": "works"},
    "endSilence": {},
    "createRule": {"idempotencyKey": "k", "name": "new", "document": DOCUMENT},
    "updateRule": {"name": "other"},
    "enableRule": {},
    "disableRule": {},
    "deleteRule": {},
    "createChannel": {"idempotencyKey": "k", "name": "new", "kind": "inbox"},
    "updateChannel": {"name": "other"},
    "deleteChannel": {},
    "testChannel": {"idempotencyKey": "k"},
    "startBacktest": {"idempotencyKey": "k", "since": f"{at(0):%Y-%m-%dT%H:%M:%SZ}", "until": FAR},
    "cancelBacktest": {},
    "createPortfolio": {"idempotencyKey": "k", "name": "new", "baseCurrency": "EUR"},
    "updatePortfolio": {"name": "other"},
    "deletePortfolio": {},
    "recomputePortfolio": {},
    "recordTransactions": {"idempotencyKey": "k", "transactions": [BOUGHT]},
    "correctTransaction": {"transaction": {"notes": "checked"}},
    "deleteTransaction": {},
    "previewImport": {},
    "runImport": {"idempotencyKey": "k"},
    "addListing": {"idempotencyKey": "k", "provider": "coincap", "externalId": "bitcoin", "symbol": "ADA-0"},
}
# Arguments that are assets.
ASSETS = {"createSilence.asset", "previewImport.assets.asset", "runImport.assets.asset"} | {
    f"{mutation}.{name}"
    for mutation in ("recordTransactions.transactions", "correctTransaction.transaction")
    for name in ("asset", "toAsset", "feeAsset")
}


def ids_of(owner):
    """Make something of an owner, and return its id by mutation and argument."""
    alert = make_notified_alerts(owner, 1, name=owner.username)[0]
    silence = create_silence(author=owner, owner=owner, comment="works", starts_at=at(0), ends_at=FAR)
    channel, portfolio = owner.channels.get(), make_portfolio(owner)
    [transaction] = record(portfolio, bought(alert.asset))
    content = in_json(ROW | {"symbol": alert.asset.symbol, "accountId": owner.username})
    file = keep_file(owner=owner, name="file", content=content, now=timezone.now(), is_by_api=True)
    make_owned(owner, "OWN")
    series = Asset.every.get(owner=owner)
    return dict.fromkeys(sorted(ASSETS), series.external_id) | {
        "acknowledgeAlert.id": alert.public_id,
        "createSilence.alert": alert.public_id,
        "createSilence.rule": alert.rule.public_id,
        "endSilence.id": silence.public_id,
        "createRule.channels": channel.public_id,
        "updateRule.channels": channel.public_id,
        "startBacktest.rule": alert.rule.public_id,
        "cancelBacktest.id": make_backtest(owner, alert.rule).pk,
        "updatePortfolio.id": portfolio.public_id,
        "recordTransactions.portfolio": portfolio.public_id,
        "recordTransactions.transactions.toPortfolio": portfolio.public_id,
        "correctTransaction.id": transaction.public_id,
        "correctTransaction.transaction.toPortfolio": portfolio.public_id,
        "deleteTransaction.id": transaction.public_id,
        "previewImport.portfolio": portfolio.public_id,
        "previewImport.accounts.portfolio": portfolio.public_id,
        "previewImport.file": file.public_id,
        "runImport.accounts.portfolio": portfolio.public_id,
        "runImport.portfolio": portfolio.public_id,
        "runImport.file": file.public_id,
        "recomputePortfolio.id": portfolio.public_id,
        "deletePortfolio.id": portfolio.public_id,
        "updateChannel.id": channel.public_id,
        "deleteChannel.id": channel.public_id,
        "testChannel.id": channel.public_id,
        "updateRule.id": alert.rule.public_id,
        "disableRule.id": alert.rule.public_id,
        "enableRule.id": alert.rule.public_id,
        "deleteRule.id": alert.rule.public_id,
    }


@pytest.fixture
def adas(ada):
    return ids_of(ada)


def ids_in(kind, path):
    """Return the paths of all ids within an argument."""
    named = get_named_type(kind)
    if is_input_object_type(named):
        return {one for name, field in named.fields.items() for one in ids_in(field.type, f"{path}.{name}")}
    return {path} if named.name in ("UUID", "AssetId", "FeedId", "NodeId") else set()


def ids_of_schema():
    """Return mutation.argument for each id that a mutation takes."""
    return {
        one
        for name, field in MUTATION.fields.items()
        for argument, definition in field.args.items()
        for one in ids_in(definition.type, f"{name}.{argument}")
    }


def absent_for(path):
    return external_id_of(new_owned_id()) if path in ASSETS else NOBODYS


def called(ask, path, id, *, user, own, **headers):
    """Call the mutation with this id, and with ids of the user's own where others are required; return the answer."""
    name, *keys = path.split(".")
    field = MUTATION.fields[name]
    required = {f"{name}.{one}" for one, argument in field.args.items() if is_required_argument(argument)}
    values = {one.partition(".")[2]: str(own[one]) for one in required & own.keys()} | ARGUMENTS[name]
    username = user.username if user is not None else "nobody"
    place = values
    for key in keys[:-1]:
        # A list of one is written like the one itself.
        place.setdefault(key, {"account": username} if key == "accounts" else {"symbol": f"{username}-0".upper()})
        place[key] = dict(place[key][0] if key == "transactions" else place[key])
        place = place[key]
    place[keys[-1]] = id
    defined = ", ".join(f"${one}: {field.args[one].type}" for one in values)
    given = ", ".join(f"{one}: ${one}" for one in values)
    return ask(f"mutation ({defined}) {{ {name}({given}) {everything(field.type)} }}", values, user=user, **headers)


def all_rows():
    """Return table -> its rows, but for what each request writes."""
    with connection.cursor() as cursor:
        rows = {}
        for table in set(connection.introspection.table_names(cursor)) - {"django_session", "auth_user"}:
            cursor.execute(f'SELECT * FROM "{table}"')
            rows[table] = sorted(map(str, cursor.fetchall()))
    return rows


def test_every_mutation_and_every_id_is_listed(adas):
    assert ARGUMENTS.keys() == MUTATION.fields.keys()
    assert adas.keys() == ids_of_schema()


def test_another_owners_ids_are_answered_as_ids_of_nothing_and_change_nothing(ask, adas):
    eve = make_member("eve")
    own = ids_of(eve)
    before = all_rows()
    for path, id in adas.items():
        theirs, absent = (called(ask, path, one, user=eve, own=own) for one in (str(id), absent_for(path)))
        answer = absent.json()["data"][path.partition(".")[0]]
        assert [one["code"] for one in answer["errors"]] == ["NOT_FOUND"], path
        assert theirs.content == absent.content, path
    assert all_rows() == before


def test_an_owner_reaches_what_is_theirs_by_the_same_calls(ask, ada, adas):
    """Else the test before would pass whatever is asked for."""
    for path, id in adas.items():
        answer = called(ask, path, str(id), user=ada, own=adas).json()["data"][path.partition(".")[0]]
        assert "NOT_FOUND" not in [one["code"] for one in answer["errors"]], path


def refusals_of(ask, owned, **more):
    """Call each mutation with each of its ids, and with that of nothing, and the same of keys; return the statuses and
    codes that came."""
    keys = {f"{name}.idempotencyKey": "k" for name, given in ARGUMENTS.items() if "idempotencyKey" in given}
    found = set()
    for path, id in (owned | keys).items():
        there, absent = (called(ask, path, one, own=owned, **more) for one in (str(id), absent_for(path)))
        assert there.content == absent.content, path
        found.add((there.status_code, *codes(there)))
    assert {path.partition(".")[0] for path in owned | keys} == MUTATION.fields.keys()
    return found


def test_who_lacks_the_permission_a_stranger_and_a_token_that_reads_reach_no_mutation_whatever_the_id(ask, ada, adas):
    _, secret = create_token(owner=ada, name="reads")
    ask("{ me { username } }", Authorization=f"Bearer {secret}")
    before = all_rows()
    assert refusals_of(ask, adas, user=None) == {(401, "UNAUTHENTICATED")}
    assert refusals_of(ask, adas, user=None, Authorization=f"Bearer {secret}") == {(403, "INSUFFICIENT_SCOPE")}
    ada.groups.clear()
    assert refusals_of(ask, adas, user=ada) == {(200, "FORBIDDEN")}
    assert {name: rows for name, rows in all_rows().items() if rows != before[name]}.keys() == {"auth_user_groups"}

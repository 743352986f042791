"""Files of transactions: sent to /imports, previewed and recorded by GraphQL."""

from datetime import timedelta
from uuid import UUID

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.utils import timezone

from apps.api.tokens.services import create_token
from apps.portfolios.importing import keep_file, kept_file, prune_import_files
from apps.portfolios.models import ImportFile, Transaction
from tests.api.asking import codes
from tests.builders import make_member, make_owner
from tests.portfolios.domain.test_ghostfolio import ROW, in_json
from tests.portfolios.rows import bought, make_asset, make_portfolio, record

pytestmark = pytest.mark.django_db

URL = "/imports"
RESULT = """{ result { source leftOutCount leftOut { row message }
    portfolios { portfolio { name } added known withoutCash } } errors { field code message } }"""
GIVEN = "file: $file, portfolio: $portfolio, accounts: $accounts, assets: $assets, splits: $splits"
DEFINED = "$file: UUID!, $portfolio: UUID!, $accounts: [ImportAccount!], $assets: [ImportAsset!], $splits: [String!]"
PREVIEW = f"mutation ({DEFINED}) {{ previewImport({GIVEN}) {RESULT} }}"
RUN = f'mutation ({DEFINED}, $key: String = "k") {{ runImport(idempotencyKey: $key, {GIVEN}) {RESULT} }}'


@pytest.fixture
def savings(ada):
    make_asset()
    return make_portfolio(ada)


@pytest.fixture
def secret(ada):
    return create_token(owner=ada, name="script", scope="write")[1]


def send(content, secret, *, content_type="application/octet-stream", url=URL):
    return Client().post(url, content, content_type=content_type, headers={"Authorization": f"Bearer {secret}"})


def call(ask, mutation, user, file, portfolio, **more):
    variables = {"file": str(file), "portfolio": str(portfolio.public_id)} | more
    [answer] = ask(mutation, variables, user=user).json()["data"].values()
    return answer


def into(portfolio, added, known=0, without_cash=0):
    return {"portfolio": {"name": portfolio.name}, "added": added, "known": known, "withoutCash": without_cash}


def test_a_file_is_kept_for_an_hour_and_what_is_in_it_is_said(savings, secret):
    before = timezone.now()
    answer = send(in_json(ROW, ROW | {"accountId": "a2", "symbol": "XX1"}, {"type": "LIABILITY"}), secret)
    assert answer.status_code == 200, answer.content
    said = answer.json()
    file = ImportFile.objects.get()
    assert said.pop("id") == str(file.public_id)
    assert said.pop("expires_at").endswith("Z")
    assert before <= file.uploaded_at <= timezone.now()
    assert said["accounts"] == ["Broker", "a2"]
    assert (said["source"], said["rows"], said["symbols"]) == ("Ghostfolio", 2, ["ACME", "XX1"])
    assert not Transaction.objects.exists()


def test_a_preview_records_nothing_and_says_what_the_run_records_then(ask, ada, savings, secret):
    file = send(in_json(ROW, ROW), secret).json()["id"]
    preview = call(ask, PREVIEW, ada, file, savings)
    assert not Transaction.objects.exists()
    assert call(ask, PREVIEW, ada, file, savings) == preview
    run = call(ask, RUN, ada, file, savings)
    assert preview == run
    assert run["errors"] == []
    assert run["result"] == {
        "source": "Ghostfolio",
        "leftOutCount": 0,
        "leftOut": [],
        "portfolios": [into(savings, 2)],
    }
    assert Transaction.objects.filter(portfolio=savings).count() == 2
    assert not ImportFile.objects.exists()


def test_a_repeat_under_the_key_gets_the_same_answer_and_records_nothing_more(ask, ada, savings, secret):
    file = send(in_json(ROW), secret).json()["id"]
    first = call(ask, RUN, ada, file, savings)
    assert call(ask, RUN, ada, file, savings) == first
    assert Transaction.objects.count() == 1
    gone = call(ask, RUN, ada, file, savings, key="other")
    assert gone["errors"][0] | {"message": ""} == {"field": "file", "code": "NOT_FOUND", "message": ""}
    other = call(ask, RUN, ada, UUID(int=0), savings)
    assert [one["code"] for one in other["errors"]] == ["IDEMPOTENCY_KEY_REUSED"]


def test_accounts_go_to_portfolios_and_symbols_to_assets(ask, ada, savings, secret):
    other, bolt = make_portfolio(ada, "Other"), make_asset("BOLT")
    rows = in_json(ROW, ROW | {"accountId": "a2", "symbol": "XX1"}, ROW | {"accountId": "a3"})
    file = send(rows, secret).json()["id"]
    accounts = [{"account": "a2", "portfolio": str(other.public_id)}, {"account": "a3", "portfolio": None}]
    answer = call(ask, RUN, ada, file, savings, accounts=accounts, assets=[{"symbol": "XX1", "asset": "BOLT"}])
    assert answer["errors"] == []
    assert answer["result"]["portfolios"] == [into(savings, 1), into(other, 1)]
    assert answer["result"]["leftOutCount"] == 1
    assert set(Transaction.objects.values_list("portfolio", "asset__symbol")) == {
        (savings.pk, "ACME"),
        (other.pk, bolt.symbol),
    }


def test_a_split_is_recorded_once_it_is_confirmed(ask, ada, savings, secret):
    record(savings, bought(make_asset("PETR4"), quantity="100"))
    header = "Entrada/Saída,Data,Movimentação,Produto,Instituição,Quantidade,Preço unitário,Valor da Operação"
    split = "Credito,02/05/2024,Desdobro,PETR4 - Petrobras,XP,100,-,-"
    file = send(f"{header}\n{split}".encode(), secret).json()
    assert (file["rows"], file["accounts"], file["symbols"]) == (0, ["XP"], ["PETR4"])
    answer = call(ask, PREVIEW, ada, file["id"], savings)["result"]
    [left_out] = answer["leftOut"]
    assert (answer["leftOutCount"], left_out["row"], "(1:2:1)" in left_out["message"]) == (1, 1, True)
    answer = call(ask, RUN, ada, file["id"], savings, splits=["1:2:1"])["result"]
    assert (answer["leftOutCount"], answer["portfolios"]) == (0, [into(savings, 1)])
    assert Transaction.objects.get(event="split").numerator == 2


def test_wrong_rows_are_faults_with_their_places_and_nothing_is_recorded(ask, ada, savings, secret):
    file = send(in_json(ROW, ROW | {"type": "SELL", "quantity": 9}, ROW | {"symbol": "NONE"}), secret).json()["id"]
    for mutation in (PREVIEW, RUN):
        answer = call(ask, mutation, ada, file, savings)
        assert answer["result"] is None
        assert [(one["field"], one["code"]) for one in answer["errors"]] == [("file.rows[3]", "INVALID")]
    answer = call(ask, RUN, ada, file, savings, assets=[{"symbol": "NONE", "asset": "ACME"}])
    assert [one["field"] for one in answer["errors"]] == ["file.rows[2]"]
    assert not Transaction.objects.exists()
    assert ImportFile.objects.exists()


@pytest.mark.parametrize(
    ("more", "field", "code"),
    [
        ({"accounts": [{"account": "none", "portfolio": None}]}, "accounts[0].account", "INVALID"),
        ({"accounts": [{"account": "Broker", "portfolio": str(UUID(int=0))}]}, "accounts[0].portfolio", "NOT_FOUND"),
        ({"assets": [{"symbol": "NONE", "asset": "ACME"}]}, "assets[0].symbol", "INVALID"),
        ({"assets": [{"symbol": "ACME", "asset": "NONE"}]}, "assets[0].asset", "NOT_FOUND"),
    ],
)
def test_what_is_mapped_wrongly_is_said(ask, ada, savings, secret, more, field, code):
    file = send(in_json(ROW), secret).json()["id"]
    [error] = call(ask, RUN, ada, file, savings, **more)["errors"]
    assert (error["field"], error["code"]) == (field, code)
    assert not Transaction.objects.exists()


def test_a_file_is_its_owners_alone(ask, ada, savings, secret):
    file = send(in_json(ROW), secret).json()["id"]
    eve = make_member("eve")
    theirs = call(ask, PREVIEW, eve, file, make_portfolio(eve))
    absent = call(ask, PREVIEW, eve, UUID(int=0), make_portfolio(eve, "Other"))
    assert theirs == absent
    assert [one["code"] for one in absent["errors"]] == ["NOT_FOUND"]


def test_a_file_is_forgotten_after_an_hour_and_replaced_by_the_next(ask, ada, savings, secret):
    first, second = (send(in_json(ROW), secret).json()["id"] for _ in range(2))
    assert [one["code"] for one in call(ask, PREVIEW, ada, first, savings)["errors"]] == ["NOT_FOUND"]
    assert call(ask, PREVIEW, ada, second, savings)["errors"] == []
    ImportFile.objects.update(uploaded_at=timezone.now() - timedelta(minutes=61))
    assert [one["code"] for one in call(ask, PREVIEW, ada, second, savings)["errors"]] == ["NOT_FOUND"]
    assert prune_import_files(now=timezone.now()) == 1


def test_a_file_of_the_page_waits_beside_one_of_the_api(ask, ada, savings, secret):
    page = keep_file(owner=ada, name="page", content=in_json(ROW), now=timezone.now())
    file = send(in_json(ROW), secret).json()["id"]
    assert [one["code"] for one in call(ask, PREVIEW, ada, page.public_id, savings)["errors"]] == ["NOT_FOUND"]
    call(ask, RUN, ada, file, savings)
    assert kept_file(ada) == page


@pytest.mark.parametrize(
    ("content", "status", "code", "said"),
    [
        (b"{", 400, "BAD_USER_INPUT", "The file is no valid JSON."),
        (b" " * 5_000_001, 413, "LIMIT_EXCEEDED", "The body is larger than 5000000 bytes."),
        (in_json(*[ROW | {"accountId": f"a{n}"} for n in range(101)]), 400, "BAD_USER_INPUT", "more than 100 accounts"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused(savings, secret, content, status, code, said):
    answer = send(content, secret)
    assert (answer.status_code, codes(answer)) == (status, [code])
    assert said in answer.json()["errors"][0]["message"]
    assert not ImportFile.objects.exists()


def test_only_those_who_may_send_files(client, ada, savings, secret):
    reading = create_token(owner=ada, name="reads", scope="read")[1]
    elsewhere = create_token(owner=make_owner("olga"), name="script", scope="write")[1]
    own = Client(enforce_csrf_checks=True)
    own.force_login(ada)
    kind = {"content_type": "text/csv"}
    assert codes(client.post(URL, in_json(ROW), **kind)) == ["UNAUTHENTICATED"]
    assert codes(send(in_json(ROW), reading)) == ["INSUFFICIENT_SCOPE"]
    assert codes(send(in_json(ROW), elsewhere)) == ["FORBIDDEN"]
    assert codes(own.post(URL, in_json(ROW), **kind)) == ["CSRF_FAILED"]
    assert not ImportFile.objects.exists()
    own.cookies["csrftoken"] = token = "a" * 32
    assert own.post(URL, in_json(ROW), **kind, headers={"X-CSRFToken": token}).status_code == 200


def test_another_form_is_refused(savings, secret):
    assert codes(send(b"x", secret, content_type="multipart/form-data; boundary=x")) == ["UNSUPPORTED_MEDIA_TYPE"]
    assert codes(send(b"x", secret, url=f"{URL}?name=x")) == ["BAD_REQUEST"]
    assert codes(Client().get(URL)) == ["METHOD_NOT_ALLOWED"]


def test_previewing_needs_the_permission_of_the_page(ask, savings):
    olga = make_owner("olga")
    assert not olga.has_perm("portfolios.add_transaction")
    assert Permission.objects.filter(codename="add_transaction").exists()
    variables = {"file": str(UUID(int=0)), "portfolio": str(savings.public_id)}
    assert codes(ask(PREVIEW, variables, user=olga)) == ["FORBIDDEN"]


def test_a_client_says_what_a_file_does_not(ask, ada, savings, secret):
    file = send(b"date,symbol,price,quantity\n10/03/2023,ACME,5,2\n11/03/2023,ACME,x,2\n", secret).json()["id"]
    mutation = PREVIEW.replace("mutation (", "mutation ($reading: ImportReading, ").replace(
        "file: $file", "reading: $reading, file: $file"
    )
    assert [one["field"] for one in call(ask, mutation, ada, file, savings)["errors"]] == [
        "file.rows[1]",
        "file.rows[2]",
    ]
    reading = {"currency": "USD", "kind": "BUY", "dateOrder": "DAY_FIRST", "leaveOut": [2]}
    result = call(ask, mutation, ada, file, savings, reading=reading)["result"]
    assert (result["leftOutCount"], result["leftOut"][0]["row"], result["portfolios"]) == (1, 2, [into(savings, 1)])

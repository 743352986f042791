"""The file of everything that one person owns: what is in it, what is not, and reading it again."""

import csv
import io
import json
import re
import tracemalloc
import zipfile
from collections import Counter

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse
from django.utils import timezone

from apps.alerts.models import Alert, AlertEvent
from apps.market.derived.series import read_written
from apps.market.services import create_manual_asset
from apps.notify.models import Message
from apps.notify.services import create_channel
from apps.ownership.export import export_of
from apps.portfolios.domain.files import read_activities
from apps.portfolios.importing import import_activities
from apps.portfolios.queries import rows_for_export
from apps.rules.queries import newest_versions, rules_of
from apps.setup.loading import load_setup, read_setup
from apps.site.manual_forms import PriceFileForm
from tests.builders import TRACE, make_owner
from tests.ownership.world import SECRET, make_person
from tests.portfolios.rows import make_portfolio
from tests.totp import TOTP_SECRET

pytestmark = pytest.mark.django_db


@pytest.fixture
def ada():
    return make_person("ada")


def files_of(content):
    """Return name -> text of each file of a ZIP."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert archive.testzip() is None
        return {name: archive.read(name).decode() for name in archive.namelist()}


def export(person):
    return files_of(b"".join(export_of(person, now=timezone.now())))


def rows(text):
    return list(csv.DictReader(io.StringIO(text)))


def test_the_file_has_all_that_is_owned_and_no_secret(client, ada):
    make_person("bob")
    ada.is_superuser = True
    ada.save()
    client.force_login(ada)
    answer = client.get(reverse("account_download"))
    files = files_of(answer.getvalue())

    assert re.fullmatch(r'attachment; filename="fintech-\d{4}-\d\d-\d\d\.zip"', answer["Content-Disposition"])
    assert set(files) == {
        *("account.json", "rules.yaml", "alerts.csv", "alert-events.csv", "channels.json", "silences.json"),
        *("inbox.csv", "tokens.json", "series.json", "manual-assets/1-HOUSE-ADA.csv", "portfolios.json"),
        *("portfolios/1-S-vings-1.csv", "portfolios/2-Other.csv"),
    }
    everything = "".join(files.values())
    assert SECRET not in everything
    assert SECRET.removeprefix("whsec_") not in everything
    assert "md5$" not in everything
    assert TOTP_SECRET not in everything
    account = json.loads(files["account.json"])
    assert account["second_factor"].keys() == {"since", "last_used_at", "recovery_codes_left"}
    assert [(one["provider"], one["uid"]) for one in account["single_sign_on"]] == [
        ("https://id.example.org", "ada-at-provider")
    ]
    token = ada.api_tokens.get()
    assert token.digest not in everything
    # A superuser sees what others own, and does not own it.
    assert "bob" not in everything.lower()
    assert json.loads(files["account.json"])["email"] == "ada@example.org"
    assert json.loads(files["account.json"])["watched_assets"] == ["ADA-0"]
    [alert] = rows(files["alerts.csv"])
    stored = Alert.objects.get(owner=ada)
    assert (alert["id"], alert["rule"], alert["state"]) == (str(stored.public_id), "rule of ADA-0", "open")
    assert json.loads(alert["evidence"]) == stored.evidence
    assert len(rows(files["alert-events.csv"])) == AlertEvent.objects.filter(alert__owner=ada).count()
    assert {one["name"]: one["kind"] for one in json.loads(files["channels.json"])} == {
        "Inbox of ada": "inbox",
        "=Hook": "webhook",
    }
    assert [(one["comment"], one["alert"], one["ends_at"] is None) for one in json.loads(files["silences.json"])] == [
        ("of ada", None, False),
        ("alert of ada", str(stored.public_id), True),
    ]
    delivered = Message.objects.filter(channel__owner=ada, channel__kind="inbox")
    assert [one["subject"] for one in rows(files["inbox.csv"])] == [one.subject for one in delivered]
    assert [one["name"] for one in json.loads(files["tokens.json"])] == ["laptop of ada"]
    assert {one["symbol"]: one["kind"] for one in json.loads(files["series.json"])} == {
        "HOUSE-ADA": "manual",
        "TWICE-ADA": "basket",
        "VALUE-ADA": "portfolio_value",
    }


def test_what_was_exported_is_read_again_as_the_same(tmp_path, ada):
    files = export(ada)
    eve = make_owner("eve")
    for channel in ("Inbox of ada", "=Hook"):
        create_channel(owner=eve, name=channel, kind="inbox", config={})
    house = create_manual_asset(owner_id=eve.pk, symbol="HOUSE-ADA", currency="EUR")
    (tmp_path / "rules.yaml").write_text(files["rules.yaml"], encoding="utf-8")
    setup = read_setup(tmp_path / "rules.yaml")
    series = next(one for one in json.loads(files["series.json"]) if one["symbol"] == "TWICE-ADA")
    written = {name: series[name] for name in ("kind", "legs")}
    assert read_written(written).document() == written
    load_setup({"series": [written | {"symbol": "TWICE-ADA"}]}, owner=eve, now=timezone.now(), trace_id=TRACE)
    load_setup(setup, owner=eve, now=timezone.now(), trace_id=TRACE)
    assert meanings(eve) == meanings(ada)

    copy = {"Sávings/1": make_portfolio(eve, "Sávings/1", tracks_cash=True), "Other": make_portfolio(eve, "Other")}
    read = read_activities(files["portfolios/1-S-vings-1.csv"].encode())
    assert (read.errors, read.left_out) == ([], [])
    assert import_activities(portfolio=copy["Sávings/1"], read=read, now=timezone.now())[0].added == 4
    again = ["\r\n".join(map(",".join, rows_for_export(copy["Sávings/1"])))]
    assert Counter(again[0].splitlines()) == Counter(files["portfolios/1-S-vings-1.csv"].splitlines())

    upload = SimpleUploadedFile("prices.csv", files["manual-assets/1-HOUSE-ADA.csv"].encode())
    form = PriceFileForm({}, {"file": upload}, symbol=house.symbol)
    assert form.is_valid(), form.errors
    assert [str(one.price.normalize()) for one in form.quotes(house.symbol)] == ["1E+3", "1100.5"]


def meanings(owner):
    """Return name -> what a rule says, how severe it is, and whom it notifies."""
    found = {}
    versions = newest_versions(rules_of(owner).values_list("pk", flat=True))
    for rule in rules_of(owner):
        channels = set(rule.rule_channels.values_list("channel__name", flat=True))
        found[rule.name] = (versions[rule.pk].document, rule.severity, channels)
    return found


def test_who_owns_nothing_gets_a_file_that_says_so(tmp_path):
    files = export(make_owner("eve"))
    (tmp_path / "rules.yaml").write_text(files["rules.yaml"], encoding="utf-8")
    assert read_setup(tmp_path / "rules.yaml") == {"rules": []}
    assert [json.loads(files[name]) for name in files if name.endswith(".json") and name != "account.json"] == [[]] * 5
    assert [rows(files[name]) for name in files if name.endswith(".csv")] == [[]] * 3


def test_a_text_is_no_formula_in_a_spreadsheet(ada):
    Message.objects.filter(channel__kind="inbox").update(subject="=cmd()", text="+1")
    [message] = rows(export(ada)["inbox.csv"])
    assert (message["subject"], message["text"]) == ("'=cmd()", "'+1")


def test_a_large_inbox_is_never_in_memory_as_a_whole(ada):
    inbox = ada.channels.get(kind="inbox")
    now = timezone.now()
    text = "".join(chr(33 + number * 7919 % 90) for number in range(4_000))
    given = {"channel": inbox, "status": "delivered", "delivered_at": now, "next_attempt_at": now, "subject": "large"}
    Message.objects.bulk_create([Message(text=f"{number}{text}", **given) for number in range(4_000)], batch_size=500)
    tracemalloc.start()
    try:
        size = sum(map(len, export_of(ada, now=now)))
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size > 0
    # 16 MB of texts.
    assert most < 8_000_000


def test_a_stranger_signs_in_first(client):
    answer = client.get(reverse("account_download"))
    assert (answer.status_code, answer["Location"]) == (302, "/accounts/login/?next=/accounts/download/")


def test_the_page_of_the_profile_leads_there(client, ada):
    client.force_login(ada)
    assert f'href="{reverse("account_download")}"' in client.get(reverse("profile")).text

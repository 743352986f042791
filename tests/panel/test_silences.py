"""The owners' pages: silences, and the buttons that lead to them."""

import re
from datetime import datetime, timedelta

import pytest
from django.contrib.auth.models import Group
from django.urls import reverse
from django.utils import timezone

from apps.alerts.models import Alert
from apps.market.models import Asset
from apps.notify.models import Notification, Silence
from apps.notify.services import create_silence
from apps.rules.models import Rule
from tests.builders import START, make_notified_alerts, make_operator, make_owner

LIST, ADD = reverse("admin:notify_silence_changelist"), reverse("admin:notify_silence_add")

pytestmark = pytest.mark.django_db


def member(name):
    owner = make_operator(name)
    owner.groups.add(Group.objects.get(name="Owner"))
    return owner


@pytest.fixture
def ada():
    return member("ada")


@pytest.fixture
def as_ada(client, ada):
    """Ada's browser."""
    client.force_login(ada)
    return client


def page_of(silence, page="change"):
    return reverse(f"admin:notify_silence_{page}", args=[silence.pk])


def silence_of(owner, *, begins=-1, ends=1, **match):
    """Return a silence of the owner's that begins and ends so many hours from now."""
    now = timezone.now()
    return create_silence(
        author=owner,
        starts_at=now + timedelta(hours=begins),
        ends_at=now + timedelta(hours=ends),
        **{"comment": "works", "owner": owner, **match},
    )


def written(*, lasts="2", starts_at=None, ends_at=None, **fields):
    """Return what the form of a new silence posts."""
    starts_at = starts_at or timezone.now()
    data = {"comment": "works", "rule": "", "asset": "", "severity": "", "lasts": lasts, **fields}
    for name, at in (("starts_at", starts_at), ("ends_at", ends_at)):
        data |= {f"{name}_0": f"{at:%Y-%m-%d}" if at else "", f"{name}_1": f"{at:%H:%M:%S}" if at else ""}
    return data


def errors_of(answer):
    return {name: list(errors) for name, errors in answer.context["adminform"].form.errors.items()}


def tables(answer):
    return [table.rows for table in answer.context["tables"]]


def test_a_silence_is_the_writers_own_and_lasts_as_long_as_was_chosen(as_ada, ada):
    (alert,) = make_notified_alerts(ada, 1)
    eve = make_owner("eve")
    as_ada.post(ADD, written(lasts="8", starts_at=START, rule=alert.rule_id, asset=alert.asset_id, owner=eve.pk))
    as_ada.post(ADD, written(lasts="8", rule=alert.rule_id, asset=alert.asset_id, owner=eve.pk))
    silence = Silence.objects.get()
    assert (silence.owner, silence.author, silence.comment) == (ada, ada, "works")
    assert (silence.rule, silence.asset) == (alert.rule, alert.asset)
    assert silence.ends_at - silence.starts_at == timedelta(hours=8)


def test_a_silence_may_last_until_a_time(as_ada):
    until = timezone.now().replace(microsecond=0) + timedelta(days=3)
    as_ada.post(ADD, written(lasts="", ends_at=until))
    assert Silence.objects.get().ends_at == until


def test_the_form_begins_with_two_hours_from_now(as_ada):
    before = timezone.now().replace(microsecond=0)
    initial = as_ada.get(ADD).context["adminform"].form.initial
    assert before <= initial["starts_at"] <= timezone.now()
    assert initial["ends_at"] - initial["starts_at"] == timedelta(hours=2)
    assert 'value="2" selected' in as_ada.get(ADD).text


@pytest.mark.parametrize(
    ("field", "wrong", "text"),
    [
        ("comment", {"comment": ""}, "This field is required."),
        ("ends_at", {"lasts": ""}, "Say how long it lasts, or until when."),
        ("ends_at", {"lasts": "", "ends_at": START}, "The end must come after the beginning."),
        ("lasts", {"starts_at": START}, "The end must lie ahead."),
        ("lasts", {"lasts": "3"}, "Select a valid choice."),
        ("starts_at", {"starts_at": datetime.max}, "It lies too far ahead."),
        ("severity", {"severity": "grave"}, "Select a valid choice."),
        ("comment", {"comment": "a\0b"}, "Null characters"),
    ],
)
def test_a_silence_that_is_wrong_is_refused_beside_its_field(as_ada, field, wrong, text):
    errors = errors_of(as_ada.post(ADD, written(**wrong)))
    assert list(errors) == [field]
    assert errors[field][0].startswith(text)
    assert not Silence.objects.exists()


def test_nobody_silences_by_the_rules_of_others_nor_assets_without_a_feed(as_ada):
    (theirs,) = make_notified_alerts(make_owner("eve"), 1)
    lost = Asset.objects.create(symbol="LOST-USD")
    errors = errors_of(as_ada.post(ADD, written(rule=theirs.rule_id, asset=lost.pk)))
    assert sorted(errors) == ["asset", "rule"]
    prefilled = as_ada.get(ADD, {"rule": theirs.rule_id})
    assert "rule of NOTIFIED-0" not in prefilled.text


@pytest.mark.parametrize("value", ["x", "\0", "{", "1e400", "²", "9" * 30])
def test_what_is_no_rows_number_is_refused_beside_its_field(as_ada, value):
    refused = as_ada.post(ADD, written(rule=value, asset=value))
    assert sorted(errors_of(refused)) == ["asset", "rule"]
    assert not Silence.objects.exists()


@pytest.mark.parametrize("value", ["x", "{", "1e400", "²", "9" * 30])
def test_what_is_no_rows_number_fills_nothing_in(as_ada, value):
    assert as_ada.get(ADD, {"rule": value, "asset": value}).status_code == 200


def test_a_superuser_silences_for_anybody_and_everybody_but_not_what_never_matches(admin_client, admin_user):
    (alert,) = make_notified_alerts(make_owner("eve"), 1)
    admin_client.post(ADD, written(owner=""))
    admin_client.post(ADD, written(owner=alert.rule.owner_id, rule=alert.rule_id))
    assert set(Silence.objects.values_list("owner__username", "author__username")) == {
        (None, "admin"),
        ("eve", "admin"),
    }
    assert list(errors_of(admin_client.post(ADD, written(owner=admin_user.pk, rule=alert.rule_id)))) == ["rule"]


def test_of_a_silence_that_is_there_only_end_and_comment_change(as_ada, ada):
    silence = silence_of(ada)
    until = (silence.ends_at + timedelta(hours=4)).replace(microsecond=0)
    as_ada.post(page_of(silence), written(comment="longer works", severity="info", starts_at=START, ends_at=until))
    found = Silence.objects.get()
    assert (found.comment, found.ends_at, found.severity, found.starts_at) == (
        *("longer works", until, ""),
        silence.starts_at,
    )


def test_another_end_has_what_is_deferred_planned_again(as_ada, ada):
    make_notified_alerts(ada, 1)
    silence = silence_of(ada)
    Notification.objects.update(message=None, deferred_by="silence", silence=silence, due_at=silence.ends_at)
    same = {"ends_at": silence.ends_at.replace(microsecond=0)}
    Silence.objects.update(**same)
    as_ada.post(page_of(silence), written(comment="other words", **same))
    assert Notification.objects.get().due_at == silence.ends_at
    as_ada.post(page_of(silence), written(ends_at=silence.ends_at + timedelta(hours=1)))
    assert Notification.objects.get().due_at <= timezone.now()


def _end(client, *silences, **data):
    asked = {"action": "end_now", "_selected_action": [one.pk for one in silences], "index": "0", **data}
    return client.post(LIST, asked, follow=True)


def test_a_silence_is_ended_by_a_button_and_is_then_read_only(as_ada, ada):
    silence = silence_of(ada)
    assert 'value="end_now"' in as_ada.get(page_of(silence)).text
    done = _end(as_ada, silence, back="page")
    assert (done.request["PATH_INFO"], "1 silence is over." in done.text) == (page_of(silence), True)
    silence.refresh_from_db()
    assert silence.ends_at <= timezone.now()
    assert 'value="end_now"' not in done.text
    assert as_ada.post(page_of(silence), written(ends_at=timezone.now() + timedelta(hours=1))).status_code == 403
    assert "Nothing is ended" in _end(as_ada, silence).text


def test_everybodys_silences_are_seen_by_all_and_ended_by_superusers(as_ada, admin_client, ada):
    everybodys = silence_of(None, comment="night of works")
    assert "night of works" in as_ada.get(LIST).text
    assert 'value="end_now"' not in as_ada.get(page_of(everybodys)).text
    assert "Nothing is ended" in _end(as_ada, everybodys).text
    assert as_ada.post(page_of(everybodys), written()).status_code == 403
    assert as_ada.post(page_of(everybodys, "delete"), {"post": "yes"}).status_code == 403
    everybodys.refresh_from_db()
    assert everybodys.ends_at > timezone.now()
    assert "1 silence is over." in _end(admin_client, everybodys).text


def test_nobody_sees_or_ends_the_silences_of_others(as_ada):
    theirs = silence_of(make_owner("eve"), comment="of eve")
    assert "of eve" not in as_ada.get(LIST).text
    assert as_ada.get(page_of(theirs)).status_code == 302
    _end(as_ada, theirs, select_across="1")
    theirs.refresh_from_db()
    assert theirs.ends_at > timezone.now()


def test_a_silence_lists_what_it_deferred_to_each_reader_their_own(as_ada, admin_client, ada):
    (mine,) = make_notified_alerts(ada, 1, name="mine")
    (theirs,) = make_notified_alerts(make_owner("eve"), 1, name="theirs")
    everybodys = silence_of(None)
    Notification.objects.update(deferred_by="silence", silence=everybodys, due_at=everybodys.ends_at)
    Notification.objects.filter(event__alert=theirs).update(message=None)
    ((my_row,),) = tables(as_ada.get(page_of(everybodys)))
    assert (mine.summary in my_row[0], "delivered at" in my_row[4]) == (True, True)
    assert "THEIRS-0" not in as_ada.get(page_of(everybodys)).text
    ((their_row, _),) = tables(admin_client.get(page_of(everybodys)))
    assert their_row[4].startswith("not yet: waits for the end of the silence “works”")
    counts = [client.get(LIST).context["cl"].result_list[0].deferred_of_reader for client in (as_ada, admin_client)]
    assert counts == [1, 2]


def test_a_silence_that_deferred_something_is_not_deleted_and_one_that_did_not_is(as_ada, ada):
    used, unused = silence_of(ada), silence_of(ada)
    make_notified_alerts(ada, 1)
    Notification.objects.update(silence=used)
    assert as_ada.post(page_of(used, "delete"), {"post": "yes"}).status_code == 403
    assert as_ada.post(page_of(unused, "delete"), {"post": "yes"}).status_code == 302
    assert list(Silence.objects.all()) == [used]


def test_silences_are_filtered_by_their_state(as_ada, ada):
    silence_of(ada, comment="now")
    silence_of(ada, comment="soon", begins=1, ends=2)
    silence_of(ada, comment="past", begins=-2, ends=-1)

    def listed(state):
        return [one.comment for one in as_ada.get(LIST, {"state": state}).context["cl"].result_list]

    assert [listed(state) for state in ("in force", "to come", "over")] == [["now"], ["soon"], ["past"]]


def test_the_button_of_an_alert_and_of_a_rule_fills_the_form_in(as_ada, ada):
    (alert,) = make_notified_alerts(ada, 1)
    for row in (alert, alert.rule):
        address = reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_changelist")
        page = reverse(f"admin:{row._meta.app_label}_{row._meta.model_name}_change", args=[row.pk])
        assert 'value="silence"' in as_ada.get(page).text
        opened = as_ada.post(address, {"action": "silence", "_selected_action": [row.pk], "index": "0"}, follow=True)
        assert opened.request["PATH_INFO"] == ADD
        assert f'<option value="{alert.rule_id}" selected' in opened.text
        assert ("selected>NOTIFIED-0</option>" in opened.text) == (row == alert)


def test_who_may_not_silence_has_no_button_for_it(client):
    grace = make_operator("grace", "alerts.view_alert", "rules.view_rule")
    (alert,) = make_notified_alerts(grace, 1)
    client.force_login(grace)
    assert 'value="silence"' not in client.get(reverse("admin:alerts_alert_change", args=[alert.pk])).text
    assert 'value="silence"' not in client.get(reverse("admin:rules_rule_change", args=[alert.rule_id])).text


def test_the_first_page_says_which_silences_are_in_force(as_ada, ada):
    silence_of(ada, comment="<b>works")
    silence_of(ada, comment="past", begins=-2, ends=-1)
    text = as_ada.get("/admin/").text
    assert ("&lt;b&gt;works</a>." in text, "Silenced until" in text, "past</a>." in text) == (True, True, False)


def test_a_silence_of_an_alert_is_listed_and_only_its_comment_changes(as_ada, ada):
    [alert] = make_notified_alerts(ada, 1)
    silence = create_silence(author=ada, owner=ada, alert=alert, starts_at=timezone.now(), comment="known")

    listed = as_ada.get(reverse("admin:notify_silence_changelist")).text
    page = as_ada.get(page_of(silence)).text
    as_ada.post(page_of(silence), {"comment": "still known", "ends_at_0": "2020-01-01", "ends_at_1": "00:00"})

    assert "when the alert is over" in listed
    assert f"one alert of {alert.rule_name} on {alert.symbol}" in listed
    assert reverse("admin:alerts_alert_change", args=[alert.pk]) in page
    assert re.search(r">\s*in force\s*<", listed)
    silence.refresh_from_db()
    assert (silence.comment, silence.ends_at) == ("still known", None)
    assert "until the alert is over" in as_ada.get(reverse("admin:index")).text

    Alert.objects.update(resolved_at=alert.opened_at)
    assert "with the alert" in as_ada.get(page_of(silence)).text
    assert 'name="comment"' not in as_ada.get(page_of(silence)).text


def test_a_rule_is_never_offered_that_is_not_the_readers(as_ada):
    make_notified_alerts(make_owner("eve"), 1)
    assert Rule.objects.count() == 1
    query = {"app_label": "notify", "model_name": "silence", "field_name": "rule", "term": "ITEM"}
    assert as_ada.get("/admin/autocomplete/", query).json()["results"] == []

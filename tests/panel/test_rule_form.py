"""The form of a rule: every kind through it, what is wrong on its field, and whose it is."""

import pytest
from django.urls import reverse

from apps.market.models import Asset, FeedEntry
from apps.notify.models import Channel
from apps.notify.services import create_channel, set_channels
from apps.panel.rule_templates import TEMPLATES
from apps.pipeline.flow import evaluate_pending
from apps.rules.engine.conditions import KINDS as CONDITIONS
from apps.rules.models import Rule, RuleVersion
from tests.builders import above, append_quotes, at, make_feed, make_operator, make_owner, make_rule
from tests.panel.forms import OWNER_MAY, written

LIST, ADD, PREVIEW = "admin:rules_rule_changelist", "admin:rules_rule_add", "admin:rules_rule_preview"

KINDS = [
    ({"kind": "above", "level": "100", "recovery": "99"}, {"kind": "above", "level": "100", "recovery": "99"}),
    ({"kind": "below", "level": "0.99"}, {"kind": "below", "level": "0.99"}),
    ({"kind": "crosses_up", "level": "100"}, {"kind": "crosses_up", "level": "100"}),
    ({"kind": "crosses_down", "level": "100"}, {"kind": "crosses_down", "level": "100"}),
    ({"kind": "crosses", "level": "100"}, {"kind": "crosses", "level": "100"}),
    ({"kind": "inside", "low": "1", "high": "2"}, {"kind": "inside", "low": "1", "high": "2"}),
    ({"kind": "outside", "low": "1", "high": "2"}, {"kind": "outside", "low": "1", "high": "2"}),
    ({"kind": "enters", "low": "1", "high": "2"}, {"kind": "enters", "low": "1", "high": "2"}),
    ({"kind": "exits", "low": "1", "high": "2"}, {"kind": "exits", "low": "1", "high": "2"}),
    (
        {"kind": "rises", "percent": "10", "window": "5m", "ref": "window_extreme", "recovery": "5"},
        {"kind": "rises", "percent": "10", "window": "5m", "ref": "window_extreme", "recovery": "5"},
    ),
    (
        {"kind": "falls", "percent": "3", "window": "1h", "ref": "window_start"},
        {"kind": "falls", "percent": "3", "window": "1h", "ref": "window_start"},
    ),
    (
        {"kind": "above_average", "percent": "1", "window": "24h", "min_coverage": "0.8"},
        {"kind": "above_average", "percent": "1", "window": "1d", "min_coverage": "0.8"},
    ),
    ({"kind": "unchanged", "after": "60m"}, {"kind": "unchanged", "after": "1h"}),
    (
        {"kind": "below_average", "by": "0.5", "window": "24h", "recovery": "0.25"},
        {"kind": "below_average", "by": "0.5", "window": "1d", "min_coverage": "0.5", "recovery": "0.25"},
    ),
    (
        {"kind": "below_average", "percent": "0", "window": "30d"},
        {"kind": "below_average", "percent": "0", "window": "30d", "min_coverage": "0.5"},
    ),
    (
        {"kind": "zscore", "n": "3", "window": "1h"},
        {"kind": "zscore", "n": "3", "window": "1h", "min_coverage": "0.5"},
    ),
    ({"kind": "stale", "after": "5m"}, {"kind": "stale", "after": "5m"}),
    (
        {"kind": "combined", "written": "any:\n  - {kind: above, level: 100.5}\n  - not: {kind: stale, after: 5m}"},
        {"any": [{"kind": "above", "level": "100.5"}, {"not": {"kind": "stale", "after": "5m"}}]},
    ),
    (
        {"kind": "combined", "written": '{"not": {"kind": "below", "level": "7"}}'},
        {"not": {"kind": "below", "level": "7"}},
    ),
]  # fmt: skip


@pytest.fixture
def feed(db):
    return make_feed("BTC-USD", "ETH-USD", name="spot")


@pytest.fixture
def ada(client, feed):
    """An owner, signed in."""
    owner = make_operator("ada", *OWNER_MAY)
    client.force_login(owner)
    return owner


def errors_of(client, **fields):
    """Return field -> errors of a form that was refused."""
    answer = client.post(reverse(ADD), written(**fields))
    assert answer.status_code == 200
    return dict(answer.context["adminform"].form.errors)


def page_of(rule):
    return reverse("admin:rules_rule_change", args=[rule.pk])


@pytest.mark.parametrize(("fields", "condition"), KINDS)
def test_every_kind_is_saved_and_shown_again_as_it_was_written(client, ada, fields, condition):
    answer = client.post(reverse(ADD), written(**fields))
    assert answer.status_code == 302
    rule = Rule.objects.get(owner=ada)
    assert rule.versions.get().document["condition"] == condition
    shown = client.get(page_of(rule)).context["adminform"].form.initial
    again = {name: value for name, value in shown.items() if isinstance(value, str)} | {"enabled": "on"}
    assert client.post(page_of(rule), written(**again)).status_code == 302
    assert rule.versions.count() == 1


def test_a_rule_enters_the_log_of_its_feed_and_is_evaluated(client, ada, feed):
    client.post(reverse(ADD), written(cooldown="30m", pending="0s"))
    append_quotes(feed, [("BTC-USD", at(1), "101")])
    evaluate_pending(feed_id=feed.pk)
    rule = Rule.objects.get()
    assert [entry.kind for entry in FeedEntry.objects.order_by("pk")] == [FeedEntry.Kind.RULES, FeedEntry.Kind.QUOTES]
    assert [(state.asset.symbol, state.state) for state in rule.states.all()] == [("BTC-USD", "firing")]


def test_what_stands_beside_the_condition_is_saved(client, ada):
    client.post(
        reverse(ADD),
        written(
            watch="tag", tag="stablecoin", pending="2m", keep_firing="1m", cooldown="30m", trigger="once",
            expires_at_0="2027-01-31", expires_at_1="12:00:00", severity="critical", enabled="",
        ),
    )  # fmt: skip
    rule = Rule.objects.get()
    assert rule.severity == "critical"
    assert RuleVersion.objects.get().document == {
        "assets": {"tag": "stablecoin"},
        "condition": {"kind": "above", "level": "100"},
        "for": "2m",
        "keep_firing": "1m",
        "trigger": "once",
        "cooldown": "30m",
        "expires_at": "2027-01-31T12:00:00Z",
        "enabled": False,
    }


def test_a_rule_on_a_whole_feed_names_it(client, ada, feed):
    client.post(reverse(ADD), written(watch="feed", feed=feed.pk))
    assert RuleVersion.objects.get().document["assets"] == {"feed": "spot"}
    assert client.get(page_of(Rule.objects.get())).context["adminform"].form.initial["feed"] == feed


@pytest.mark.parametrize(
    ("fields", "field", "message"),
    [
        ({"name": ""}, "name", "This field is required."),
        ({"kind": ""}, "kind", "Choose a condition."),
        ({"level": ""}, "level", "level is missing."),
        ({"level": "many"}, "level", "level is not a number; write it like 1000 or 0.995."),
        ({"level": "10 %"}, "level", "level is not a number; write it like 1000 or 0.995."),
        ({"level": "1,005"}, "level", "level can be read in two ways: write 1.0050 or 1005."),
        ({"level": "-1e12000"}, "level", "level is not a number; write it like 10 or '0.995'."),
        (
            {"level": "0"},
            "symbols",
            "BTC-USD: above 0 does not apply to a price that is always above 0 (the asset is not signed).",
        ),
        ({"level": "100", "recovery": "101"}, "recovery", "recovery must be the weaker one: at or below the level."),
        ({"kind": "inside", "low": "2", "high": "1"}, "high", "high must be above low."),
        ({"kind": "inside", "low": "x", "high": "1"}, "low", "low is not a number; write it like 1000 or 0.995."),
        ({"kind": "rises", "percent": "0", "window": "5m"}, "percent", "percent must be above 0 and at most 1000000."),
        (
            {"kind": "rises", "percent": "1", "window": "5"},
            "window",
            "window has no unit; write 5 s, 5 min, 5 h or 5 d.",
        ),
        ({"kind": "rises", "percent": "1", "window": "1s"}, "window", "window must be from 10s to 400d."),
        (
            {"kind": "above_average", "percent": "1", "by": "1", "window": "1h"},
            "by",
            "by stands beside percent; write one of the two.",
        ),
        ({"kind": "zscore", "n": "-3", "window": "1h"}, "n", "n must be above 0 and at most 1000."),
        (
            {"kind": "zscore", "n": "3", "window": "1h", "min_coverage": "2"},
            "min_coverage",
            "min_coverage must be above 0 and at most 1.",
        ),
        ({"kind": "stale", "after": "0s"}, "after", "after must be from 1s to 400d."),
        ({"kind": "rises", "percent": "1", "window": "5m", "ref": "x"}, "ref", None),
        ({"kind": "many"}, "kind", None),
        ({"trigger": "twice"}, "trigger", None),
        (
            {"pending": "soon"},
            "pending",
            "for is not a duration; write it like 10 s, 5 minutes, 24 h or 30 d.",
        ),
        (
            {"keep_firing": "-1m"},
            "keep_firing",
            "keep_firing is not a duration; write it like 10 s, 5 minutes, 24 h or 30 d.",
        ),
        ({"cooldown": "401 days"}, "cooldown", "cooldown must be from 0s to 400d."),
        (
            {"kind": "crosses", "level": "100", "pending": "2m"},
            "pending",
            "for has no place with an event, which is over at once; leave it out.",
        ),
        ({"expires_at_0": "soon", "expires_at_1": "12:00"}, "expires_at", "Enter a valid date."),
        ({"symbols": []}, "symbols", "Choose what it watches."),
        ({"watch": "tag"}, "tag", "Choose what it watches."),
        ({"watch": "feed"}, "feed", "Choose what it watches."),
        ({"symbols": ["999999"]}, "symbols", None),
        ({"severity": "grave"}, "severity", None),
        ({"name": "a\0b"}, "name", None),
        (
            {"kind": "combined", "written": ""},
            "written",
            "The condition is missing; write it like\nall:\n  - {kind: below, level: 0.99}\n"
            "  - not: {kind: stale, after: 5m}.",
        ),
        (
            {"kind": "combined", "written": "any: [{kind: crosses_up, level: 1}, {kind: stale, after: 5m}]"},
            "written",
            "The condition has stale beside the event crosses_up: an event is true at a quote only, and at a quote "
            "nothing is stale; write two rules.",
        ),
        (
            {"kind": "combined", "written": "all: [{kind: above, level: 1}, {kind: rises, percent: x, window: 5m}]"},
            "written",
            "all[1].percent is not a number; write it like 10 or '0.995'.",
        ),
        (
            {"kind": "combined", "written": "not: {kind: crosses, level: 1}"},
            "written",
            "not.kind crosses is an event and may not stand under not: it would hold nearly always.",
        ),
        (
            {"kind": "combined", "written": "all: [\n  {kind: above"},
            "written",
            "The condition cannot be read: what is written, line 2: expected ',' or '}', but got '<stream end>'.",
        ),
        (
            {"kind": "combined", "written": "a: &x [1]\nb: *x"},
            "written",
            "The condition cannot be read: what is written, line 2: aliases are not read here; write it out.",
        ),
        (
            {"kind": "combined", "written": "just words"},
            "written",
            "The condition must be a mapping like {kind: above, level: 100}.",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_on_its_field_and_nothing_is_saved(client, ada, fields, field, message):
    found = errors_of(client, **fields)
    assert list(found) == [field]
    assert message in (None, *found[field])
    assert not Rule.objects.exists()
    assert not FeedEntry.objects.exists()


def test_each_part_that_is_wrong_is_said_at_once(client, ada):
    found = errors_of(client, name="", symbols=[], level="x", pending="y", keep_firing="z", cooldown="0", severity="")
    assert list(found) == ["name", "severity", "symbols", "level", "pending", "keep_firing"]
    combined = {"kind": "combined", "written": "all: [", "cooldown": "w"}
    assert list(errors_of(client, **combined)) == ["written", "cooldown"]


def test_each_parameter_that_is_wrong_is_said_at_once(client, ada):
    rises = {"kind": "rises", "percent": "0", "window": "1s", "recovery": "x", "cooldown": "-1"}
    assert errors_of(client, **rises).keys() == {"percent", "window", "recovery", "cooldown"}
    assert list(errors_of(client, kind="outside", low="x", high="2e12")) == ["low", "high"]
    built = '{"any": [{"kind": "above"}, {"not": {"kind": "falls", "percent": "101 %", "window": "5"}}, {"kind": ""}]}'
    assert errors_of(client, kind="combined", built=built)["written"] == [
        "any[0].level is missing.",
        "any[1].not.percent must be above 0 and at most 100.",
        "any[1].not.window has no unit; write 5 s, 5 min, 5 h or 5 d.",
        "any[2].kind must be one of " + ", ".join(CONDITIONS) + "; or write all, any or not.",
    ]


@pytest.mark.parametrize(
    ("typed", "condition"),
    [
        ({"kind": "rises", "percent": "10 %", "window": "5 minutes"}, {"percent": "10", "window": "5m"}),
        (
            {"kind": "above", "level": "100\u202f000,5", "recovery": "99 000"},
            {"level": "100000.5", "recovery": "99000"},
        ),
        ({"kind": "below", "level": "0.995"}, {"level": "0.995"}),
        (
            {"kind": "combined", "built": '{"not": {"kind": "below_average", "by": "1 000,5", "window": "1,5 h"}}'},
            {"not": {"kind": "below_average", "by": "1000.5", "window": "90m", "min_coverage": "0.5"}},
        ),
    ],
)
def test_numbers_and_durations_are_read_as_people_type_them(client, ada, typed, condition):
    assert client.post(reverse(ADD), written(**typed, cooldown="1 h 30 min")).status_code == 302
    document = RuleVersion.objects.get().document
    assert condition.items() <= document["condition"].items()
    assert document["cooldown"] == "90m"


def test_a_number_with_three_decimals_is_shown_so_that_it_is_read_as_the_same(client, ada):
    rule = make_rule(ada, name="rule", assets=["BTC-USD"], condition=above("1.005"))
    assert client.get(page_of(rule)).context["adminform"].form.initial["level"] == "1.0050"


def test_an_asset_in_no_feed_is_refused_on_the_assets(client, ada):
    stray = Asset.objects.create(symbol="STRAY-USD")
    found = errors_of(client, symbols=[stray.pk])
    assert found == {"symbols": ["STRAY-USD is in no feed, so nothing would ever be evaluated."]}


def test_a_second_rule_of_one_name_is_refused_on_the_name(client, ada):
    make_rule(ada, name="rule", assets=["BTC-USD"], condition=above(1))
    assert errors_of(client) == {"name": ["There is a rule of this name already."]}
    make_rule(make_owner("grace"), name="free", assets=["BTC-USD"], condition=above(1))
    assert client.post(reverse(ADD), written(name="free")).status_code == 302


def test_one_rule_more_than_an_owner_may_have_is_refused_in_the_form(client, ada, settings):
    settings.RULES_PER_OWNER = 1
    rule = make_rule(ada, name="first", assets=["BTC-USD"], condition=above(1))
    assert errors_of(client) == {"__all__": ["An owner has at most 1 rules. Delete one first."]}
    assert client.post(page_of(rule), written(name="first")).status_code == 302


def test_what_comes_between_the_form_and_the_saving_is_said_and_nothing_is_saved(client, ada, monkeypatch):
    monkeypatch.setattr("apps.panel.rule_form.refuse_unfit_assets", lambda spec: None)
    stray = Asset.objects.create(symbol="STRAY-USD")
    answer = client.post(reverse(ADD), written(symbols=[stray.pk]), follow=True)
    assert "Not saved: assets[0]: STRAY-USD is in no feed" in answer.text
    assert not Rule.objects.exists()


def test_another_meaning_is_a_new_version_and_another_name_is_none(client, ada):
    rule = make_rule(ada, name="rule", assets=["ETH-USD", "BTC-USD"], condition=above(100))
    both = list(Asset.objects.order_by("symbol").values_list("pk", flat=True))
    client.post(page_of(rule), written(name="renamed", severity="info", symbols=both))
    rule.refresh_from_db()
    assert (rule.name, rule.severity, rule.versions.count()) == ("renamed", "info", 1)
    client.post(page_of(rule), written(name="renamed", symbols=both, level="200"))
    assert [version.document["condition"]["level"] for version in rule.versions.all()] == ["100", "200"]
    assert FeedEntry.objects.count() == 2


def test_channels_are_the_owners_own_and_change_without_a_version(client, ada):
    mine = create_channel(owner=ada, name="Inbox", kind="inbox", config={})
    other = create_channel(owner=make_owner("grace"), name="Hers", kind="inbox", config={})
    assert "Hers" not in client.get(reverse(ADD)).text
    assert list(errors_of(client, channels=[other.pk])) == ["channels"]
    client.post(reverse(ADD), written(channels=[mine.pk]))
    rule = Rule.objects.get()
    assert list(Channel.objects.filter(rule_channels__rule=rule)) == [mine]
    assert list(client.get(page_of(rule)).context["adminform"].form.initial["channels"]) == [mine]
    client.post(page_of(rule), written(channels=[]))
    assert not Channel.objects.filter(rule_channels__rule=rule).exists()
    assert rule.versions.count() == 1


def test_a_superuser_edits_the_rule_of_another_and_it_stays_theirs(admin_client, feed):
    owner = make_owner("grace")
    inbox = create_channel(owner=owner, name="Hers", kind="inbox", config={})
    rule = make_rule(owner, name="rule", assets=["BTC-USD"], condition=above(1))
    admin_client.post(page_of(rule), written(level="2", channels=[inbox.pk]))
    rule.refresh_from_db()
    assert (rule.owner, rule.versions.count()) == (owner, 2)
    assert list(Channel.objects.filter(rule_channels__rule=rule)) == [inbox]


def test_nobody_edits_the_rules_of_others(client, ada):
    rule = make_rule(make_owner("grace"), name="hers", assets=["BTC-USD"], condition=above(1))
    assert client.post(page_of(rule), written(name="mine")).status_code == 302
    rule.refresh_from_db()
    assert (rule.name, rule.versions.count()) == ("hers", 1)


def test_who_may_only_look_is_shown_no_form(client, feed):
    reader = make_operator("ada", "rules.view_rule")
    rule = make_rule(reader, name="rule", assets=["BTC-USD"], condition=above(1))
    client.force_login(reader)
    shown = client.get(page_of(rule))
    assert "BTC-USD is above 1" in shown.text
    assert 'name="level"' not in shown.text
    assert client.post(page_of(rule), written()).status_code == 403
    assert client.post(reverse(PREVIEW), written()).status_code == 403
    assert client.get(reverse(ADD)).status_code == 403


def test_a_copy_begins_with_what_the_rule_says(client, ada):
    inbox = create_channel(owner=ada, name="Inbox", kind="inbox", config={})
    rule = make_rule(ada, name="rule", assets=["BTC-USD"], condition=above(100), cooldown="30m")
    set_channels(rule=rule, channels=[inbox])
    answer = client.post(reverse(LIST), {"action": "copy", "_selected_action": [rule.pk]}, follow=True)
    form = answer.context["adminform"].form
    assert {name: form.initial[name] for name in ("name", "kind", "level", "cooldown", "channels")} == {
        "name": "Copy of rule", "kind": "above", "level": "100", "cooldown": "30m", "channels": [inbox.pk],
    }  # fmt: skip


@pytest.mark.parametrize("chosen", ["other", "x", "99999999999999999999", ""])
def test_a_copy_of_what_is_not_there_begins_empty(client, ada, chosen):
    rule = make_rule(make_owner("grace"), name="hers", assets=["BTC-USD"], condition=above(1))
    chosen = str(rule.pk) if chosen == "other" else chosen
    answer = client.get(reverse(ADD), {"copy": chosen})
    assert answer.status_code == 200
    assert "hers" not in answer.text


@pytest.mark.parametrize("document", [{}, [], "text", {"assets": 7}, {"assets": {"tag": "a"}, "condition": {}}])
def test_a_rule_that_cannot_be_read_is_written_anew(client, ada, document):
    rule = make_rule(ada, name="rule", assets=["BTC-USD"], condition=above(1))
    rule.versions.update(document=document)
    shown = client.get(page_of(rule))
    assert "cannot be read" in shown.text
    assert client.post(page_of(rule), written()).status_code == 302
    assert rule.versions.last().document["condition"] == {"kind": "above", "level": "100"}


def pick(client, term):
    asked = {"term": term, "app_label": "rules", "model_name": "rulestate", "field_name": "asset"}
    return [one["text"] for one in client.get(reverse("admin:market_asset_pick"), asked).json()["results"]]


def test_the_field_of_assets_lists_the_best_match_first_with_its_name(client, ada, feed):
    names = {"USDT-USD": "Tether", "ETH": "Ethereum", "BTC-ETH": "Bitcoin in ether", "ALT-USD": "Ethernity"}
    for symbol, name in names.items():
        Asset.objects.create(symbol=symbol, name=name)
    Asset.objects.create(symbol="AAA-USD", name="Wrapped").aliases.create(name="weth")
    assert pick(client, "eth") == [
        *("ETH · Ethereum", "ETH-USD", "ALT-USD · Ethernity", "BTC-ETH · Bitcoin in ether"),
        *("AAA-USD · Wrapped", "USDT-USD · Tether"),
    ]
    assert pick(client, "nothing") == []


def test_the_field_of_assets_is_for_those_who_may_see_assets(client, feed):
    client.force_login(make_operator("grace"))
    asked = {"term": "BTC", "app_label": "rules", "model_name": "rulestate", "field_name": "asset"}
    assert client.get(reverse("admin:market_asset_pick"), asked).status_code == 403


@pytest.mark.parametrize("slug", list(TEMPLATES))
def test_a_new_rule_begins_with_a_template_and_needs_its_assets_alone(client, ada, slug):
    assert f'href="?template={slug}"' in client.get(reverse(ADD)).text
    initial = client.get(reverse(ADD), {"template": slug}).context["adminform"].form.initial
    posted = {name: value for name, value in initial.items() if isinstance(value, str)}
    assert client.post(reverse(ADD), written(**posted)).status_code == 302
    assert Rule.objects.get().name == TEMPLATES[slug].title


def test_a_template_that_is_not_there_begins_empty(client, ada):
    assert "kind" not in client.get(reverse(ADD), {"template": "x"}).context["adminform"].form.initial


def test_the_default_channels_are_ticked_in_a_new_rule_and_not_in_a_copy(client, ada):
    mine = create_channel(owner=ada, name="Mail", kind="email", config={"to": "a@b.org"}, is_default=True)
    create_channel(owner=ada, name="Other", kind="inbox", config={})
    create_channel(owner=make_owner("grace"), name="Hers", kind="inbox", config={}, is_default=True)
    assert list(client.get(reverse(ADD)).context["adminform"].form.initial["channels"]) == [mine]
    rule = make_rule(ada, name="rule", assets=["BTC-USD"], condition=above(1))
    assert client.get(reverse(ADD), {"copy": rule.pk}).context["adminform"].form.initial["channels"] == []


def test_who_has_no_channel_is_offered_an_inbox_which_the_rule_notifies(client, feed):
    ada = make_operator("ada", *OWNER_MAY, "notify.add_channel")
    client.force_login(ada)
    assert 'name="make_inbox"' in client.get(reverse(ADD)).text
    client.post(reverse(ADD), written(make_inbox="on"))
    inbox = Channel.objects.get()
    assert (inbox.owner, inbox.kind, inbox.is_default) == (ada, "inbox", True)
    assert list(inbox.rule_channels.values_list("rule__name", flat=True)) == ["rule"]
    assert 'name="make_inbox"' not in client.get(reverse(ADD)).text
    client.post(reverse(ADD), written(name="second", make_inbox="on"))
    assert Channel.objects.count() == 1


def test_nobody_gets_an_inbox_who_did_not_ask_for_one_or_may_not_make_one(client, ada):
    client.post(reverse(ADD), written())
    client.post(reverse(ADD), written(name="second", make_inbox="on"))
    assert (Rule.objects.count(), Channel.objects.count()) == (2, 0)

"""The form of a rule, as a person fills it in: a combined rule without YAML, numbers as they are typed."""

import pytest
from django.contrib.auth.models import Group
from playwright.sync_api import expect

from apps.accounts.models import Profile
from apps.backtests.models import BacktestRun
from apps.market.models import Feed
from apps.notify.models import Message
from apps.notify.services import create_channel
from apps.rules.models import Rule, RuleVersion
from tests.builders import append_quotes, at, make_feed, make_operator, make_rule

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def owner(page, signed_in):
    """An owner, signed in; the page has no errors at the end."""
    owner = make_operator("ada")
    owner.groups.add(Group.objects.get(name="Owner"))
    make_feed("BTC-USD", "ETH-USD", name="spot")
    create_channel(owner=owner, name="Inbox", kind="inbox", config={})
    said = []
    page.on("console", lambda message: said.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: said.append(str(error)))
    signed_in(owner)
    yield owner
    assert said == []


def begin(page, live_server, *, name="Pump or silence"):
    page.goto(f"{live_server.url}/admin/rules/rule/add/")
    page.fill("#id_name", name)
    page.select_option("#id_watch", "feed")
    page.select_option("#id_feed", label="spot")


def test_a_combined_rule_is_built_without_yaml_on_a_phone_and_by_keyboard(owner, live_server, page):
    page.set_viewport_size({"width": 390, "height": 844})
    begin(page, live_server)
    page.select_option("#id_kind", "rises")
    page.fill("#id_percent", "10 %")
    page.fill("#id_window", "5 minutes")
    page.select_option("#id_kind", "combined")
    builder, preview = page.locator(".builder"), page.locator("#rule-preview")
    page.get_by_label("Condition.2: the price", exact=True).select_option("above")
    page.get_by_label("Condition.2: Level").fill("100 000,5")
    expect(preview).to_contain_text("rises 10 % or more within 5 minutes and is above 100 000.5")

    page.get_by_role("button", name="Add group to Condition", exact=True).focus()
    page.keyboard.press("Enter")
    expect(page.get_by_label("Condition.3.1: the price", exact=True)).to_be_focused()
    page.keyboard.type("has had no")
    page.keyboard.press("Tab")
    page.keyboard.type("1 h 30 min")
    expect(preview).to_contain_text("is above 100 000.5 and has had no quote for 90 minutes")
    page.get_by_label("not: Condition.3.1").focus()
    page.keyboard.press("Space")
    expect(page.get_by_label("not: Condition.3.1")).to_be_focused()
    expect(preview).to_contain_text("and not (has had no quote for 90 minutes)")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")

    page.click("text=Show its written form")
    expect(page.locator("#id_written")).to_be_visible()
    expect(builder).to_be_hidden()
    assert "percent: 10, window: 5m" in page.input_value("#id_written").replace("'", "")
    page.click("text=Back to the builder")
    expect(page.get_by_label("Condition.2: Level")).to_have_value("100 000,5")
    page.click("text=Show its written form")
    page.fill("#id_written", page.input_value("#id_written").replace("5m", "10m"))
    page.click("text=Back to the builder")
    expect(page.get_by_label("Condition.1: Window")).to_have_value("10m")
    page.get_by_role("button", name="Remove Condition.2").click()
    expect(preview).to_contain_text("rises 10 % or more within 10 minutes and not")
    page.click("button[name=_save]")

    expect(page.locator("body")).to_contain_text("Pump or silence")
    assert RuleVersion.objects.get().document["condition"] == {
        "all": [
            {"kind": "rises", "percent": "10", "window": "10m", "ref": "window_extreme"},
            {"any": [{"not": {"kind": "stale", "after": "90m"}}]},
        ]
    }


def test_what_is_wrong_is_said_beside_each_field_once_it_was_touched(owner, live_server, page):
    begin(page, live_server)
    page.select_option("#id_kind", "inside")
    preview, wrong = page.locator("#rule-preview"), page.locator(".form-note.is-wrong")
    expect(preview).to_contain_text("Still to be filled in: Low, High.")
    expect(wrong).to_have_count(0)
    page.fill("#id_low", "1.005")
    page.fill("#id_high", "0,99")
    page.fill("#id_cooldown", "soon")
    page.press("#id_cooldown", "Tab")
    expect(page.locator(".field-low .is-wrong")).to_have_text("low can be read in two ways: write 1.0050 or 1005.")
    expect(page.locator(".field-cooldown .is-wrong")).to_contain_text("is not a duration; write it like 10 s")
    expect(page.locator(".field-high .form-note")).to_have_text("0.99")
    page.fill("#id_low", "1.0050")
    page.press("#id_low", "Tab")
    expect(page.locator(".field-high .is-wrong")).to_have_text("high must be above low.")
    page.click("button[name=_save]")
    expect(wrong).to_have_count(2)
    page.fill("#id_high", "1 000")
    page.fill("#id_cooldown", "30 min")
    expect(wrong).to_have_count(0)
    page.click("button[name=_save]")
    expect(page.locator("body")).to_contain_text("was added successfully")
    assert RuleVersion.objects.get().document["condition"] == {"kind": "inside", "low": "1.005", "high": "1000"}


# Holds back what the first answer says until the page is told to go on; whole answers after it are read at once.
_SLOW_FIRST_ANSWER = """
const read = Response.prototype.json;
let isFirst = true;
Response.prototype.json = async function () {
  const answer = await read.call(this);
  if (isFirst) {
    isFirst = false;
    await new Promise((goOn) => { window.goOn = goOn; });
  }
  return answer;
};
"""


def test_an_answer_that_is_read_after_a_later_one_is_dropped(owner, live_server, page):
    page.add_init_script(_SLOW_FIRST_ANSWER)
    page.goto(f"{live_server.url}/admin/rules/rule/add/")
    page.select_option("#id_watch", "feed")
    page.wait_for_function("Boolean(window.goOn)")
    page.select_option("#id_feed", label="spot")
    page.select_option("#id_kind", "inside")
    expect(page.locator("#rule-preview")).to_contain_text("Still to be filled in: Low, High.")
    page.evaluate("new Promise((done) => { window.goOn(); setTimeout(done); })")
    expect(page.locator("#rule-preview")).to_contain_text("Still to be filled in: Low, High.")
    assert page.locator(".form-note.is-wrong").all_inner_texts() == []


def test_a_combined_rule_that_is_only_looked_at_gets_no_version(owner, live_server, page):
    condition = {"not": {"kind": "below", "level": "1.005"}}
    rule = make_rule(owner, name="Not below", assets=["BTC-USD"], condition=condition)
    page.goto(f"{live_server.url}/admin/rules/rule/{rule.pk}/change/")
    level = page.get_by_label("Condition.1: Level")
    expect(level).to_have_value("1.0050")
    level.fill("many")
    page.click("button[name=_continue]")
    expect(page.locator(".builder .is-wrong")).to_have_text("Level is not a number; write it like 1000 or 0.995.")
    level.fill("1.0050")
    page.click("button[name=_continue]")
    expect(page.locator("body")).to_contain_text("was changed successfully")
    assert RuleVersion.objects.get().document["condition"] == condition
    assert Rule.objects.get() == rule


def test_the_past_is_shown_beside_the_form_and_a_sample_is_sent_before_saving(owner, live_server, page):
    feed = Feed.objects.get()
    for symbol, prices in (("BTC-USD", "9 11 9 12 9"), ("ETH-USD", "1 2 3 4 5")):
        append_quotes(feed, [(symbol, at(day * 86_400), price) for day, price in enumerate(prices.split())])
    begin(page, live_server, name="High")
    page.select_option("#id_kind", "above")
    page.fill("#id_level", "10")
    past = page.locator("#rule-past")
    expect(past).to_contain_text("it would have opened 2 alerts on BTC-USD: about 4 a week")
    assert past.locator("canvas").bounding_box()["height"] > 100
    page.fill("#id_level", "11")
    expect(past).to_contain_text("it would have opened 1 alert on BTC-USD")
    past.get_by_label("Asset").select_option("ETH-USD")
    expect(past).to_contain_text("it would have opened 0 alerts on ETH-USD: none a week")
    page.check("text=Inbox (inbox)")
    page.click("text=Send a sample alert to these channels")
    expect(page.locator("#rule-sample")).to_contain_text("Inbox: queued")
    assert "High" in Message.objects.get().subject
    page.click("button[name=_continue]")
    page.fill("#id_level", "4,5")
    page.click("text=Try this on more of the past")
    expect(page.locator("body")).to_contain_text(
        "It is tried as it stands in the form: any asset of spot is above 4.5."
    )
    page.click("text=Try it >> nth=-1")
    expect(page.locator("body")).to_contain_text("It waits for a worker")
    assert BacktestRun.objects.get().document["condition"] == {"kind": "above", "level": "4.5"}


def test_when_it_expires_names_the_zone_of_the_profile_once_whatever_the_browsers_zone_is(owner, live_server, page):
    Profile.objects.create(user=owner, time_zone="Asia/Tokyo")
    page.goto(f"{live_server.url}/admin/rules/rule/add/")
    # Django's script has looked at both clocks.
    page.locator(".timezonewarning").first.wait_for(state="attached")
    assert page.locator(".timezonewarning:visible").count() == 0
    field = page.locator(".field-expires_at")
    expect(field).to_contain_text("in the time zone of your profile, Asia/Tokyo.")

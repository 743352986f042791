"""Options are declared by their providers, and all that is wrong with them is named at once."""

import pytest

from apps.sources.providers.options import Option, read_options
from apps.sources.providers.protocol import ProviderMisconfigured
from apps.sources.providers.registry import PROVIDERS

DECLARED = (
    Option("count", "Count", "How many.", type=int, default=2, lowest=1, highest=9),
    Option("mode", "Mode", "How.", default="fast", choices=("fast", "slow")),
    Option("since", "Since", "When.", pattern="[0-9]{4}", must="be a year"),
    Option("file", "File", "Where.", is_required=True),
)


def faults(options):
    with pytest.raises(ProviderMisconfigured) as caught:
        read_options(options, DECLARED, slug="one")
    return caught.value.faults


def test_what_is_left_out_has_its_default():
    complete = read_options({"file": "x", "count": 3}, DECLARED, slug="one")
    assert complete == {"count": 3, "mode": "fast", "since": None, "file": "x"}


def test_all_that_is_wrong_is_named_at_once():
    assert faults({"count": 10, "mode": "slowly", "since": "now", "colour": 1}) == {
        "colour": "one knows no option 'colour'; it knows count, mode, since, file",
        "count": "count must be a whole number from 1 to 9",
        "mode": "mode must be fast or slow",
        "since": "since must be a year",
        "file": "file must be a text",
    }


@pytest.mark.parametrize("value", [True, 1.5, "3", None, float("nan"), [], 0, 10])
def test_what_is_no_such_number_is_refused(value):
    assert faults({"file": "x", "count": value}) == {"count": "count must be a whole number from 1 to 9"}


@pytest.mark.parametrize("slug", sorted(PROVIDERS))
def test_each_provider_takes_what_it_declares_and_its_defaults_are_right(slug):
    options = PROVIDERS[slug].options
    assert [one.name for one in options if not (one.label and one.help.endswith("."))] == []
    assert [one.name for one in options if not one.is_required and one.fault_of(one.default)] == []
    with pytest.raises(ProviderMisconfigured) as caught:
        PROVIDERS[slug].validate_options({one.name: object() for one in options} | {"nothing": 1})
    assert caught.value.faults.keys() == {"nothing", *(one.name for one in options)}

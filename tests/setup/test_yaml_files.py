"""The one reader of YAML: plain scalars are texts, keys stand once, and what is written is read as the same."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from apps.notation import read_number, read_whole_number
from apps.rules.engine.rule import RuleSpec
from apps.yaml_files import FileInvalid, read_yaml_text, write_yaml

# What YAML 1.1 makes numbers, times and truth values of.
PLAIN = [
    *("000660", "0700", "7203", "010", "0o10", "0x10", "0b1", "1_000", "12:30", "1:30", "22:00", "190:20:30"),
    *(
        "1.5",
        "1e3",
        "1e-8",
        "1.0e+3",
        ".5",
        "5.",
        ".nan",
        ".inf",
        "-.INF",
        "+5",
        "-5",
        "2026-01-31",
        "2026-01-31 12:00",
    ),
    *("NO", "No", "no", "ON", "on", "off", "OFF", "yes", "Y", "n", "True", "TRUE", "False", "Null", "NULL", "~", "="),
    *("None", "nullable", "true story", "falsehood", "<<", "2026-01-31T12:00:00Z"),
]


def refused(text):
    with pytest.raises(FileInvalid) as caught:
        read_yaml_text(text, name="f.yaml")
    return str(caught.value)


@pytest.mark.parametrize("plain", PLAIN)
def test_a_plain_scalar_is_the_text_that_is_written(plain):
    assert read_yaml_text(f"a: {plain}\n'b': [{plain}]\n{plain}: c", name="f") == {"a": plain, "b": [plain], plain: "c"}


def test_true_false_null_and_nothing_are_resolved_and_texts_in_quotes_are_not():
    text = "[true, false, null, 'true', \"null\", '', {a: }]"
    assert read_yaml_text(text, name="f") == [True, False, None, "true", "null", "", {"a": None}]


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("rules: []\nfeeds: []\nrules: [{}]\n", "f.yaml, line 3: the key 'rules' is there twice"),
        ("a:\n  level: 1\n  'level': 2\n", "f.yaml, line 3: the key 'level' is there twice"),
        ("[{a: 1, b: {c: 1, c: 2}}]", "f.yaml, line 1: the key 'c' is there twice"),
        ("true: 1", "f.yaml, line 1: a key must be a text; true, false and null are texts in quotes"),
        ("a: 1\nnull: 1", "f.yaml, line 2: a key must be a text; true, false and null are texts in quotes"),
        ("? [a]\n: 1", "f.yaml, line 1: a key must be a text; true, false and null are texts in quotes"),
        ("? !!str [a]\n: 1", "f.yaml, line 1: a key must be a text; true, false and null are texts in quotes"),
        ("a: !!int 010", "f.yaml, line 1: could not determine a constructor for the tag 'tag:yaml.org,2002:int'"),
        ("a: !!bool NO", "f.yaml, line 1: is neither true nor false"),
        ("a: !!map [1]", "f.yaml, line 1: expected a mapping node, but found sequence"),
    ],
)
def test_what_would_be_read_as_something_else_is_refused_with_its_line(text, why):
    assert refused(text) == why


def test_json_is_read_too():
    text = '{"all": [{"kind": "above", "level": 1.50, "recovery": null}], "enabled": true}'
    read = {"all": [{"kind": "above", "level": "1.50", "recovery": None}], "enabled": True}
    assert read_yaml_text(text, name="f") == read


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40) | st.sampled_from(
    [*PLAIN, "true", "false", "null", ""]
)
documents = st.recursive(
    texts | st.booleans() | st.none(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


@given(value=documents, is_compact=st.booleans())
@example(value=[shared := {"kind": "above", "level": "010"}, shared], is_compact=True)
@example(value={"a": "x " * 200, "b" * 200: "\n\n a\n", "c": "\x85\u2028\ufeff\x7f"}, is_compact=False)
def test_what_is_written_is_read_as_the_same(value, is_compact):
    assert read_yaml_text(write_yaml(value, is_compact=is_compact), name="f") == value


names = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=12) | st.sampled_from(PLAIN)
levels = st.decimals("1e-15", "1e11", places=18).filter(bool).map(lambda level: format(level, "f"))
leaves = st.builds(lambda kind, level: {"kind": kind, "level": level}, st.sampled_from(["above", "below"]), levels)
conditions = leaves | st.lists(leaves, min_size=1, max_size=3).map(lambda members: {"all": members})


@given(
    assets=st.lists(names, min_size=1, max_size=4) | names.map(lambda name: {"tag": name}),
    condition=conditions,
    enabled=st.booleans(),
)
def test_a_rule_that_is_written_is_read_as_the_same_rule(assets, condition, enabled):
    spec = RuleSpec.read({"assets": assets, "condition": condition, "for": "5m", "enabled": enabled})

    written = write_yaml(spec.document())
    assert RuleSpec.read(read_yaml_text(written, name="f")) == spec
    assert read_yaml_text(write_yaml(condition, is_compact=True), name="f") == condition


@pytest.mark.parametrize(
    "text", ["010", "00", "-01.5", "1_000", "1:30", "1,5", "0x10", ".5", "5.", "+5", "1e", "", " 1", "NO"]
)
def test_what_is_no_number_is_refused(text):
    with pytest.raises(ValueError, match=r"is not a number"):
        read_number(text)


@pytest.mark.parametrize(
    ("text", "number"), [("1e3", 1000), ("1E+3", 1000), ("-0.50", -0.5), ("0", 0), ("12.25", 12.25)]
)
def test_a_number_is_decimal_and_may_have_an_exponent(text, number):
    assert read_number(text) == number


@pytest.mark.parametrize("value", ["010", "1.0", "1e3", "+1", "1_000", "", "١", "9" * 19, True, 1.0, None, []])
def test_what_is_no_whole_number_is_refused(value):
    with pytest.raises(ValueError, match=r"is not a whole number"):
        read_whole_number(value)

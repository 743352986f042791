"""docs/api.md lists all codes of errors, and all mutations with their permissions."""

import re

import pytest

from apps.api.graphql.mutations.faults import Code as ChangeCode
from apps.api.graphql.schema import schema
from apps.api.monitoring.asking import Code as MonitoringCode
from tests.api.asking import MUTATION
from tests.project.test_docs import ROOT, text

# The ways in which the sources name a code.
_CODE = re.compile(r'(?:Refused\(\s*|super\(\).__init__\(|_json\(|\bcode(?:, said)? ?= ?|"code": )"([A-Z][A-Z_]+)"')


def rows_below(heading):
    """Return the rows of the tables of a section of docs/api.md, each as a list of its cells."""
    section = text("docs/api.md").partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    lines = [line.strip("|").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line] for line in lines]


def codes_in(rows, *, column):
    return {code for row in rows for code in re.findall(r"`([A-Z][A-Z_]+)`", row[column])}


def test_every_code_of_an_error_is_documented_and_no_other():
    sources = [*(ROOT / "apps/api").rglob("*.py"), ROOT / "apps/site/unavailable.py"]
    raised = {code for path in sources for code in _CODE.findall(path.read_text(encoding="utf-8"))}
    assert len(raised) > 20
    assert codes_in(rows_below("Errors"), column=1) == raised


@pytest.mark.parametrize(
    ("heading", "codes"),
    [("Changing", ChangeCode), ("Metrics and log lines", MonitoringCode)],
)
def test_every_code_that_comes_as_data_is_documented_and_no_other(heading, codes):
    documented = {row[0].strip("`") for row in rows_below(heading) if len(row) == 2 and row[0].isupper()}
    assert documented == {one.name for one in codes}


def test_every_mutation_is_documented_with_its_arguments_and_its_permission():
    documented = {}
    for row in rows_below("Changing"):
        if len(row) == 3:
            permission = re.match(r"`(\w+\.\w+)`", row[2])
            for name, arguments in re.findall(r"`(\w+)\((.*?)\)`", row[0]):
                known = documented.setdefault(name, (set(), set()))
                known[0].update(arguments.split(", "))
                known[1].add(permission[1])
    assert documented == {
        name: (
            field.args.keys() - {"idempotencyKey"},
            {schema.get_type(field.type.name).graphene_type.permission},
        )
        for name, field in MUTATION.fields.items()
    }

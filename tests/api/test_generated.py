"""Operations that Schemathesis makes of the schema: none of them finds a fault of ours."""

import json
from collections import Counter

import pytest
import schemathesis
from django.db import transaction
from graphql import parse_value
from hypothesis import HealthCheck, Phase, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from apps.api.graphql.nodes import node_id_of
from apps.api.graphql.schema import print_schema_text
from tests.api.asking import MUTATION, NOBODYS, QUERY, URL, codes
from tests.api.test_owners_of_changes import ids_of

pytestmark = pytest.mark.django_db

# 500 together, in two tests so that none takes long.
CASES = {"query": 300, "mutation": 200}
FIELDS = {"query": sorted(QUERY.fields), "mutation": sorted(MUTATION.fields)}
TEXTS = st.sampled_from(["", "x", "é", "😀", "<script>", "' OR 1=1 --", "a" * 200])
MOMENTS = ["2026-03-02T12:00:00Z", "9999-12-31T23:59:59Z", "0001-01-01T00:00:00Z", "tomorrow"]
NUMBERS = ["0", "-1", "61230.5", "9" * 24, "1e400", "NaN", f"0.{'0' * 17}1"]
DOCUMENTS = [
    parse_value(text)
    for text in ("{}", "[]", '"x"', '{assets: ["ADA-0"], condition: {kind: "above", level: "1"}}', '{url: "http://x"}')
]


@pytest.fixture
def known(ada):
    """Return scalar -> ids of what is there, and one of nothing."""
    uuids = sorted({str(id) for id in ids_of(ada).values() if not str(id).startswith("owned-")})
    nodes = [node_id_of(row) for row in (ada.rules.get(), ada.channels.get(), ada.portfolios.get(), ada.alerts.get())]
    return {
        "UUID": [*uuids, NOBODYS],
        "AssetId": ["ADA-0", "OWN", "NOTHING"],
        "FeedId": ["ada", "nothing"],
        "NodeId": [*nodes, "asset:ADA-0", "feed:ada", f"rule:{NOBODYS}"],
    }


def operations_of(fields, known):
    """Return a strategy of operations of these root fields, as texts."""
    nodes, scalar = schemathesis.graphql.nodes, schemathesis.graphql.scalar
    for name, ids in known.items():
        scalar(name, (st.sampled_from(ids) | st.sampled_from(ids) | TEXTS).map(nodes.String))
    scalar("DateTime", st.sampled_from(MOMENTS).map(nodes.String))
    scalar("Decimal", st.sampled_from(NUMBERS).map(nodes.String))
    scalar("PageSize", st.sampled_from([1, 1, 2, 3, 0, 101]).map(nodes.Int))
    scalar("Skip", st.sampled_from([0, 0, 1, 500, -1]).map(nodes.Int))
    scalar("JSON", st.sampled_from(DOCUMENTS))
    made = schemathesis.graphql.from_file(print_schema_text()).get_all_operations()
    by_field = {one.ok().label.partition(".")[2]: one.ok().as_strategy() for one in made}
    return st.sampled_from(fields).flatmap(by_field.__getitem__).map(lambda case: case.body)


@pytest.mark.parametrize("kind", CASES)
def test_no_operation_of_500_finds_a_fault_of_ours(client, admin_user, known, kind):
    client.force_login(admin_user)
    answered = Counter()

    @given(operations_of(FIELDS[kind], known))
    @hypothesis_settings(max_examples=CASES[kind], phases=[Phase.generate], suppress_health_check=list(HealthCheck))
    def ask(operation):
        # What one has changed is not there for the next.
        with transaction.atomic():
            answer = client.post(URL, json.dumps({"query": operation}), content_type="application/json")
            transaction.set_rollback(True)
        answered[answer.status_code] += 1
        assert answer.status_code in (200, 400), operation
        assert "INTERNAL_ERROR" not in codes(answer), operation

    ask()
    # Else what is refused before it is executed would be all that was tried.
    assert answered[200] > CASES[kind] / 3

"""Lists of many rows."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from tests.builders import make_notified_alerts


@pytest.mark.django_db
@pytest.mark.parametrize("page", ["admin:alerts_alert_changelist", "admin:rules_rule_changelist"])
def test_a_list_costs_the_same_statements_for_3_rows_and_for_9(
    admin_client, admin_user, django_assert_num_queries, page
):
    make_notified_alerts(admin_user, 3, name="few")
    admin_client.get(reverse(page))
    with CaptureQueriesContext(connection) as few:
        admin_client.get(reverse(page))
    make_notified_alerts(admin_user, 6, name="more")
    with django_assert_num_queries(len(few)):
        answer = admin_client.get(reverse(page))
    assert len(answer.context["cl"].result_list) == 9

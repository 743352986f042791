"""Lists of few bytes."""

import pytest
from django.urls import reverse

from apps.alerts.models import Alert
from apps.panel.templatetags.light_lists import light
from tests.builders import make_notified_alerts


def test_a_cell_keeps_its_name_its_label_and_what_is_in_it():
    cell = '<td class="field-at align-middle flex px-3 nowrap" data-label="at">&lt;b&gt;<a class="x y">1</a></td>'
    assert light(cell) == '<td class="field-at cell nowrap" data-label="at">&lt;b&gt;<a class="x y">1</a></td>'
    box = '<td class="action-checkbox a b" data-label="c"><input class="q w action-select" value="1"></td>'
    assert light(box) == '<td class="action-checkbox cell" data-label="c"><input class="action-select" value="1"></td>'
    assert light("<td>plain</td>") == "<td>plain</td>"


@pytest.mark.django_db
def test_a_row_of_the_list_of_alerts_is_light(admin_client, admin_user):
    make_notified_alerts(admin_user, 2)
    lengths = []
    for count in (2, 1):
        answer = admin_client.get(reverse("admin:alerts_alert_changelist"))
        assert answer.text.count('<tr class="data-row">') == count
        lengths.append(len(answer.content))
        Alert.objects.filter(pk=Alert.objects.first().pk).delete()
    assert lengths[0] - lengths[1] < 2_500

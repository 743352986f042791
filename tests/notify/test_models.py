"""Statuses of messages: each is unsent or settled, and the indexes of what is due leave out the settled ones."""

from django.db.models import Q

from apps.notify.models import Message, Notification


def test_each_status_is_either_unsent_or_settled():
    assert sorted([*Message.UNSENT, *Message.SETTLED]) == sorted(Message.Status.values)


def test_the_indexes_of_what_is_due_leave_out_just_the_settled_messages():
    conditions = {one.name: one.condition for one in Message._meta.indexes if one.condition is not None}
    leaves_out_settled = ~Q(status__in=list(Message.SETTLED))
    assert conditions == {"message_due": leaves_out_settled, "message_due_anywhere": leaves_out_settled}


def test_a_notification_has_each_status_of_its_message():
    assert set(Message.Status.values) <= set(Notification.Status.values)

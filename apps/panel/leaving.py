"""The page on which an administrator hands a person's rules to another, and lets the account go."""

from typing import Any

from django import forms
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import IntegrityError, transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from unfold.widgets import UnfoldAdminCheckboxSelectMultipleWidget, UnfoldAdminSelectWidget

from apps.alerts.models import Alert
from apps.notify.models import Channel
from apps.ownership.deleting import AccountStays, delete_account
from apps.ownership.handing_over import HandOver, HandOverRefused, hand_over_rules, plan_hand_over
from apps.ownership.queries import counts_of, counts_staying, lock_superusers, why_not_deleted
from apps.panel.kit.pages import ROWS_SHOWN, question_page
from apps.rules.queries import rules_of

KEEP, DEACTIVATE, DELETE = "keep", "deactivate", "delete"
SHOW, CONFIRM = "Show what that means", "Confirm"


class LeavingForm(forms.Form):
    """Who takes a person's rules, and what becomes of the account. shown: what was said of it when it was asked
    last."""

    to = forms.ModelChoiceField(
        queryset=User.objects.none(),
        required=False,
        label="Hand the rules to",
        empty_label="nobody",
        widget=UnfoldAdminSelectWidget,
        help_text="An active person who may have rules. All rules go but those on series and assets that the owner "
        "alone sees, with their alerts.",
    )
    channels = forms.ModelMultipleChoiceField(
        queryset=Channel.objects.none(),
        required=False,
        label="Channels",
        widget=UnfoldAdminCheckboxSelectMultipleWidget,
        help_text="Of the person who takes the rules: what the rules notify from then on, at first of what is open. "
        "None: alerts are recorded, and nobody is notified.",
    )
    then = forms.ChoiceField(
        label="The account",
        choices=[
            (KEEP, "stays as it is"),
            (DEACTIVATE, "becomes inactive: what was not handed over is kept, and rules are evaluated on"),
            (DELETE, "is deleted with all that was not handed over"),
        ],
        initial=DEACTIVATE,
        widget=UnfoldAdminSelectWidget,
        help_text="Of a deleted account no more stays than logs need.",
    )
    shown = forms.CharField(required=False, widget=forms.HiddenInput)

    def __init__(self, *args: Any, person: User, by: User) -> None:
        super().__init__(*args)
        self._person, self._by = person, by
        people = User.objects.filter(is_active=True, pk__gt=0).exclude(pk=person.pk).order_by("username")
        self.fields["to"].queryset = people
        if self.is_bound:
            # Of whom is chosen; before, there is nothing to choose from. Those of whom was chosen before are no choice.
            to = people.filter(pk=self.data["to"]).first() if self.data.get("to", "").isdecimal() else None
            theirs = Channel.objects.filter(owner=to) if to is not None else Channel.objects.none()
            self.fields["channels"].queryset = theirs
            chosen = set(self.data.getlist("channels"))
            self.data = self.data.copy()
            self.data.setlist("channels", [str(one.pk) for one in theirs if str(one.pk) in chosen])
        if not self.is_bound or not self.fields["channels"].queryset.exists():
            self.fields["channels"].widget = forms.MultipleHiddenInput()

    def clean_to(self) -> User | None:
        to: User | None = self.cleaned_data["to"]
        if to is not None and not to.has_perm("rules.change_rule"):
            raise ValidationError(f"{to} may not have rules; put them into the group Owner first.")
        return to

    def clean_then(self) -> str:
        then: str = self.cleaned_data["then"]
        if then != KEEP and self._person == self._by:
            raise ValidationError("Your own account you delete from your profile.")
        if then == DELETE and (why := why_not_deleted(self._person)):
            raise ValidationError(why)
        return then

    def effect(self, planned: HandOver | None) -> str:
        """Return what would be done."""
        to, then, said = self.cleaned_data["to"], self.cleaned_data["then"], []
        if planned is None:
            said.append("No rule is handed over.")
        else:
            going = f"{_counted(len(planned.rules), 'rule')}, {_counted(planned.open_alerts, 'open alert')}"
            said.append(f"From {self._person} to {to}: {going}.")
            if planned.staying:
                said.append(f"{_counted(len(planned.staying), 'rule')} cannot be handed over.")
            if not self.fields["channels"].queryset.exists():
                said.append(f"{to} has no channel yet, so nobody is notified.")
        if then == DELETE:
            said.append(f"Deleted, but for what goes to others: {_listed(counts_of(self._person))}.")
            if staying := counts_staying(self._person):
                said.append(f"Kept under the name “deleted account”: {_listed(staying)}.")
        if then == DEACTIVATE:
            said.append(f"{self._person} cannot sign in any more, and nothing is sent to their channels.")
        return " ".join(said)

    def show(self, effect: str) -> None:
        """Let the next answer be to what is shown now. Where no channel was chosen yet, those are ticked that new rules
        notify."""
        self.data["shown"] = effect
        if not self.data.getlist("channels"):
            defaults = self.fields["channels"].queryset.filter(is_default=True)
            self.data.setlist("channels", [str(one.pk) for one in defaults])


def leaving_view(page: Any, request: HttpRequest, user_id: int) -> HttpResponse:
    """Ask who takes a person's rules and what becomes of the account, show what that means, and do it."""
    if not request.user.is_superuser:
        raise PermissionDenied
    person = User.objects.filter(pk=user_id, pk__gt=0).first()
    if person is None:
        raise Http404
    form = LeavingForm(*([request.POST] if request.method == "POST" else []), person=person, by=request.user)
    question, what, rows = about(person), SHOW, []
    if form.is_bound and form.is_valid():
        to = form.cleaned_data["to"]
        try:
            planned = plan_hand_over(owner=person, to=to) if to is not None else None
            effect = form.effect(planned)
            if form.cleaned_data["shown"] == effect:
                return _do(page, request, form, person)
        except (HandOverRefused, AccountStays) as refused:
            page.message_user(request, f"Nothing was done. {refused}", "warning")
        except IntegrityError:
            page.message_user(request, "Nothing was done: something was changed at this moment; try again.", "warning")
        else:
            form.show(effect)
            question, what = effect, CONFIRM
            rows = [f"{rule}: {why}" for rule, why in planned.staying] if planned is not None else []
    return question_page(
        page,
        request,
        title=f"{person} leaves",
        question=question,
        what=what,
        variant="danger" if what == CONFIRM and form.cleaned_data["then"] == DELETE else "primary",
        form=form,
        rows=rows[:ROWS_SHOWN],
        more=max(len(rows) - ROWS_SHOWN, 0),
    )


@transaction.atomic
def _do(page: Any, request: HttpRequest, form: LeavingForm, person: User) -> HttpResponse:
    """Do what was shown, all or nothing, and record it in the admin's log."""
    to, then, now = form.cleaned_data["to"], form.cleaned_data["then"], timezone.now()
    said = []
    if to is not None:
        channels = list(form.cleaned_data["channels"])
        done = hand_over_rules(owner=person, to=to, channels=channels, now=now)
        handed = f"Handed {_counted(len(done.rules), 'rule')} of {person} to {to}"
        for row in (person, to):
            page.log_change(request, row, f"{handed}: {', '.join(rule.name for rule in done.rules)}.")
        for rule in done.rules:
            page.log_change(request, rule, f"Handed from {person} to {to}.")
        said.append(f"{handed}.")
    if then == DELETE:
        page.log_deletions(request, User.objects.filter(pk=person.pk))
        delete_account(user=person, now=now)
        said.append(f"The account {person} is deleted.")
    elif then == DEACTIVATE and person.is_active:
        lock_superusers(besides_pk=person.pk)
        if why := why_not_deleted(person):
            raise AccountStays(why)
        person.is_active = False
        person.save(update_fields=["is_active"])
        page.log_change(request, person, "Made inactive.")
        said.append(f"{person} is inactive.")
    page.message_user(request, " ".join(said) or "Nothing was to be done.", "success")
    if then == DELETE:
        return HttpResponseRedirect(reverse("admin:auth_user_changelist"))
    return HttpResponseRedirect(reverse("admin:auth_user_change", args=[person.pk]))


def about(person: User) -> str:
    """Return what a person has that somebody may miss."""
    alerts = Alert.objects.filter(owner=person, resolved_at=None).count()
    rules, channels = rules_of(person).count(), Channel.objects.filter(owner=person).count()
    counted = (_counted(rules, "rule"), _counted(alerts, "open alert"), _counted(channels, "channel"))
    return f"{person} has {', '.join(counted)}."


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"


def _listed(counts: list[tuple[str, int]]) -> str:
    return "; ".join(f"{name}: {count}" for name, count in counts) or "nothing but the account"

"""The page on which a split of an asset is entered, after what it changes was shown."""

from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.core.exceptions import PermissionDenied, ValidationError
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from unfold.widgets import UnfoldAdminTextInputWidget

from apps.alerts.models import Alert
from apps.market.domain import slot_of
from apps.market.models import Asset, LatestQuote
from apps.market.services import SplitRefused, append_split
from apps.market.splits import multiplied, ratio_of_step, read_ratio
from apps.panel.kit.pages import PageAdmin, question_page
from apps.reader import TO_MINUTES, in_zone, show_number, write_time
from apps.rules.queries import count_with_prices
from apps.tracing import new_trace_id

PERMISSION = "market.add_split"


class SplitForm(forms.Form):
    """A split of an asset. shown: what was said of it when it was asked last."""

    effective_at = forms.DateTimeField(
        label=in_zone("Effective from"), help_text="The first minute with prices after the split."
    )
    ratio = forms.CharField(
        max_length=32, widget=UnfoldAdminTextInputWidget, help_text="New shares to old ones, like 20:1."
    )
    shown = forms.CharField(required=False, widget=forms.HiddenInput)

    def __init__(self, *args: Any, asset: Asset, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.asset = asset
        self.fields["effective_at"].widget = UnfoldAdminTextInputWidget(attrs={"type": "datetime-local"})

    def clean_ratio(self) -> tuple[int, int]:
        try:
            return read_ratio(self.cleaned_data["ratio"])
        except ValueError as error:
            raise ValidationError(f"{error}.") from None

    def effect(self) -> str:
        """Return what the split would change."""
        effective_at, (numerator, denominator) = self.cleaned_data["effective_at"], self.cleaned_data["ratio"]
        said = [f"Prices of {self.asset} from before {write_time(effective_at, TO_MINUTES)} are read × "]
        said[0] += f"{denominator}/{numerator}; they stay stored as they came."
        latest = LatestQuote.objects.filter(asset=self.asset).first()
        if latest is not None and latest.at < effective_at:
            after = multiplied(latest.price, Fraction(denominator, numerator))
            said.append(f"The newest price, {show_number(latest.price)}, becomes {show_number(after)}.")
        elif latest is not None:
            said.append(f"The newest price, {show_number(latest.price)}, is from after it and stays.")
        count = count_with_prices(self.asset)
        if count:
            noun = "1 rule that names prices is" if count == 1 else f"{count} rules that name prices are"
            said.append(f"On this asset {noun} paused, if put on it before, until the owner has checked the levels.")
        since = Alert.objects.filter(asset=self.asset, kind=Alert.Kind.CONDITION, opened_at__gte=effective_at)
        if open_now := since.filter(resolved_at=None).count():
            said.append(f"Open alerts that compared prices across it resolve with this reason: at most {open_now}.")
        return " ".join(said)

    def show(self, effect: str) -> None:
        """Let the next answer be to what is shown now."""
        self.data = {**self.data.dict(), "shown": effect}


def split_view(page: PageAdmin, request: HttpRequest, asset_id: int) -> HttpResponse:
    """Ask for a split, show what it changes, and enter it."""
    if not request.user.has_perm(PERMISSION):
        raise PermissionDenied
    asset = Asset.objects.select_related("feed").filter(pk=asset_id).first()
    if asset is None:
        raise Http404
    initial = {name: request.GET[name] for name in ("effective_at", "ratio") if name in request.GET}
    form = SplitForm(request.POST if request.method == "POST" else None, asset=asset, initial=initial)
    question, what = f"Was {asset} split, and when?", "Show what it changes"
    if form.is_valid():
        effect = form.effect()
        if form.cleaned_data["shown"] == effect and _enter(page, request, form):
            return HttpResponseRedirect(reverse("admin:market_asset_change", args=[asset.pk]))
        form.show(effect)
        question, what = effect, f"Enter the split of {asset}"
    return question_page(page, request, title=f"A split of {asset}", question=question, what=what, form=form)


def _enter(page: PageAdmin, request: HttpRequest, form: SplitForm) -> bool:
    """Enter the split, and say so; return False, and say why, where it is refused."""
    numerator, denominator = form.cleaned_data["ratio"]
    try:
        split = append_split(
            asset_id=form.asset.pk,
            effective_at=form.cleaned_data["effective_at"],
            numerator=numerator,
            denominator=denominator,
            now=timezone.now(),
            trace_id=new_trace_id(),
        )
    except SplitRefused as refused:
        page.say_refused(request, f"Not entered: {refused}.")
        return False
    if split is None:
        page.say_refused(request, "This split is entered already.")
        return True
    page.log_change(request, form.asset, f"Entered the split {split} of {split.effective_at:%Y-%m-%d %H:%M} UTC.")
    page.say_done(request, f"The split {split} is entered; its rules hear of it within seconds.")
    return True


def split_address(asset_id: int, *, at: datetime, before: Decimal | None, after: Decimal) -> str:
    """Return the address of the page, filled in with what a step between two prices suggests."""
    begin = slot_of(at=at.astimezone(UTC), interval_seconds=60)
    suggested = {"effective_at": f"{timezone.localtime(begin):%Y-%m-%dT%H:%M}"}
    if before is not None and before > 0 and after > 0:
        suggested["ratio"] = "{}:{}".format(*ratio_of_step(before, after))
    return f"{reverse('admin:market_asset_split', args=[asset_id])}?{urlencode(suggested)}"


def split_link(request: HttpRequest, asset_id: int, **step: Any) -> SafeString | str:
    """Return a link to the page for who may enter a split, filled in as `split_address` does."""
    if not request.user.has_perm(PERMISSION):
        return ""
    address = split_address(asset_id, **step)
    return format_html('<a class="text-primary-600 dark:text-primary-500" href="{}">this was a split</a>', address)


def step_of(alert: Alert) -> dict[str, Any] | None:
    """Return the step that an alert saw, as `split_address` takes it; None where it saw no price."""
    price, at = alert.evidence.get("price"), alert.evidence.get("at")
    if alert.asset_id is None or not isinstance(price, str) or not isinstance(at, str):
        return None
    before = _reference(alert.evidence) or alert.evidence.get("previous") or {}
    known = before.get("price")
    return {
        "at": datetime.fromisoformat(at),
        "before": Decimal(known) if known is not None else None,
        "after": Decimal(price),
    }


def _reference(evidence: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return the first price that a part of the condition was compared with."""
    if "reference" in evidence:
        return evidence["reference"]  # type: ignore[no-any-return]
    parts = [evidence.get("not"), *evidence.get("all", ()), *evidence.get("any", ())]
    return next((found for part in parts if part and (found := _reference(part))), None)

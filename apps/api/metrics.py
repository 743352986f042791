"""The metrics of the web processes: `GET /metrics`, for Prometheus."""

from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from django_prometheus.exports import ExportToDjangoView

from apps.api.errors import Refused
from apps.api.tokens.auth import asker_of
from apps.api.tokens.models import ApiToken


@never_cache
@require_safe
def metrics(request: HttpRequest) -> HttpResponse:
    """Give what all web processes of this machine have counted, to a token of the scope `metrics` and to nobody else:
    not to a page either."""
    try:
        asker = asker_of(request, now=timezone.now(), scope=ApiToken.Scope.METRICS)
        if asker.token is None:
            raise Refused("UNAUTHENTICATED", "Send a token.", status=401, headers={"WWW-Authenticate": "Bearer"})
        if not asker.user.has_perm("api.read_metrics"):
            raise Refused("FORBIDDEN", "The owner of the token may not read metrics.", status=403)
    except Refused as refused:
        return HttpResponse(refused.message, content_type="text/plain", status=refused.status, headers=refused.headers)
    return ExportToDjangoView(request)

"""What people do with their account as a whole: download all that they own."""

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, StreamingHttpResponse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from apps.ownership.export import export_of


@never_cache
@login_required
@require_safe
def account_download(request: HttpRequest) -> StreamingHttpResponse:
    """Give all that the reader owns as one ZIP file, made as it is sent."""
    now = timezone.now()
    pieces = iter(()) if request.method == "HEAD" else export_of(request.user, now=now)  # type: ignore[arg-type]
    answer = StreamingHttpResponse(pieces, content_type="application/zip")
    answer["Content-Disposition"] = f'attachment; filename="fintech-{now:%Y-%m-%d}.zip"'
    return answer

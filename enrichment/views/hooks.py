"""Where Icypeas tells that something has ended: written down, answered, and checked later by a worker."""

from __future__ import annotations

from django.contrib.auth.decorators import login_not_required
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse
from django.views.decorators.csrf import csrf_exempt

from config import redaction
from enrichment import tasks
from enrichment.services import hooks, submission
from keys.selectors import account_of_hook


@csrf_exempt  # the caller is no browser; the path is the secret, and the signature is checked by a worker
@login_not_required
def hook(request: HttpRequest, token: str) -> HttpResponse:
    """One insert, then the answer. Web has no API secret, so it believes nothing of this."""
    account = account_of_hook(token)
    if account is not None:
        # Whatever is refused from here on is logged with its path.
        redaction.remember(account.hook_token)
    if request.method != "POST":
        return HttpResponseNotAllowed(["POST"])
    if account is None:
        raise Http404
    length = request.META.get("CONTENT_LENGTH") or "0"
    if not length.isdigit() or int(length) > hooks.MOST_BYTES:
        return JsonResponse({"error": "The body is too large."}, status=413)
    try:
        with transaction.atomic():
            received = hooks.receive(account, request.read(hooks.MOST_BYTES + 1))
            if received is hooks.Received.RINGS:
                submission.wake(tasks.heed_hooks, account.id, queue=tasks.URGENT)
    except hooks.HookError as error:
        return JsonResponse({"error": str(error)}, status=400)
    is_kept = received is not hooks.Received.DROPPED
    return JsonResponse({"ok": is_kept}, status=200 if is_kept else 503)

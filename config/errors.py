"""Error pages: what happened, what is safe, what to do, who can help."""

from __future__ import annotations

import logging
import secrets

from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.template.loader import render_to_string
from django.utils import timezone

log = logging.getLogger(__name__)


def bad_request(request: HttpRequest, exception: Exception) -> HttpResponse:
    return render(request, "400.html", status=400)


def forbidden(request: HttpRequest, exception: Exception) -> HttpResponse:
    """`PermissionDenied` carries the sentence that names who may."""
    return render(request, "403.html", {"exception": str(exception)}, status=403)


def not_found(request: HttpRequest, exception: Exception) -> HttpResponse:
    return render(request, "404.html", status=404)


def server_error(request: HttpRequest) -> HttpResponse:
    """A page that needs neither database nor session, with a number that stands in the log beside the traceback."""
    number = f"500-{secrets.token_hex(2)}-{secrets.token_hex(2)}"
    log.error("error %s on %s", number, request.path)
    page = render_to_string("500.html", {"number": number, "at": timezone.now(), "path": request.path})
    return HttpResponse(page, status=500)

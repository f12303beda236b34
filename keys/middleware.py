"""Old addresses of renamed key records lead on to the new ones."""

from __future__ import annotations

from collections.abc import Callable

from django.http import Http404, HttpRequest, HttpResponse, HttpResponsePermanentRedirect
from django.urls import reverse

from keys.models import FormerName


class FormerNames:
    """Where a page below `/keys/<name>/` was not found and `name` is a former one, the same page of the record as it is
    named now. It works on what a view did not find, so a view has said before whether the person may see keys at all."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)

    def process_exception(self, request: HttpRequest, exception: Exception) -> HttpResponse | None:
        found = request.resolver_match
        if not isinstance(exception, Http404) or found is None or "name" not in found.kwargs:
            return None
        old = found.kwargs["name"]
        beginning = reverse("keys:key_detail", args=[old])
        former = FormerName.objects.select_related("key").filter(name=old).first()
        if former is None or not request.path.startswith(beginning):
            return None
        rest = request.get_full_path().removeprefix(beginning)
        new = reverse("keys:key_detail", args=[former.key.name]) + rest
        # 308: what was sent is sent again. No cache keeps it (`no_store`), so a record may go back to an old name.
        return HttpResponsePermanentRedirect(new, preserve_request=True)

"""The decorators that close a view: to people without a right, and to those who have not proved lately who they are."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase, HttpResponseRedirect
from django.urls import reverse
from django.utils.http import urlencode
from django_htmx.http import HttpResponseClientRedirect

from people import proof
from people.rights import Right
from people.selectors import who_can


def require_right(
    right: Right,
) -> Callable[[Callable[..., HttpResponseBase]], Callable[..., HttpResponseBase]]:
    """403 with a sentence that names who may."""

    def decorate(view: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
        @wraps(view)
        def wrapper(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            if not (request.user.is_authenticated and request.user.may(right)):
                raise PermissionDenied(f"Your role does not let you {right.label}. {who_can(right)} can.")
            return view(request, *args, **kwargs)

        return wrapper

    return decorate


View = Callable[..., HttpResponseBase]


def require_proof(show_again: View | None = None) -> Callable[[View], View]:
    """Ask for the password again when the last proof is older than `STEP_UP_S`.

    A page leads to `/confirm/` and back. A form that comes too late is shown again by `show_again`, a view of the same
    arguments, with everything that was typed and a field for the password beside its button (`proof_field.html`): sent
    with it, it is carried out. Without `show_again` nothing was typed, so `/confirm/` does.
    """

    def decorate(view: View) -> View:
        @wraps(view)
        def wrapper(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            hidden = getattr(request, "sensitive_post_parameters", ())
            if hidden != "__ALL__":
                request.sensitive_post_parameters = (*hidden, proof.FIELD)  # type: ignore[attr-defined]
            if proof.is_fresh(request):
                return view(request, *args, **kwargs)
            htmx: Any = getattr(request, "htmx", None)
            if htmx and not htmx.boosted:
                here = htmx.current_url_abs_path or request.get_full_path()
                return HttpResponseClientRedirect(_confirm(here))
            if request.method != "POST" or show_again is None:
                return HttpResponseRedirect(_confirm(request.get_full_path()), status=303)
            password = request.POST.get(proof.FIELD, "")
            if password and proof.check(request, password):
                return view(request, *args, **kwargs)
            request.proof_asked = proof.asked(request, is_wrong=bool(password))  # type: ignore[attr-defined]
            return show_again(request, *args, **kwargs)

        return wrapper

    return decorate


def _confirm(here: str) -> str:
    return f"{reverse('people:confirm')}?{urlencode({'next': here})}"

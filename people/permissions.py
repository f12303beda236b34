"""The decorator that closes a view to people without a right."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponseBase

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

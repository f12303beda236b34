"""Reverse look-up: an e-mail address in, the profile page of the person behind it out."""

from __future__ import annotations

from decimal import Decimal

from enrichment.providers.icypeas.direct import Layout, page_in

from .base import Operation, ResultColumn
from .email_verification import EMAIL_FIELD, check

REVERSE_LOOKUP = Operation(
    name="reverse-lookup",
    label="Reverse look-up",
    noun="profile found",
    sentence="Find out who is behind an email address: the address of their profile page.",
    icon="user-search",
    fields=(EMAIL_FIELD,),
    check=check,
    needs=(("email",),),
    price=Decimal(10),
    price_source="One integrator's price list of April 2026",
    charged_when_empty=False,
    single_route="reverse-email-lookup",
    bulk_route="reverse-email-lookups",
    direct_rows=50,
    result_columns=(ResultColumn("profile_url", "Profile page"),),
    wire=Layout(
        one=lambda row: {"email": row.get("email", "")},
        many=lambda rows: {"data": [row.get("email", "") for row in rows]},
        read=page_in("profile_url"),
    ),
    scopes={
        "reverse-lookup:single": "find who is behind one e-mail",
        "reverse-lookup:bulk": "find who is behind a list of e-mails",
    },
    words=("look up", "email", "emails"),
    series="Reverse look-up",
    place=4,
    good_verdicts=("found",),
    answer_column="profile_url",
    answer_noun="profile page",
    look_up_label="Reverse look-up",
    verb="Look up",
)

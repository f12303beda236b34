"""Verify e-mail addresses: one address in, one of four verdicts out."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from enrichment import normal_forms
from enrichment.providers.icypeas.payloads import Rows, judge_verification

from .base import Checked, InputField, Operation, ResultColumn, Skipped

NO_EMAIL = "no_email"
BAD_EMAIL = "bad_email"


def check(fields: Mapping[str, str]) -> Checked | Skipped:
    """A row with an address that could exist is asked. Free-mail and role addresses are addresses, too."""
    if not normal_forms.text(fields.get("email", "")):
        return Skipped(NO_EMAIL, "There is no email address in this row.")
    try:
        address = normal_forms.email(fields["email"])
    except normal_forms.BadAddressError as error:
        return Skipped(BAD_EMAIL, f"This cannot be an email address. {error}")
    return Checked({"email": address})


EMAIL_FIELD = InputField(
    name="email",
    label="Email",
    names=(
        "email",
        "e-mail",
        "mail",
        "email address",
        "e-mail address",
        "mail address",
        "work email",
        "business email",
        "company email",
        "primary email",
        "contact email",
        "person email",
        "email 1",
        "e-mail-adresse",
        "emailadresse",
        "mailadresse",
        "e-mail geschäftlich",
        "adresse e-mail",
        "adresse email",
        "adresse mail",
        "courriel",
        "adresse électronique",
        "correo",
        "correo electrónico",
        "dirección de correo",
        "email de trabajo",
        "indirizzo email",
        "indirizzo e-mail",
        "posta elettronica",
        "e-mailadres",
        "mailadres",
    ),
    is_required=True,
    hint="One address a row.",
)

EMAIL_VERIFICATION = Operation(
    name="email-verification",
    label="Verify emails",
    noun="verification",
    sentence="Find out which addresses will take mail before you write to them.",
    icon="mail-check",
    fields=(EMAIL_FIELD,),
    check=check,
    needs=(("email",),),
    price=Decimal("0.1"),
    price_source="Icypeas' price list and API documentation, looked up in November 2026",
    charged_when_empty=True,
    single_route="email-verification",
    bulk_route="bulk-search",
    result_columns=(ResultColumn("certainty", "Certainty"), ResultColumn("mx_provider", "Mail provider")),
    wire=Rows((("email", "email"),), judge_verification),
    scopes={
        "email-verification:single": "verify one e-mail",
        "email-verification:bulk": "verify a list of e-mails",
    },
    words=("verify", "email", "emails"),
    series="Verify emails",
    place=2,
    good_verdicts=("deliverable", "risky"),
    found_label="Deliverable",
    not_found_label="Not deliverable",
    first_hit_rate=Decimal("0.80"),
    look_up_label="Verify an email",
    verb="Verify",
)

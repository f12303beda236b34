import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enrichment import normal_forms
from enrichment.normal_forms import BadAddressError


@pytest.mark.parametrize(
    ("spelling", "form"),
    [
        ("  Ame\u0301lie \t Roux\u00a0", "Amélie Roux"),
        ("\ufeffRo\u200bux\u00ad", "Roux"),
        ("van\r\nden  Berg", "van den Berg"),
        ("Ro\x07ux\x1b", "Roux"),
        ("3M", "3M"),
        ("-", ""),
        (" … ", ""),
        ("", ""),
    ],
)
def test_text_is_one_form_for_all_spellings(spelling, form):
    assert normal_forms.text(spelling) == form


@pytest.mark.parametrize(
    "spelling",
    [
        "loxwell.example",
        "LOXWELL.Example.",
        "https://www.loxwell.example",
        "http://user:pw@www.loxwell.example:8080/about?x=1#top",
        "//loxwell.example/",
        "loxwell.example:443/path",
        "mailto:anna@loxwell.example",
        "anna@loxwell.example",
        "http://https://loxwell.example",
        "\u200bloxwell.example\u00a0",
    ],
)
def test_domain_is_the_bare_host_for_all_spellings(spelling):
    assert normal_forms.domain(spelling) == "loxwell.example"


@pytest.mark.parametrize(
    ("spelling", "host"),
    [
        ("www.Müller.de", "xn--mller-kva.de"),
        ("xn--mller-kva.de", "xn--mller-kva.de"),
        ("acme。com", "acme.com"),
        ("https://3m.com", "3m.com"),
        ("shop.acme.co.uk", "shop.acme.co.uk"),
        ("www.com", "www.com"),
    ],
)
def test_domain_keeps_what_makes_the_host(spelling, host):
    assert normal_forms.domain(spelling) == host


@pytest.mark.parametrize(
    "spelling",
    [
        "",
        "-",
        "n/a",
        "Loxwell SAS",
        "localhost",
        "1.2.3.4",
        "http://1.2.3.4/x",
        "v1.2",
        "a..b.de",
        "a_b.de",
        "ab--c.de",
        "xn--zzzz-.de",
        "-a.de",
    ],
)
def test_domain_is_none_when_there_is_no_host_name(spelling):
    assert normal_forms.domain(spelling) is None


@pytest.mark.parametrize(
    ("host", "registered"),
    [
        ("shop.acme.co.uk", "acme.co.uk"),
        ("de.linkedin.com", "linkedin.com"),
        ("a.b.loxwell.example", "loxwell.example"),
    ],
)
def test_registered_domain_knows_public_suffixes(host, registered):
    assert normal_forms.registered_domain(host) == registered


@pytest.mark.parametrize(
    "spelling",
    [
        "anna@münchen.example",
        "MAILTO:Anna@München.example?subject=Hi",
        "Anna Roux <ANNA@xn--mnchen-3ya.example>",
        "<anna@mu\u0308nchen.example>",
        "\ufeffan\u200bna@münchen.example\u00a0",
        "mailto:<anna@münchen.example>",
    ],
)
def test_email_is_the_bare_address_for_all_spellings(spelling):
    assert normal_forms.email(spelling) == "anna@xn--mnchen-3ya.example"


@pytest.mark.parametrize(
    ("address", "reason"),
    [
        ("anna.loxwell.example", "no @-sign"),
        ("anna@loxwell", "period"),
        ("an na@loxwell.example", "SPACE"),
        ("anna@@loxwell.example", "invalid characters"),
        ("@loxwell.example", "before the @-sign"),
        ("a@loxwell..example", "two periods"),
        ("a@x.example; b@x.example", "invalid characters"),
        ("a@[127.0.0.1]", "IP address"),
    ],
)
def test_email_says_in_plain_words_why_an_address_is_impossible(address, reason):
    with pytest.raises(BadAddressError, match=reason):
        normal_forms.email(address)


@settings(deadline=None)
@given(st.text(max_size=30))
def test_text_of_a_text_is_the_same(value):
    once = normal_forms.text(value)

    assert normal_forms.text(once) == once


@settings(deadline=None)
@given(st.text(st.one_of(st.characters(), st.sampled_from(list("a.:/@w"))), max_size=20))
def test_domain_of_a_domain_is_the_same(value):
    once = normal_forms.domain(value)

    assert once is None or normal_forms.domain(once) == once


@settings(deadline=None)
@given(
    st.text(st.one_of(st.characters(), st.sampled_from(list("aB.<>é"))), max_size=10),
    st.sampled_from(["x.example", "Ü.example"]),
)
def test_email_of_an_email_is_the_same(local, host):
    try:
        once = normal_forms.email(f"{local}@{host}")
    except BadAddressError:
        return

    assert normal_forms.email(once) == once

"""One spelling for each thing that can be asked about, so that several spellings are one question.

Cleaned text is what is sent; the original cells stay as they are. Each form is its own normal form: applying a
function to its own result changes nothing. Letter case of names and companies is kept here and ignored where
questions are compared.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

import idna
import tldextract
from email_validator import EmailNotValidError, validate_email


def _words(words: str) -> frozenset[str]:
    return frozenset(words.split())


# Domains whose addresses say nothing about the company of the person.
FREE_MAIL_DOMAINS = _words(
    """
    gmail.com googlemail.com outlook.com outlook.de outlook.fr hotmail.com hotmail.co.uk hotmail.de hotmail.fr
    hotmail.it hotmail.es live.com live.co.uk live.fr live.nl msn.com yahoo.com yahoo.co.uk yahoo.de yahoo.fr yahoo.it
    yahoo.es ymail.com icloud.com me.com mac.com aol.com gmx.com gmx.de gmx.net gmx.at gmx.ch web.de t-online.de
    freenet.de posteo.de mailbox.org proton.me protonmail.com tutanota.com mail.com zoho.com fastmail.com hey.com
    orange.fr wanadoo.fr free.fr laposte.net sfr.fr libero.it virgilio.it alice.it tiscali.it ziggo.nl kpnmail.nl
    planet.nl bluewin.ch wp.pl o2.pl onet.pl interia.pl seznam.cz yandex.ru yandex.com mail.ru bk.ru qq.com 163.com
    126.com naver.com btinternet.com sky.com comcast.net verizon.net att.net
    """
)
# Sites on which companies have a page: their domain is not the company's.
LINK_PAGE_DOMAINS = _words(
    """
    linkedin.com lnkd.in facebook.com fb.com instagram.com twitter.com x.com xing.com youtube.com tiktok.com
    linktr.ee bit.ly medium.com github.com crunchbase.com wikipedia.org wixsite.com business.site about.me
    """
)

_PAIRED_BRACKETS = re.compile(r"<([^<>]*)>\s*$")
_SCHEME = re.compile(r"^[a-z][a-z0-9+.-]*:(?://+|(?=[^/\d]))|^//+")
# What IDNA would leave as it is, found out in a tenth of the time.
_PLAIN_HOST = re.compile(r"(?=.{1,253}$)(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)+[a-z0-9]{2,63}")
_IP_ADDRESS = re.compile(r"\d{1,3}(\.\d{1,3}){3}|\[.*\]")
# The list of public suffixes that comes with the package; nothing is fetched and nothing is written to disk.
_extract = tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None)


class BadAddressError(ValueError):
    """No mail could ever reach this address; the text says why in plain words."""


def text(value: str) -> str:
    """Unicode NFC, zero-width and control characters removed, outer white space off, inner runs one space.

    Text without a letter or a digit (`-`, `?`, `…`) is how lists write "nothing", so it is "".
    """
    # White space first: tab and line break are control characters, too, yet part two words.
    spaced = " ".join(value.split())
    if spaced.isascii() and spaced.isprintable():
        return spaced if any(map(str.isalnum, spaced)) else ""
    visible = "".join(char for char in spaced if unicodedata.category(char) not in ("Cc", "Cf"))
    tidy = " ".join(unicodedata.normalize("NFC", visible).split())
    return tidy if any(char.isalnum() for char in tidy) else ""


def domain(value: str) -> str | None:
    """The bare host of a domain, website or e-mail address: lower case, IDNA, without `www.`.

    None when there is no host name with a dot in it: a company's name, an IP address, a broken URL.
    """
    host = text(value).lower()
    while stripped := _SCHEME.match(host):
        host = host[stripped.end() :]
    host = re.split(r"[/?#\\]", host, maxsplit=1)[0]
    host = host.rsplit("@", 1)[-1]
    host = re.sub(r":\d*$", "", host)
    if not host or _IP_ADDRESS.fullmatch(host):
        return None
    ascii_host = host.strip(" .")
    if not _PLAIN_HOST.fullmatch(ascii_host) or "--" in ascii_host:
        try:
            ascii_host = idna.encode(ascii_host, uts46=True).decode("ascii").lower()
        except (idna.IDNAError, UnicodeError):
            return None
    while ascii_host.startswith("www.") and ascii_host.count(".") > 1:
        ascii_host = ascii_host.removeprefix("www.")
    # A last label without a letter is a version, a price or an address of a machine.
    last_label = ascii_host.rpartition(".")[2]
    if "." not in ascii_host or len(last_label) < 2 or not last_label[0].isalpha():
        return None
    return ascii_host


def website(value: str) -> str | None:
    """The domain of a text that is surely one: an address with scheme, path or `www.`, or a host below a public suffix. A
    company may be called Node.js."""
    host = domain(value)
    if host is None or "@" in value:
        return None
    is_address = bool(_SCHEME.match(value)) or "/" in value or value.lower().startswith("www.")
    return host if is_address or _extract(host).suffix else None


@lru_cache(maxsize=8192)
def registered_domain(host: str) -> str:
    """The domain that someone registered: `acme.co.uk` for `shop.acme.co.uk`; `host` where the suffix is unknown."""
    return _extract(host).top_domain_under_public_suffix or ".".join(host.split(".")[-2:])


def email(value: str) -> str:
    """The bare address, lower case, its domain as IDNA: `mailto:`, angle brackets and a name before them off.

    Raises `BadAddressError` for an address that cannot exist. Nothing is looked up.
    """
    address = text(value)
    bracketed = _PAIRED_BRACKETS.search(address)
    if bracketed:
        address = bracketed[1].strip()
    if address.lower().startswith("mailto:"):
        address = address[len("mailto:") :].partition("?")[0].strip()
    if "@" not in address:
        raise BadAddressError("It has no @-sign.")
    try:
        valid = validate_email(address, check_deliverability=False)
    except EmailNotValidError as error:
        raise BadAddressError(str(error)) from None
    return (
        unicodedata.normalize("NFC", valid.local_part.lower())
        + "@"
        + (valid.ascii_domain or valid.domain).lower()
    )


PERSON, COMPANY = "person", "company"
_LINKEDIN_KINDS = {
    "in": PERSON,
    "pub": PERSON,
    "sales/lead": PERSON,
    "sales/people": PERSON,
    "company": COMPANY,
    "school": COMPANY,
    "showcase": COMPANY,
    "sales/company": COMPANY,
}
_LINKEDIN_HOST = re.compile(r"(?:[a-z]{2,3}\.)?linkedin\.com")
_MOST_PAGE = 500


def page(value: str) -> str | None:
    """The address of a profile page: `https`, `www.linkedin.com` for its country hosts, without query, fragment and
    slash at the end. None when there is no host with a path in it."""
    address = _SCHEME.sub("", text(value).strip("<>\"'"), count=1)
    address = re.split(r"[?#]", address, maxsplit=1)[0]
    host, slash, path = address.partition("/")
    plain = domain(host)
    path = "/".join(part for part in path.split("/") if part)
    if plain is None or not slash or not path or any(c.isspace() for c in path) or "@" in host:
        return None
    if _LINKEDIN_HOST.fullmatch(plain):
        plain = "www.linkedin.com"
    result = f"https://{plain}/{path}"
    return result if len(result) <= _MOST_PAGE else None


def kind_of_page(address: str) -> str:
    """`person` or `company` for an address in its normal form whose path says so, else ""."""
    host, _, path = address.removeprefix("https://").partition("/")
    if host != "www.linkedin.com":
        return ""
    parts = path.lower().split("/")
    # Without a name behind it the address leads to no page of anybody.
    return next(
        (
            kind
            for length in (1, 2)
            if (kind := _LINKEDIN_KINDS.get("/".join(parts[:length]))) and len(parts) > length
        ),
        "",
    )

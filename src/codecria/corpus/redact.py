"""Secrets, e-mail addresses and public IP addresses, replaced by constants that keep the code valid.

Tokens are told by the patterns of detect-secrets (Yelp) and a few more; a string of high entropy counts only right
after a name such as `api_key`, `secret`, `token` or `password`: hashes, UUIDs and test vectors stay.

Not found: passwords that people can remember, names, street addresses, telephone numbers, addresses written as
`user at host dot org` or under the hundreds of top-level names that are words of programs too (`live`, `store`).
"""

from __future__ import annotations

import ipaddress
import math
import re
import string
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from codecria.common.recipe import Recipe

if TYPE_CHECKING:
    from collections.abc import Iterator


class RedactRecipe(Recipe):
    """What is replaced."""

    enabled: bool = True
    emails: bool = True
    secrets: bool = True
    ip_addresses: bool = True


class Redacted(NamedTuple):
    """A text without what was private in it, and how many of each sort were replaced."""

    text: str
    counts: dict[str, int]


class _Found(NamedTuple):
    start: int
    end: int
    sort: str


_PASSES = 4
_PLACEHOLDER = re.compile(r"(?i)example|redacted|x{5}|12345678|abcdef|your[-_]|\*{3}")

# All tokens hold 20 or more of these together; few other words do, and only those are looked at.
_TO_RUNS = bytes(0x61 if chr(b) in string.ascii_letters + string.digits + "_-" else 0x20 for b in range(256))
_RUN = b"a" * 20
_DIGIT_OR_NONE = re.compile(rb"[0-9]|A[KS]IA|hf_")
_MARKS = re.compile(
    rb"A(?:KIA|SIA|BIA|CCA|Iza)|gh[pousr]_|github_pat_|gl[a-z]{2,5}-|GR1348941|eyJ|T3BlbkFJ|pypi-Ag|SG\.|xox[abposr]-"
    rb"|sq0[a-z]{3}-|[rs]k_live_|sk-ant-|hf_|npm_|GOCSPX-|(?:AC|SK)[a-z0-9]{32}|services/T"
    rb"|\d{8}:[\w-]{35}|\.[\w-]{6}\.[\w-]{27}|-us\d|AKCp"
)
_BOUNDED = ("AWS Access Key", "Twilio API Key")
_PLUGINS = (
    "AWS Access Key,GitHub Token,GitLab Token,PyPI Token,SendGrid API Key,Slack Token,Square OAuth Secret,"
    "Stripe Access Key,Twilio API Key"
)
_JWT = "JSON Web Token"
_MORE_TOKENS = (
    # The plugins' own patterns for these two leave the signature, and take quadratic time.
    (_JWT, re.compile(r"(?<![\w-])eyJ[\w=-]+\.[\w=-]+(?:\.[\w.+/=-]*)?", re.ASCII)),
    ("OpenAI Token", re.compile(r"(?<![\w-])sk-[\w-]{20,200}?T3BlbkFJ[\w-]{20,200}", re.ASCII)),
    ("Anthropic Token", re.compile(r"(?<![\w-])sk-ant-[\w-]{32,}", re.ASCII)),
    ("GitHub Token", re.compile(r"github_pat_\w{36,}", re.ASCII)),
    ("Google API Key", re.compile(r"AIza[\w-]{35}(?![\w-])", re.ASCII)),
    ("Google Client Secret", re.compile(r"GOCSPX-[\w-]{28}(?![\w-])", re.ASCII)),
    ("Hugging Face Token", re.compile(r"(?<!\w)hf_[A-Za-z]{34}(?!\w)")),
    ("Artifactory Key", re.compile(r"(?<![\w+/=])AKCp[A-Za-z0-9]{20,}(?![\w+/=])", re.ASCII)),
    ("Discord Token", re.compile(r"(?<![\w.-])[MNO][\w-]{23,25}\.[\w-]{6}\.[\w-]{27,38}(?![\w-])", re.ASCII)),
    ("Mailchimp Key", re.compile(r"(?<!\w)[0-9a-f]{32}-us\d{1,2}(?!\w)", re.ASCII)),
    ("Telegram Token", re.compile(r"(?<![\w:])\d{8,10}:[\w-]{35}(?![\w-])", re.ASCII)),
    ("npm Token", re.compile(r"(?<!\w)npm_[A-Za-z0-9]{36}(?!\w)")),
)
_PRIVATE_KEY = re.compile(r"-----(BEGIN|END) [A-Z0-9 ]{0,20}PRIVATE KEY(?: BLOCK)?-----")
_KEY_CHARACTERS = 20_000
_KEY_LINES = re.compile(r"(?:[\s\"'\\+,;#*/n]{0,40}?[A-Za-z0-9+/=]{40,}){2,}")
_BASE64 = re.compile(r"[A-Za-z0-9+/=]{16,}")

_PASSWORD_IN_URL = re.compile(
    r"://([\w.~!-]+):(?!\1@)([\w.~!#&*+=^-]{4,})@(?!localhost|127\.|(?:[\w-]+\.)*example\.)", re.ASCII
)
_NO_PASSWORD = re.compile(r"(?i:.*(?:pass|secret|user|test|admin|token|repo))|[A-Z_]+$")
_VALUE = re.compile(r"[=\"'`]([A-Za-z0-9+/_-]{20,}={0,2})(?![\w+/.-])")
_NAME = re.compile(
    r"(?i)(?:(?P<sure>secret|token|passwo?r?d|pwd|credentials?|(?:api|app|access|account|auth|client|consumer|encryption|"
    r"master|private|service|signing|subscription)[-_ ]?key)|key)"
    r"\w{0,12}[\"'`\])]*\s*[:=(,][=>]{0,2}\s*[rbuf]*[\"'`(]*\Z"
)
_NAME_CHARACTERS = 60
_HASH = re.compile(
    r"(?i)sha\d|md5|hash|digest|checksum|integrity|fingerprint|public|pub_?key|uuid|commit|etag|nonce|websocket"
)
_UUID = re.compile(r"(?i)[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_HEX = re.compile(r"[0-9a-f]+|[0-9A-F]+")
_DIGIT = re.compile(r"\d", re.ASCII)
_WORD = re.compile(r"[A-Z]?[a-z]{3,}")

_AT_HOST = re.compile(
    r"@((?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)+(?:(?i:com|org|net|edu|gov|mil|int|info|biz|dev|app|name|email|xyz"
    r"|cloud|tech|online|agency|academy|consulting|engineering|software|solutions|museum|mobi|asia)"
    r"|(?!js|py|rb|rs|sh|ts|go|cs|hs|mm|md|cc|ps|so)[a-z]{2}))(?![\w(-])",
    re.ASCII,
)
_LOCAL_PART = re.compile(r"[A-Za-z0-9\u00c0-\u024f][A-Za-z0-9\u00c0-\u024f_.%+-]*\Z")
_IN_URL = re.compile(r"://[^\s/]*\Z")
_NOBODY = re.compile(r"(?i)(?:git|hg|svn|this|super|return|.*no-?reply)\Z")
_EXAMPLE_HOST = re.compile(r"(?i)(?:.*\.)?(?:example\.(?:com|org|net|edu)|example|test|invalid|local)\Z")

_IPV4 = re.compile(r"\.\d{1,3}\.\d{1,3}\.\d{1,3}(?!\w|[.-]\w|/\d)", re.ASCII)
_FIRST_OCTET = re.compile(r"(?<![\w.-])\d{1,3}\Z", re.ASCII)
_IPV6 = re.compile(r":(?<=[23][0-9a-fA-F]{3}:)[0-9a-fA-F]{0,4}:")
_IPV6_WHOLE = re.compile(r"(?<![\w:.])[0-9a-fA-F:]++(?<!:)(?!\w|\.\w|/\d)")
_VERSION = re.compile(
    r"(?i)(?:versi|release|section|chapter|clause|appendix|oid\b|rfc|firmware|driver|build|sdk|product|chrome|\bver\b|\bv\.?"
    r"|§|[=<>~^!]=|[<>~^])(?:\w*\W{0,4}){0,3}\Z"
)


def redact(text: str, recipe: RedactRecipe = RedactRecipe()) -> Redacted:  # noqa: B008
    """Replace secrets and addresses: equal ones by equal constants, and nothing in what was redacted before.

    Sorts: `e-mail`, `ip-address`, `password-in-url`, `private-key`, `secret`, and those of tokens (`github-token`).
    """
    constants: dict[tuple[str, str], str] = {}
    numbers: Counter[str] = Counter()
    counts: Counter[str] = Counter()
    # A replacement may bring to light what stood beside it, rarely.
    for _ in range(_PASSES if recipe.enabled else 0):
        found = _merged(_find(text, recipe))
        if not found:
            break
        pieces: list[str] = []
        end = 0
        for one in found:
            key = (one.sort, text[one.start : one.end])
            if key not in constants:
                numbers[one.sort] += 1
                constants[key] = _constant(*key, numbers[one.sort])
            counts[one.sort] += 1
            pieces += (text[end : one.start], constants[key])
            end = one.end
        text = "".join((*pieces, text[end:]))
    return Redacted(text, dict(counts))


def _find(text: str, recipe: RedactRecipe) -> Iterator[_Found]:
    if recipe.secrets:
        yield from _private_keys(text)
        if _has_marks(text.encode()):
            yield from _tokens(text)
        yield from _secrets_by_name(text)
        for found in _PASSWORD_IN_URL.finditer(text):
            if not _NO_PASSWORD.match(found.group(2)) and not _PLACEHOLDER.search(found.group(2)):
                yield _Found(*found.span(2), "password-in-url")
    if recipe.emails:
        yield from _emails(text)
    if recipe.ip_addresses:
        yield from _ip_addresses(text)


def _merged(found: Iterator[_Found]) -> list[_Found]:
    """In the order of the text; those that overlap are one, of the sort that begins first."""
    merged: list[_Found] = []
    for one in sorted(found, key=lambda one: (one.start, -one.end)):
        if merged and one.start < merged[-1].end:
            merged[-1] = merged[-1]._replace(end=max(one.end, merged[-1].end))
        else:
            merged.append(one)
    return merged


def _constant(sort: str, value: str, number: int) -> str:
    """What the `number`-th value of a sort is replaced by: never itself taken for one."""
    if sort == "ip-address":
        block = ("192.0.2", "198.51.100", "203.0.113")[(number - 1) // 254 % 3]
        return f"2001:db8::{number:x}" if ":" in value else f"{block}.{(number - 1) % 254 + 1}"
    if sort == "e-mail":
        return f"name{number if number > 1 else ''}@example.com"
    return f"redacted-{sort}-{number}" if number > 1 else f"redacted-{sort}"


def _has_marks(data: bytes) -> bool:
    runs = data.translate(_TO_RUNS) + b" "
    at = runs.find(_RUN)
    while at >= 0:
        end = runs.index(b" ", at)
        if _DIGIT_OR_NONE.search(data, at, end) and _MARKS.search(data, max(at - 12, 0), end):
            return True
        at = runs.find(_RUN, end)
    return False


def _tokens(text: str) -> Iterator[_Found]:
    """Tokens of a known form. The plugins' patterns are used; their own loop yields groups, not tokens."""
    # Imported where it is needed: it brings an HTTP client with it.
    from detect_secrets.core.plugins.util import get_mapping_from_secret_type_to_class

    plugins: dict[str, Any] = dict(get_mapping_from_secret_type_to_class())
    patterns = [
        (sort, pattern)
        for sort in _PLUGINS.split(",")
        for pattern in plugins[sort].denylist
        if "aws." not in pattern.pattern
    ]
    for sort, pattern in (*patterns, *_MORE_TOKENS):
        for found in pattern.finditer(text):
            start, end = found.span()
            if sort in _BOUNDED and (text[start - 1 : start].isalnum() or text[end : end + 1].isalnum()):
                continue  # a part of something longer: base64, a hash
            valid = sort != _JWT or plugins[_JWT].is_formally_valid(found.group(0))
            if valid and not _PLACEHOLDER.search(text, start, end):
                yield _Found(start, end, sort.lower().replace(" ", "-"))


def _private_keys(text: str) -> Iterator[_Found]:
    """Whole keys, across pieces of strings and comment marks; a marker without key lines after it is none."""
    for begin in _PRIVATE_KEY.finditer(text):
        end = _PRIVATE_KEY.search(text, begin.end(), begin.end() + _KEY_CHARACTERS)
        body = text[begin.end() : end.start()] if end else ""
        if end and end.group(1) == "END" and 2 * sum(map(len, _BASE64.findall(body))) > len(body):
            yield _Found(begin.start(), end.end(), "private-key")
        elif lines := _KEY_LINES.match(text, begin.end()):
            yield _Found(begin.start(), lines.end(), "private-key")


def _secrets_by_name(text: str) -> Iterator[_Found]:
    for found in _VALUE.finditer(text):
        value, start = found.group(1), found.start()
        if not _looks_random(value):
            continue
        before = text[max(start - _NAME_CHARACTERS, 0) : start + 1].rpartition("\n")[2]
        name = _NAME.search(before)
        # A bare `key` is a test vector or the key of a table more often than a secret.
        if name and (name["sure"] or _share_of_words(value) < 0.3) and not _HASH.search(before):
            yield _Found(*found.span(1), "secret")


def _looks_random(value: str) -> bool:
    if not _DIGIT.search(value) or _UUID.fullmatch(value) or _PLACEHOLDER.search(value):
        return False
    entropy = -sum(count / len(value) * math.log2(count / len(value)) for count in Counter(value).values())
    if _HEX.fullmatch(value):
        return len(value) >= 32 and entropy > 3
    mixed = value not in (value.lower(), value.upper()) or 6 * len(_DIGIT.findall(value)) > len(value)
    return mixed and _share_of_words(value) < 0.6 and entropy > 0.75 * math.log2(min(len(value), 64))


def _share_of_words(value: str) -> float:
    return 1.0 if _HEX.fullmatch(value) else sum(map(len, _WORD.findall(value))) / len(value)


def _emails(text: str) -> Iterator[_Found]:
    for found in _AT_HOST.finditer(text):
        at = found.start()
        local = _LOCAL_PART.search(text[max(at - 64, 0) : at])
        if local is None or _EXAMPLE_HOST.match(found.group(1)) or _NOBODY.match(local.group(0)):
            continue
        start = at - len(local.group(0))
        if text[start - 1 : start] == "\\":  # the first letter belongs to an escape: keep a line end, drop others
            start += 1 if text[start] in "nrt" else -1
        if start < at and not _IN_URL.search(text[max(start - 64, 0) : start]):
            yield _Found(start, found.end(), "e-mail")


def _ip_addresses(text: str) -> Iterator[_Found]:
    for found in _IPV4.finditer(text):
        first = _FIRST_OCTET.search(text[max(found.start() - 4, 0) : found.start()])
        if first is None:
            continue
        start = found.start() - len(first.group(0))
        octets = [int(octet) for octet in text[start : found.end()].split(".")]
        # Small numbers are a version, a section or an object identifier, and a network is nobody's address.
        if max(octets) < 32 or max(octets[:3]) < 10 or octets[-1] == 0:
            continue
        before = text[max(start - 40, 0) : start].rpartition("\n")[2]
        if _is_public(text[start : found.end()]) and not _VERSION.search(before):
            yield _Found(start, found.end(), "ip-address")
    for found in _IPV6.finditer(text):
        whole = _IPV6_WHOLE.match(text, found.start() - 4)
        if whole and _is_public(whole.group(0)):
            yield _Found(*whole.span(), "ip-address")


def _is_public(address: str) -> bool:
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return False
    return parsed.is_global and not parsed.is_multicast

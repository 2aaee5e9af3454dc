"""Who may ask. A server on loopback is within reach of every web page its user opens; so keys are not all there is.

A page elsewhere can send a request without being allowed to read the answer, or make its own name point to 127.0.0.1
and read it. The first names its origin, the second the wrong host: both are refused unless they are named.
"""

from __future__ import annotations

import hmac
import ipaddress
from typing import TYPE_CHECKING

from codecria.serving.problems import Forbidden, Unauthorised

if TYPE_CHECKING:
    from collections.abc import Mapping

    from codecria.serving.settings import Settings

_BEARER = "bearer "


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


def check_origin(headers: Mapping[str, str], settings: Settings) -> None:
    """Refuse pages of other origins, and on loopback names that are not this machine's.

    Raises:
        Forbidden: the request comes from such a page.
    """
    host = headers.get("host", "")
    name = _host_name(host)
    if is_loopback(settings.host) and name and not is_loopback(name) and name not in settings.hosts:
        raise Forbidden(f"this server is not called '{name[:100]}'", mend="name it with --allow-host")
    origin = headers.get("origin")
    if origin is None or origin in settings.origins or "*" in settings.origins:
        return
    if not host or origin.partition("://")[2] != host:
        raise Forbidden(f"pages of '{origin[:100]}' may not ask here", mend="name it with --allow-origin")


def check_key(headers: Mapping[str, str], settings: Settings) -> None:
    """Compare the key in a time that does not tell how much of it was right.

    Raises:
        Unauthorised: it is missing or wrong.
    """
    if settings.api_key is None:
        return
    value = headers.get("authorization", "")
    given = value[len(_BEARER) :].strip() if value.lower().startswith(_BEARER) else headers.get("x-api-key", "")
    # A header is read as Latin-1, which is what browsers send; curl sends what was typed, mostly UTF-8.
    sent = (given.encode("latin-1"), given.encode())
    if not any(hmac.compare_digest(each, settings.api_key.encode()) for each in sent):
        raise Unauthorised("Invalid API Key", mend="send it as 'Authorization: Bearer KEY'")


def _host_name(host: str) -> str:
    if host.startswith("["):
        return host[1:].partition("]")[0]
    return host.rpartition(":")[0] if host.count(":") == 1 else host

"""The page's files. They are read once and named here, so that nothing in a request reaches the file system."""

from __future__ import annotations

import functools
import gzip
import hashlib
import secrets
from importlib import resources
from typing import TYPE_CHECKING

from codecria.serving.problems import NotFound
from codecria.serving.routes import Reply

if TYPE_CHECKING:
    from collections.abc import Mapping

    from codecria.serving.routes import Call

_SCRIPT = "text/javascript; charset=utf-8"
_MEDIA = {
    "chat.js": _SCRIPT,
    "codemirror.js": _SCRIPT,
    "codemirror.LICENCES.txt": "text/plain; charset=utf-8",
    "editor.js": _SCRIPT,
    "figures.js": _SCRIPT,
    "ghost.js": _SCRIPT,
    "icon.svg": "image/svg+xml",
    "main.js": _SCRIPT,
    "page.css": "text/css; charset=utf-8",
    "server.js": _SCRIPT,
}
# Nothing from elsewhere, no inline scripts. CodeMirror writes its own style sheet, which the nonce lets through.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'nonce-{nonce}'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_ALWAYS = {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}


async def page(_call: Call) -> Reply:
    """GET / of a browser."""
    nonce = secrets.token_urlsafe(16)
    headers = {**_ALWAYS, "content-security-policy": _POLICY.format(nonce=nonce), "cache-control": "no-store"}
    html = _read("index.html").decode().replace("{{nonce}}", nonce).replace("{{version}}", _version())
    return Reply(html, media="text/html; charset=utf-8", headers={**headers, "vary": "accept"})


async def asset(call: Call) -> Reply:
    """GET /page/VERSION/NAME. The version is a sum over all files: a new one is a new address.

    Raises:
        NotFound: there is no such file, or it is another version's.
    """
    name = call.path["name"]
    if name not in _MEDIA or call.path["version"] != _version():
        raise NotFound("File Not Found", where="/page", mend="load / anew")
    headers = {**_ALWAYS, "cache-control": "public, max-age=31536000, immutable", "vary": "accept-encoding"}
    if not _takes_gzip(call.headers):
        return Reply(_read(name), media=_MEDIA[name], headers=headers)
    return Reply(_packed(name), media=_MEDIA[name], headers={**headers, "content-encoding": "gzip"})


def asks_for_a_page(call: Call) -> bool:
    """Whether a browser asks: others who come to `/` do not name HTML."""
    return "text/html" in call.headers.get("accept", "")


def _takes_gzip(headers: Mapping[str, str]) -> bool:
    offered = [each.strip().lower() for each in headers.get("accept-encoding", "").split(",")]
    return any(each == "gzip" or (each.startswith("gzip;") and not each.endswith("q=0")) for each in offered)


@functools.cache
def _read(name: str) -> bytes:
    return resources.files("codecria.serving.page").joinpath("assets", name).read_bytes()


@functools.cache
def _packed(name: str) -> bytes:
    return gzip.compress(_read(name), mtime=0)


@functools.cache
def _version() -> str:
    whole = hashlib.sha256()
    for name in sorted(_MEDIA):
        whole.update(_read(name))
    return whole.hexdigest()[:16]

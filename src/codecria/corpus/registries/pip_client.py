"""Run by the interpreter whose pip is asked: finds one package in pip's indexes and downloads it, never building it.

`pip download` runs an sdist's build to learn what it depends on. This asks pip's finder and pip's session, with the
indexes, credentials, certificates and proxies pip is set up with, for the file alone (pip 22.3 to 26.3).
The arguments are pip's options, then `name` or `name==version`, and the file's name or "" for the newest: an sdist
(it has the tests and the documentation), else a wheel. The last line printed is the version, or what is wrong.
"""

from __future__ import annotations

import hashlib
import logging
import sys
from http.client import responses
from pathlib import Path
from typing import TYPE_CHECKING

from pip._internal.commands.download import DownloadCommand
from pip._vendor.packaging.requirements import Requirement

if TYPE_CHECKING:
    from optparse import Values

    from pip._internal.models.link import Link
    from pip._internal.network.session import PipSession

_MISSING = 3
_BLOCK_BYTES = 1 << 20


class _Unread(logging.Handler):
    """The index pages pip could not read: it passes over them in silence, as over a 404."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.why: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        text = record.getMessage()
        if text.startswith("Could not fetch URL") and " 404 " not in text:
            self.why.append(text)


class _Fetch(DownloadCommand):
    def run(self, options: Values, args: list[str]) -> int:
        requirement, file = Requirement(args[0]), args[1]
        unread = _Unread()
        logger = logging.getLogger("pip._internal.index.collector")
        logger.addHandler(unread)
        logger.setLevel(logging.DEBUG)
        session = self.get_default_session(options)
        finder = self._build_package_finder(options, session, ignore_requires_python=True)
        found = [one for one in finder.find_all_candidates(requirement.name) if file in ("", one.link.filename)]
        if unread.why and not (file and found):
            print(unread.why[0])
            return 1
        offered = [one for one in found if requirement.specifier or not one.link.is_yanked]
        versions = set(requirement.specifier.filter([one.version for one in offered]))
        if not versions:
            print(f"pip finds no {file or args[0]}")
            return _MISSING
        newest = [one.link for one in offered if one.version == max(versions)]
        link = max(newest, key=lambda one: (not one.is_wheel, one.filename.endswith("-any.whl"), one.filename))
        wrong = _download(link, session, Path(options.download_dir) / link.filename)
        print(f"{wrong}: {link.filename}" if wrong else max(versions))
        return 0 if not wrong else _MISSING if wrong.startswith("404 ") else 1


def _download(link: Link, session: PipSession, file: Path) -> str:
    """What is wrong, if anything. pip's session reads `file:` too."""
    answer = session.get(link.url_without_fragment, headers={"Accept-Encoding": "identity"}, stream=True)
    if answer.status_code != 200:
        return f"{answer.status_code} {responses.get(answer.status_code, '')}"
    state = hashlib.new(link.hash_name or "sha256")
    with file.open("wb") as target:
        for block in answer.iter_content(_BLOCK_BYTES):
            target.write(block)
            state.update(block)
    size = file.stat().st_size
    whole = link.hash == state.hexdigest() if link.hash else int(answer.headers.get("Content-Length", size)) == size
    return "" if whole else "cut short, or not the bytes the index names"


if __name__ == "__main__":
    sys.exit(_Fetch("download", "").main(sys.argv[1:]))

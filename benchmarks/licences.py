"""Which licence a file is under: our rules against what Debian's people wrote into debian/copyright.

By our rules: the file's header, else what the nearest folder above it states (package metadata, then licence files).
`debian/` is hidden from them; its copyright file is the truth, errors and all. Names without an SPDX name are unknown.

    python benchmarks/licences.py [FOLDER]

FOLDER holds source packages (.dsc and archives); without it a dozen are fetched with apt into the cache folder.
"""

from __future__ import annotations

import json
import platform
import re
import sys
import tempfile
from collections import Counter, defaultdict
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from codecria.common.files import cache_folder
from codecria.corpus.debian_copyright import CopyrightFile
from codecria.corpus.languages import code_language, prose_language
from codecria.corpus.licence import is_licence_file, is_permissive, licence_in_header, licence_of_text
from codecria.corpus.licence_metadata import is_package_file, licence_of_package_file
from codecria.corpus.reading import decode
from codecria.corpus.registries.clients import Apt
from codecria.corpus.sources.files import nearest_licence
from codecria.corpus.sources.members import Member, members

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

PACKAGES = "leveldb lua-lpeg libwww-perl haskell-vector jackson-core php-monolog luarocks lz4 tmux spdlog re2 libuv1"


class Verdict(NamedTuple):
    """What was found for a file and by which evidence, and what Debian says."""

    package: str
    path: str
    language: str
    evidence: str
    found: str
    truth: str


def fetched(folder: Path) -> Path:
    missing = [folder / name for name in PACKAGES.split() if not list((folder / name).glob("*.dsc"))]
    with tempfile.TemporaryDirectory() as private:
        apt = Apt(Path(private)) if missing else None
        for there in missing:
            there.mkdir(parents=True, exist_ok=True)
            apt.fetch_source(there.name, there)
    return folder


def read_package(description: Path) -> dict[str, str]:
    """The text of every file of interest by its path, and that of debian/copyright."""
    texts: dict[str, str] = {}
    written = description.read_text(errors="replace")
    for name in re.findall(r"^ [0-9a-f]{64} \d+ (\S+\.tar\.[a-z0-9]+)$", written, re.MULTILINE):
        component = re.search(r"\.orig-([A-Za-z0-9-]+)\.tar", name)
        for member in members(str(description.parent / name), is_of_interest):
            path = member.path if ".debian.tar" in name else member.path.partition("/")[2]
            path = f"{component[1]}/{path}" if component else path
            text = decode(member.data) if isinstance(member, Member) else None
            if isinstance(text, str) and path.startswith("debian/") == (".debian.tar" in name):
                texts[path] = text
    return texts


def is_of_interest(path: str) -> bool:
    name = path.rpartition("/")[2]
    by_name = (code_language, prose_language, is_licence_file, is_package_file)
    return path == "debian/copyright" or any(knows(name) for knows in by_name)


def judge(package: str, texts: dict[str, str]) -> Iterator[Verdict]:
    """A verdict for every file in a known language that debian/copyright names."""
    truth = CopyrightFile.parse(texts.get("debian/copyright", ""))
    texts = {path: text for path, text in texts.items() if not path.startswith("debian/")}
    stated: dict[str, str] = {}
    evidence: dict[str, str] = {}
    for kind in ("metadata", "licence file"):
        for path, text in sorted(texts.items()):
            folder, _, name = path.rpartition("/")
            if kind == "metadata":
                found = licence_of_package_file(name, text)
            else:
                found = licence_of_text(text) if is_licence_file(name) else None
            if found and folder not in stated:
                stated[folder], evidence[folder] = found, kind
    for path, text in texts.items():
        name = path.rpartition("/")[2]
        language, licence = code_language(name) or prose_language(name), truth.licence_of(path)
        if language and licence and not is_licence_file(name):
            header = licence_in_header(text)
            how = "header" if header else nearest_licence(evidence, path) or "none"
            yield Verdict(package, path, language, how, header or nearest_licence(stated, path) or "unknown", licence)


def permissive(expression: str) -> str:
    """yes, no, or unknown where that hangs on a licence without an SPDX name."""
    best = re.sub(r"LicenseRef-(?!restricted|proprietary)[A-Za-z0-9.-]+|unknown", "MIT", expression)
    return "yes" if is_permissive(expression) else "unknown" if is_permissive(best) else "no"


def family(expression: str) -> str:
    """Licences without versions, exceptions, AND and OR, in a fixed order; X11 is MIT, BSD of any clauses BSD."""
    names = re.split(" OR | AND ", re.sub(r" WITH [A-Za-z0-9.-]+|[()]|LicenseRef-", "", expression))
    return " ".join(sorted({re.sub(r"-(?:\d.*|Perl)$", "", name).replace("X11", "MIT") for name in names}))


def figures(verdicts: Iterable[Verdict]) -> dict[str, float]:
    """Precision and recall of "permissive", and of the family; only where the truth is known."""
    known = [(permissive(v.found), permissive(v.truth), v) for v in verdicts if permissive(v.truth) != "unknown"]
    taken = [truth for found, truth, _ in known if found == "yes"]
    truths = [truth for _, truth, _ in known]
    named = [family(v.found) == family(v.truth) for found, _, v in known if found != "unknown"]
    counts = {
        "precision": (taken.count("yes"), len(taken)),
        "recall": (taken.count("yes"), truths.count("yes")),
        "no_taken_for_yes": (taken.count("no"), truths.count("no")),
        "family_precision": (sum(named), len(named)),
        "family_recall": (sum(named), len(known)),
    }
    return {name: round(part / whole, 4) if whole else 1.0 for name, (part, whole) in counts.items()}


def show(verdicts: list[Verdict], title: str) -> None:
    print(f"\n{title:20}{'files':>8}{'precision':>11}{'recall':>8}{'family':>8}")
    groups: dict[str, list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        groups[getattr(verdict, title)].append(verdict)
    for name, group in sorted(groups.items(), key=lambda item: -len(item[1])):
        row = figures(group)
        print(f"{name:20}{len(group):8,}{row['precision']:11.4f}{row['recall']:8.4f}{row['family_precision']:8.4f}")


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else fetched(cache_folder() / "licences")
    verdicts: list[Verdict] = []
    for description in sorted(folder.rglob("*.dsc")):
        verdicts += judge(description.stem.partition("_")[0], read_package(description))
    show(verdicts, "language")
    show(verdicts, "evidence")
    wrong = [verdict for verdict in verdicts if family(verdict.found) != family(verdict.truth)]
    examples = {(verdict.truth, verdict.found): f"{verdict.package}/{verdict.path}" for verdict in reversed(wrong)}
    print("\nDebian says | we say: files, the first of them")
    for (truth, found), count in Counter((verdict.truth, verdict.found) for verdict in wrong).most_common(25):
        print(f"{truth} | {found}: {count:,}, {examples[truth, found]}")
    counts = {"files": len(verdicts), "packages": len({verdict.package for verdict in verdicts})}
    versions = {"python": platform.python_version(), **{name: version(name) for name in ("codecria", "packaging")}}
    print(json.dumps({**figures(verdicts), **counts, "versions": versions}))


if __name__ == "__main__":
    main()

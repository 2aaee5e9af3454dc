"""The licence a package states in its own metadata: Python, npm, Rust, Java, PHP, Ruby, .NET, Perl, R and others.

Several licences in a list are a choice where the format says so (npm, Composer, Maven, RubyGems), else all hold.
Nothing is run and nothing fetched; a file that cannot be read states no licence.
"""

from __future__ import annotations

import json
import re
import tomllib
from configparser import ConfigParser
from configparser import Error as ConfigError
from email.parser import HeaderParser
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

from codecria.corpus.debian_copyright import expression_of
from codecria.corpus.licence import all_of, canonical, licence_of_text, most_exact, named

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_PERL_PAIRS = """
apache_2_0:Apache-2.0 artistic_2:Artistic-2.0 bsd:BSD-3-Clause freebsd:BSD-2-Clause gpl_2:GPL-2.0-only
gpl_3:GPL-3.0-only lgpl_2_1:LGPL-2.1-only lgpl_3_0:LGPL-3.0-only mit:MIT perl:Perl perl_5:Perl
"""
_PERL = {name: spdx for name, _, spdx in (pair.partition(":") for pair in _PERL_PAIRS.split())}
"""License names of CPAN's META files."""


def is_package_file(name: str) -> bool:
    """Whether a file of this name (without folders) may hold a package's metadata."""
    return _reader(name) is not None


def licence_of_package_file(name: str, text: str) -> str | None:
    """The SPDX expression a package's metadata file states, or None.

    Args:
        name: of the file, without folders.
        text: all of it.
    """
    reader = _reader(name)
    try:
        return reader(text) if reader else None
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError, ConfigError, ElementTree.ParseError):
        return None


def licence_of_metadata(expression: str | None, classifiers: Iterable[str], field: str | None) -> str | None:
    """The licence a Python package's metadata states; `LicenseRef-BSD` where it says BSD and not which.

    Args:
        expression: `License-Expression` (PEP 639).
        classifiers: all `Classifier` lines.
        field: `License`: an identifier, a name, or a whole licence text.
    """
    if expression and expression.strip():
        return canonical(expression.strip()) or expression.strip()
    stated = [named(field) if field else None, *map(_of_classifier, classifiers)]
    return all_of(most_exact(name for name in stated if name)) or None


def _of_classifier(line: str) -> str | None:
    """The licence a `Classifier` names, as `LicenseRef-NAME` where that is all that is known of it."""
    name = line.rpartition(" :: ")[2].strip()
    if not line.startswith("License :: ") or name in ("OSI Approved", "DFSG approved"):
        return None
    short = re.search(r"\((.+)\)$", name)
    slug = re.sub(r"[^A-Za-z0-9.]+", "-", name).strip("-")
    return named(name) or (short and canonical(short[1])) or f"LicenseRef-{slug}"


def _reader(name: str) -> Callable[[str], str | None] | None:
    return next((reader for pattern, reader in _READERS if re.fullmatch(pattern, name)), None)


def _any_of(stated: Any) -> str | None:
    """A name, an object with one, or a list of them to choose from."""
    names = map(_one, stated if isinstance(stated, list) else [stated])
    return " OR ".join(dict.fromkeys(name for name in names if name)) or None


def _one(stated: Any) -> str | None:
    written = stated.get("type") or stated.get("name") if isinstance(stated, dict) else stated
    if not isinstance(written, str) or written.upper().startswith("SEE LICEN"):
        return None
    return "LicenseRef-proprietary" if written.lower() == "unlicensed" else named(written)


def _npm(text: str) -> str | None:
    package = json.loads(text)
    return _any_of(package.get("license") or package.get("licenses"))


def _cargo(text: str) -> str | None:
    manifest = tomllib.loads(text)
    return _one((manifest.get("package") or manifest["workspace"]["package"])["license"])


def _pyproject(text: str) -> str | None:
    tables = tomllib.loads(text)
    project = tables.get("project") or tables["tool"]["poetry"]
    stated = project.get("license")
    return licence_of_metadata(
        None, project.get("classifiers", []), stated.get("text") if isinstance(stated, dict) else stated
    )


def _core_metadata(text: str) -> str | None:
    fields = HeaderParser().parsestr(text)
    return licence_of_metadata(fields["License-Expression"], fields.get_all("Classifier") or [], fields["License"])


def _setup_cfg(text: str) -> str | None:
    parser = ConfigParser(interpolation=None, strict=False)
    parser.read_string(text)
    fields = parser["metadata"]
    return licence_of_metadata(None, fields.get("classifiers", "").split("\n"), fields.get("license"))


def _setup_py(text: str) -> str | None:
    field = re.search(r"""\blicense\s*=\s*["']([^"'\n]+)["']""", text)
    return licence_of_metadata(None, re.findall(r"License :: [^\"'\n]+", text), field and field[1])


def _xml(text: str, path: str) -> list[ElementTree.Element]:
    if "<!DOCTYPE" in text:  # entities may be declared there that grow without end
        raise ValueError("declares a document type")
    return ElementTree.fromstring(text).findall(path)


def _pom(text: str) -> str | None:
    licences = _xml(text, "{*}licenses/{*}license")
    return _any_of([_one(one.findtext("{*}name")) or licence_of_text(one.findtext("{*}url", "")) for one in licences])


def _nuspec(text: str) -> str | None:
    stated = [one for one in _xml(text, "{*}metadata/{*}license") if one.get("type") == "expression"]
    addresses = _xml(text, "{*}metadata/{*}licenseUrl")
    return _any_of([one.text for one in stated]) or licence_of_text(" ".join(one.text or "" for one in addresses))


def _meta_json(text: str) -> str | None:
    stated = json.loads(text)["license"]
    written = stated if isinstance(stated, list) else [stated]
    if set(written) <= {"unknown"}:
        return None
    names = [_PERL.get(name) or name.replace("_", "-") for name in written]
    return expression_of(", and ".join(names).replace("Perl", "Artistic-1.0-Perl or GPL-1+"))


def _assigned(text: str) -> str | None:
    """`x.license = "MIT"`, `licenses = %w[MIT Ruby]`, `license: BSD3` at the start of a line."""
    stated = re.findall(r"^[ \t]*(?:\w+\.)?licen[cs]es?[ \t]*[:=][ \t]*(.*)$", text, re.MULTILINE | re.IGNORECASE)[0]
    names = re.findall(r"[\"']([^\"']+)[\"']", stated) or re.sub(r"%w|[\[\](){},]", " ", stated).split()
    return _any_of([_PERL.get(name, name) for name in names])


def _r(text: str) -> str | None:
    """`GPL (>= 2) | MIT + file LICENSE`."""
    stated = re.findall(r"^License:[ \t]*(.+)$", text, re.MULTILINE)[0]
    stated = re.sub(r"[ +]*file LICEN[CS]E", "", re.sub(r" ?\(>=? ?([0-9.]+)\)", r"-\1+", stated))
    return expression_of(stated.replace("_", "-").strip("| ")) if "Package:" in text else None


_READERS: tuple[tuple[str, Callable[[str], str | None]], ...] = (
    (r"PKG-INFO|METADATA", _core_metadata),
    (r"pyproject\.toml", _pyproject),
    (r"setup\.cfg", _setup_cfg),
    (r"setup\.py", _setup_py),
    (r"package\.json|composer\.json", _npm),
    (r"Cargo\.toml", _cargo),
    (r"pom\.xml|.+\.pom", _pom),
    (r".+\.nuspec", _nuspec),
    (r"META\.json", _meta_json),
    (r"META\.yml|.+\.(?:gemspec|rockspec|cabal|podspec)", _assigned),
    (r"DESCRIPTION", _r),
)

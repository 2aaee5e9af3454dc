from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codecria.corpus.debian_copyright import CopyrightFile, expression_of
from codecria.corpus.licence import is_permissive

FORMAT = "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n"
PACKAGE = (
    FORMAT
    + """Upstream-Name: example
Files-Excluded: vendor/*

Files: *
Copyright: 2020, Somebody
License: GPL-2+
 This program is free software ...
 .
 A blank line is written as a dot.

Files: lib/*
       doc/a?c.txt
Copyright: 2021, Somebody else
License: Expat

Files: lib/both.c lib/na\\*me.c
Copyright: 2021, Both
License: Expat or
 GPL-2+

License: Expat
 Permission is hereby granted ...
"""
)


@pytest.mark.parametrize(
    ("path", "licence"),
    [
        ("main.c", "GPL-2.0-or-later"),
        ("src/deep/main.c", "GPL-2.0-or-later"),
        ("lib/x.c", "MIT"),
        ("lib/deep/x.c", "MIT"),
        ("library.c", "GPL-2.0-or-later"),
        ("doc/abc.txt", "MIT"),
        ("doc/a/c.txt", "MIT"),
        ("doc/abbc.txt", "GPL-2.0-or-later"),
        ("lib/both.c", "MIT OR GPL-2.0-or-later"),
        ("lib/na*me.c", "MIT OR GPL-2.0-or-later"),
        ("lib/naXme.c", "MIT"),
    ],
)
def test_the_last_stanza_that_names_a_file_counts(path, licence):
    assert CopyrightFile.parse(PACKAGE).licence_of(path) == licence


def test_files_that_are_not_machine_readable_say_nothing():
    for text in ("", "\n\n", "This package was debianized by Somebody.\n\nFiles: *\nLicense: MIT\n", FORMAT):
        assert CopyrightFile.parse(text).licence_of("a.c") is None


def test_a_file_no_stanza_names():
    assert CopyrightFile.parse(FORMAT + "\nFiles: src/*\nLicense: MIT\n").licence_of("a.c") is None


@pytest.mark.parametrize("field", ["", "License:\n This text nobody knows.\n", "License: ,\n"])
def test_a_stanza_whose_licence_cannot_be_read_is_not_under_another(field):
    text = f"{FORMAT}\nFiles: *\nLicense: Expat\n\nFiles: ee/*\nCopyright: B\n{field}"
    parsed = CopyrightFile.parse(text)
    assert (parsed.licence_of("a.c"), parsed.licence_of("ee/a.c")) == ("MIT", "unknown")


def test_older_forms_and_careless_ones():
    text = (
        "\ufeffFormat-Specification: http://svn.debian.org/wsvn/dep/web/deps/dep5.mdwn?rev=174\r\n \t\r\n"
        "files: ./a.c, b/, calc.[ch], [id].js\r\nlicense:\r\n MIT\r\n  text\r\n\r\n\r\n"
        "Files: prose.c\r\nLicense: Permission to use, copy, modify, and distribute this software for any\r\n"
        " purpose with or without fee is hereby granted, provided that the above copyright\r\n"
    )
    parsed = CopyrightFile.parse(text)
    for path in ("a.c", "b/c.c", "calc.c", "calc.h", "[id].js"):
        assert parsed.licence_of(path) == "MIT", path
    assert parsed.licence_of("prose.c") == "ISC"
    assert parsed.licence_of("b.c") is None


@pytest.mark.parametrize(
    ("synopsis", "expression"),
    [
        ("Expat", "MIT"),
        ("MIT/X11", "MIT"),
        ("X11", "X11"),
        ("BSD-3-clause", "BSD-3-Clause"),
        ("BSD-2", "BSD-2-Clause"),
        ("BSD3", "BSD-3-Clause"),
        ("BSD-3-clause-Google", "BSD-3-Clause"),
        ("BSD-3-Clause-LBNL", "BSD-3-Clause-LBNL"),
        ("GPL", "GPL-1.0-or-later"),
        ("GPL-2", "GPL-2.0-only"),
        ("GPL-2+", "GPL-2.0-or-later"),
        ("GPL-2.0+", "GPL-2.0-or-later"),
        ("GPLv3+", "GPL-3.0-or-later"),
        ("GPL-2.0-or-later", "GPL-2.0-or-later"),
        ("LGPL-2.1+", "LGPL-2.1-or-later"),
        ("LGPL", "LGPL-2.0-or-later"),
        ("LPGL-2.1+", "LGPL-2.1-or-later"),
        ("AGPL-3", "AGPL-3.0-only"),
        ("GFDL-NIV-1.3+", "GFDL-1.3-no-invariants-or-later"),
        ("Apache-2", "Apache-2.0"),
        ("Artistic", "Artistic-1.0"),
        ("Artistic-2", "Artistic-2.0"),
        ("Boost-1.0", "BSL-1.0"),
        ("CC0", "CC0-1.0"),
        ("Zlib", "Zlib"),
        ("public-domain", "LicenseRef-public-domain"),
        ("Plumb-PD", "LicenseRef-public-domain"),
        ("GPL-1+ or Artistic", "GPL-1.0-or-later OR Artistic-1.0"),
        ("GPL-1+ or Artistic, and Expat", "(GPL-1.0-or-later OR Artistic-1.0) AND MIT"),
        ("Expat, and GPL-1+ or Artistic", "MIT AND (GPL-1.0-or-later OR Artistic-1.0)"),
        ("Expat or BSD-2-clause and ISC", "MIT OR BSD-2-Clause AND ISC"),
        ("Expat, ISC, or Zlib", "MIT OR ISC OR Zlib"),
        ("LGPLv3+_or_GPLv2+", "LGPL-3.0-or-later OR GPL-2.0-or-later"),
        ("GPL-2+ with Autoconf exception", "GPL-2.0-or-later WITH Autoconf-exception-generic"),
        ("GPL-3+-WITH-BISON-EXCEPTION", "GPL-3.0-or-later WITH Bison-exception-2.2"),
        ("GPL-2+ with OpenSSL exception", "GPL-2.0-or-later WITH AdditionRef-OpenSSL"),
        ("Apache-2.0 with LLVM exception or Expat", "Apache-2.0 WITH LLVM-exception OR MIT"),
        ("CC0 license", "CC0-1.0"),
        ("double-metaphone", "LicenseRef-double-metaphone"),
        ("__ODD name__", "LicenseRef-ODD-name"),
        ("", None),
        (" , ", None),
    ],
)
def test_short_names(synopsis, expression):
    assert expression_of(synopsis) == expression


def test_an_exception_does_not_make_the_gpl_permissive():
    assert not is_permissive(expression_of("GPL-2+ with OpenSSL exception"))
    assert is_permissive(expression_of("Expat with embedded exception"))
    assert not is_permissive(expression_of("Expat, and GPL-1+ or Artistic"))


@given(st.text(max_size=300))
def test_no_text_makes_it_fail(text):
    for written in (text, FORMAT + text, f"{FORMAT}\nFiles: {text}\nLicense: {text}\n"):
        CopyrightFile.parse(written).licence_of(text)


@given(
    st.lists(st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1), min_size=1, max_size=5)
)
def test_an_escaped_path_matches_itself(parts):
    path = "/".join(part.replace("/", "") or "x" for part in ["top", *parts])
    escaped = "".join(f"\\{letter}" if letter in "*?\\" else letter for letter in path)
    if not path.endswith(","):
        assert CopyrightFile.parse(f"{FORMAT}\nFiles: {escaped}\nLicense: MIT\n").licence_of(path) == "MIT"


def test_patterns_with_many_stars_take_no_time():
    text = f"{FORMAT}\nFiles: {'*a' * 60}b\nLicense: {'x with ' * 20_000}\n"
    assert CopyrightFile.parse(text).licence_of("a" * 4_000) is None


@pytest.mark.skipif(not Path("/usr/share/doc/bash/copyright").exists(), reason="no Debian")
def test_the_files_of_this_machine():
    stated = 0
    for path in sorted(Path("/usr/share/doc").glob("*/copyright"))[:300]:
        parsed = CopyrightFile.parse(path.read_text(errors="replace"))
        stated += parsed.licence_of("src/main.c") is not None
    assert stated > 100


def test_a_name_of_their_own_means_the_text_that_is_given_for_it():
    bsd = "Redistribution and use in source and binary forms, with or without modification, are permitted provided that"
    text = (
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\n"
        "Files: *\nLicense: Go\n\nFiles: odd/*\nLicense: Odd\n\n"
        f"License: Go\n {bsd} the following conditions are met:\n"
        " Redistributions of source code must retain the above copyright notice. "
        "Neither the name of Google may be used.\n"
    )
    parsed = CopyrightFile.parse(text)
    assert parsed.licence_of("src/fmt/print.go") == "BSD-3-Clause"
    assert parsed.licence_of("odd/one.c") == "LicenseRef-Odd"

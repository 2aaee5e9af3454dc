import gzip
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codecria.corpus.man_pages import man_to_text

MAN = r""".\" a comment
.TH CP 1 "2024" "tools"
.SH NAME
cp \- copy files
.SH SYNOPSIS
.B cp
[\fIOPTION\fR]... \fISOURCE DEST\fR
.SH DESCRIPTION
Copies
.I SOURCE
to
.BR DEST ,
or many of them.
.TP
\fB\-a\fR, \fB\-\-archive\fR
same as
.B \-dR
.PP
For instance:
.nf
    cp a \
       b
.fi
"""
MDOC = r""".Dd January 1, 2024
.Dt TRUE 1
.Os
.Sh NAME
.Nm true
.Nd return true value
.Sh SYNOPSIS
.Nm
.Op Fl v
.Ar file
.Sh DESCRIPTION
The
.Nm
utility always returns 0, unlike
.Xr false 1 .
.Bl -bullet
.It
first
.It
second
.El
"""


def test_man_macros():
    text = man_to_text(MAN)
    assert "# NAME" in text
    assert "cp - copy files" in text
    assert "[OPTION]... SOURCE DEST" in text
    assert "Copies SOURCE to DEST, or many of them." in text
    assert "-a, --archive" in text
    assert "same as -dR" in text
    assert "a comment" not in text
    assert "\\" not in text.replace("a \\", "")


def test_mdoc_macros():
    text = man_to_text(MDOC)
    assert "true – return true value" in text
    assert "true [-v] file" in text
    assert "The true utility always returns 0, unlike false(1)." in text
    assert text.index("first") < text.index("second")
    assert ".Nm" not in text


@pytest.mark.skipif(not Path("/usr/share/man/man1").is_dir(), reason="this machine has no manual pages")
def test_the_pages_of_this_machine():
    pages = sorted(Path("/usr/share/man/man1").glob("[a-d]*.1.gz"))[:150]
    for page in pages:
        source = gzip.decompress(page.read_bytes()).decode("utf-8", "replace")
        text = man_to_text(source)
        if not source.startswith(".so"):
            assert len(text) > 40, page.name
        assert not [line for line in text.split("\n") if line.startswith((".SH ", ".PP", ".TP", ".Nm "))], page.name


def test_hostile_pages_end_soon():
    began_s = time.monotonic()
    loops = (
        ".de a\n.a\n.a\n..\n.a\n",
        ".ds a \\*a\\*a\n\\*a\n",
        ".while 1 x\n",
        ".if 1 " * 50_000,
        "\\" * 200_000,
        ".Bl\n" * 20_000,
    )
    for page in loops:
        assert isinstance(man_to_text(page), str)
    assert time.monotonic() - began_s < 20


@given(st.text(alphabet=".\\'\"[](){}abNmBI*n\n \t", max_size=200))
def test_no_page_makes_it_fail(source):
    assert isinstance(man_to_text(source), str)

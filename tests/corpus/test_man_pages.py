import gzip
import os
import re
import shutil
import subprocess
import time
import unicodedata
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codecria.corpus.man_pages import man_to_text

MAN = r""".\" A comment.
.TH CAT 1 "2020" "x" "User \
Commands"
.ds Aq \(aq
.SH NAME
cat \- concatenate files \" and a comment
.SH SYNOPSIS
.SY cat
.OP \-n
.RI [ FILE ]...
.YS
.SH "OPTIONS AND MORE"
First line
\fIsecond\fP line.
.PP
Another \*(Aqparagraph\*(Aq \(em it\(cqs \[lq]na\[:i]ve\[rq], caf\('e, \[u2014], 50\|%.
.TP
.BR \-n ", " \-\-number
number \f[B]all\f[] lines
.IP
and more
.TP 8
\-x
.RS
.IP \(bu 2
one
.IP \(bu
two
.RE
.IP 1. 4
first
.SS Code
See:
.nf
  a = \(dqb\e0\(dq;

  c
.fi
.UR https://example.org
the site
.UE .
A line \c
that goes on.
.B Bold words
.br
Last.
"""


def test_man():
    assert man_to_text(MAN) == (
        "# NAME\n\ncat - concatenate files\n\n# SYNOPSIS\n\ncat [-n] [FILE]...\n\n# OPTIONS AND MORE\n\n"
        "First line second line.\n\nAnother 'paragraph' — it’s “naïve”, café, —, 50%.\n\n"
        "-n, --number\n    number all lines\n\n    and more\n\n-x\n\n    - one\n\n    - two\n\n1. first\n\n"
        '## Code\n\nSee:\n\n```\n  a = "b\\0";\n\n  c\n```\n\n'
        "the site <https://example.org>. A line that goes on. Bold words\nLast.\n"
    )


MDOC = r""".Dd May 1, 2020
.Dt LS 1
.Os
.Sh NAME
.Nm ls ,
.Nm dir
.Nd list directories
.Sh SYNOPSIS
.Nm
.Op Fl a Ns | Ns Fl l
.Op Fl D Ar format
.Ar
.In sys/types.h
.Ft int
.Fn scan "const char *name" "int flags"
.Fo scan2
.Fa "int a"
.Fa "int b"
.Fc
.Sh DESCRIPTION
The
.Nm
utility, see
.Xr sh 1 ,
.Pq Pa /etc/x .
Use
.Fl Fl long
or
.Dq quoted words .
.Bl -tag -width Ds
.It Fl a , Fl Fl all
All.
.Pp
More.
.It Ev HOME
Where.
.El
.Bl -bullet
.It
one
.It
two
.El
.Bl -column a b
.It a Ta b
.It c Ta d
.El
.Bd -literal -offset indent
$ ls  -l
.Ed
.Dl $ ls
End.
"""


def test_mdoc():
    assert man_to_text(MDOC) == (
        "# NAME\n\nls, dir – list directories\n\n# SYNOPSIS\n\n"
        "ls [-a|-l] [-D format] file ...\n#include <sys/types.h>\nint\nscan(const char *name, int flags)\n"
        "scan2(int a, int b)\n\n# DESCRIPTION\n\n"
        "The ls utility, see sh(1), (/etc/x). Use --long or “quoted words”.\n\n"
        "-a, --all\n    All.\n\n    More.\n\nHOME\n    Where.\n\n- one\n\n- two\n\na | b\nc | d\n\n"
        "```\n$ ls  -l\n```\n\n    $ ls\n\nEnd.\n"
    )


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("", ""),
        (".so man1/other.1\n", ""),
        (".ie n .B yes\n.el no\n.if t no\n.if !t also\n", "yes also\n"),
        (".ie n \\{\\\n.B yes\n.\\}\n.el \\{\\\n.B no\n.if n no\n.\\}\nend\n", "yes end\n"),
        (".if 'a'a' same\n.if 'a'b' other\n.if \\n(.g groff\n.if (\\n(rF:1) never\n", "same groff\n"),
        ('.de XX\n.B "\\\\$1"\n\\\\$2 \\\\$*\n..\n.XX "a b" c\n', 'a b c "a b" c\n'),
        (".de XX\nx\n..\n.am XX\ny\n..\n.als YY XX\n.YY\n", "x y\n"),
        (".ig\n.B no\n..\nyes\n", "yes\n"),
        ("\\&.no request, \\&'nor this\n", ".no request, 'nor this\n"),
        ('.B a "b ""c""" \\(dqd\n', 'a b "c" "d\n'),
        (".TS\ntab(;);\nl l.\na;T{\nlong\n.B cell\nT}\n_\nb;c\n.TE\n", "a | long cell\nb | c\n"),
        (".nf\n```\n.fi\n", "````\n```\n````\n"),
        (".EQ\nx over y\n.EN\ntext\n", "text\n"),
    ],
)
def test_requests(source, text):
    assert man_to_text(source) == text


PIECES = [
    "\\[", "\\*a", ".RS\n", ".RE\n", ".if n ", ".if n \\{\n", ".ie n x\n", ".el x\n", ".A\n", ".am A\nx\n..\n", ".TP\n",
    ".Op Op ", ". ", ".TS\nl.\nT{\n", "a\\c\n", '"', ".B \"a\n", "\\", ".nf\n", ".Bl\n.It Xo\n", "'", "\\o'", "a\t",
    "\n", ".It Op\n", ".IP x\n",
]  # fmt: skip


@pytest.mark.parametrize("piece", PIECES)
def test_hostile_pages_take_linear_time(piece):
    bombs = ".ds a xxxxxxxx\n" + ".ds a \\*a\\*a\n" * 60 + ".de A\n.A \\\\$1\\\\$1\n.A\n..\n.A x\n"
    started = time.thread_time()
    text = man_to_text(bombs + piece * (200_000 // len(piece)))
    assert time.thread_time() - started < 10
    assert len(text) < 3_000_000


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from([*PIECES, *MAN.splitlines(True), *MDOC.splitlines(True), "\\}", "..\n", ".TE\n"])))
def test_any_order_of_lines_gives_some_text(lines):
    man_to_text("".join(lines))


def test_a_margin_taken_from_a_list_is_not_missed():
    assert man_to_text(".Bl\n.RE\n.El\n.SH END\nof it\n").rstrip() == "# END\n\nof it"


PAGES = sorted(Path("/usr/share/man/man1").glob("[b-f]*.1.gz"))[::30][:8]


@pytest.mark.skipif(shutil.which("man") is None or not PAGES, reason="no manual here")
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_real_pages_have_the_words_that_man_shows(page):
    environment = os.environ | {"MANWIDTH": "400", "LC_ALL": "C.UTF-8"}
    command = ["man", "--nh", "--nj", "-l", str(page)]
    shown = subprocess.run(command, capture_output=True, text=True, env=environment, check=True).stdout
    ours, theirs = _words(man_to_text(gzip.decompress(page.read_bytes()).decode())), _words(shown)
    header = 30
    assert (theirs - ours).total() <= header + theirs.total() * 0.01
    assert (ours - theirs).total() <= theirs.total() * 0.01


def _words(text):
    plain = re.sub(".\x08", "", unicodedata.normalize("NFKC", text))
    return Counter(re.findall(r"[^\W_]+", plain))

import itertools
import random
import sysconfig
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse.csgraph import connected_components

from codecria.corpus.document import Document, content_hash
from codecria.corpus.languages import CODE_LANGUAGES, PROSE_LANGUAGES
from codecria.corpus.repository_order import RepositoryFile, dependency_order, join_repository


def ordered(*files: tuple[str, str, str]) -> list[str]:
    return [files[place][0] for place in dependency_order([RepositoryFile(*file) for file in files])]


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 30), st.floats(0, 0.4), st.integers(0, 2**32))
def test_an_acyclic_repository_is_in_the_order_of_its_imports_however_it_is_listed(count, density, seed):
    draw = random.Random(seed)
    names = [f"{draw.choice(['', 'a/', 'a/b/', 'c/'])}m{number}" for number in range(count)]
    draw.shuffle(names)
    imports = {name: [other for other in names[:at] if draw.random() < density] for at, name in enumerate(names)}
    files = [
        (f"{name}.py", "Python", "".join(f"from {other.replace('/', '.')} import x\n" for other in imports[name]))
        for name in names
    ]
    draw.shuffle(files)
    order = ordered(*files)
    place = {path: number for number, path in enumerate(order)}
    assert sorted(order) == sorted(path for path, _, _ in files)
    assert all(place[f"{other}.py"] < place[f"{name}.py"] for name in names for other in imports[name])
    draw.shuffle(files)
    assert ordered(*files) == order


@settings(max_examples=100, deadline=None)
@given(st.integers(1, 25), st.floats(0, 0.2), st.integers(0, 2**32))
def test_only_cycles_break_the_order(count, density, seed):
    draw = random.Random(seed)
    imports = {n: {m for m in range(count) if m != n and draw.random() < density} for n in range(count)}
    files = [
        RepositoryFile(f"m{n:02}.py", "Python", "".join(f"import m{m:02}\n" for m in imports[n])) for n in range(count)
    ]
    order = dependency_order(files)
    matrix = np.zeros((count, count), dtype=bool)
    for n, others in imports.items():
        matrix[n, list(others)] = True
    _, cycle = connected_components(matrix, connection="strong")
    assert sorted(order) == list(range(count))
    assert all(order.index(m) < order.index(n) for n in imports for m in imports[n] if cycle[m] != cycle[n])
    for _, together in itertools.groupby(order, key=lambda n: cycle[n]):
        together = list(together)
        assert together == sorted(n for n in range(count) if cycle[n] == cycle[together[0]])


def test_files_that_import_each_other_stay_together_by_path():
    files = [
        ("z.py", "Python", "import b"),
        ("b.py", "Python", "import c, y"),
        ("c.py", "Python", "import a"),
        ("a.py", "Python", "import b"),
        ("y.py", "Python", ""),
    ]
    assert ordered(*files) == ordered(*files[::-1]) == ["y.py", "a.py", "b.py", "c.py", "z.py"]


def test_documentation_comes_first():
    files = [
        ("a.py", "Python", ""),
        ("docs/guide.rst", "reStructuredText", ""),
        ("README.md", "Markdown", "import a"),
        ("a.py#docstrings", "English", ""),
    ]
    assert ordered(*files) == ["README.md", "a.py#docstrings", "docs/guide.rst", "a.py"]


# Each: the file that is imported has the later path, so that order by path alone would be wrong.
IMPORTS = {
    "Python": [
        ("a.py", "from pkg import z", "pkg/z.py"),
        ("pkg/a.py", "from .z import (  # the rest\n    one,\n    two as three)", "pkg/z.py"),
        ("pkg/a.py", "from . import (one,  # why\n    z)", "pkg/z.py"),
        ("pkg/sub/a.py", "from ..z.y import one", "pkg/z/y.py"),
        ("pkg/a.py", "from .z import one", "pkg/z/__init__.py"),
        ("tests/a.py", "import tomllib, z.one as one", "z/one.py"),
        ("bin/a.py", "from z.core import Thing", "src/z/core.py"),
    ],
    "C": [("a.c", ' # include "z.h"', "include/z.h"), ("src/a.c", "#include <z/z.h>", "z/z.h")],
    "C++": [("a.cc", '#include "../z/z.hh"', "../z/z.hh"), ("src/a.cc", '#include "z/z.hh"', "z/z.hh")],
    "Objective-C": [("a.m", '#import "z.h"', "z.h")],
    "JavaScript": [
        ("a.js", "const { b } = require('./z')", "z.js"),
        ("lib/a.js", 'export * from "../z";', "z/index.js"),
        ("a.js", "import './z.mjs'", "z.mjs"),
        ("a.js", "const z = await import('./z.js')", "z.js"),
    ],
    "TypeScript": [
        ("a.ts", "import type { A,\n  B } from './z'", "z.tsx"),
        ("a.ts", "import { A } from './z.js'", "z.ts"),
    ],
    "Java": [
        ("org/x/A.java", "package org.x;\nimport org.y.Z;", "org/y/Z.java", "package org.y;"),
        ("A.java", "import static org.y.Z.one;", "Z.java", "package org.y;"),
        ("A.java", "import org.y.*;", "Z.java", "package org.y;"),
    ],
    "Kotlin": [("A.kt", "package x\nimport org.y.helper", "Z.kt", "package org.y")],
    "Scala": [
        ("A.scala", "import org.y.{B => C, Z}", "Z.scala", "package org.y"),
        ("A.scala", "import org.y._", "Z.scala", "package org.y"),
    ],
    "C#": [("A.cs", "using System;\nusing One.Two;", "Z.cs", "namespace One.Two\n{")],
    "PHP": [
        ("A.php", "<?php\nuse App\\Models\\Z;", "Z.php", "<?php\nnamespace App\\Models;"),
        ("A.php", "<?php\nrequire_once __DIR__ . '/z.php';", "z.php"),
        ("A.php", "<?php\nuse App\\{One, Z};", "Z.php", "<?php\nnamespace App;"),
    ],
    "Go": [("a.go", 'import (\n\t"fmt"\n\tz "example.org/x/z"\n)', "z/z.go")],
    "Rust": [
        ("src/a.rs", "mod z;", "src/a/z.rs"),
        ("src/lib.rs", "pub(crate) mod z;", "src/z/mod.rs"),
        ("src/a.rs", "use super::z::Thing;", "src/z.rs"),
        ("src/a/mod.rs", "use self::z::{One, Two};", "src/a/z.rs"),
    ],
    "Ruby": [("a.rb", "require_relative 'lib/z'", "lib/z.rb"), ("a.rb", 'require "name/z"', "lib/name/z.rb")],
    "Shell": [
        ("a.sh", 'source "$(dirname "$0")/z.sh"', "z.sh"),
        ("a.sh", ". ./z.sh", "z.sh"),
        ("a.sh", ". ${HERE}/lib/z.sh", "lib/z.sh"),
    ],
}


@pytest.mark.parametrize(
    ("language", "path", "text", "imported", "told"),
    [(language, *case, *[""] * (4 - len(case))) for language, cases in IMPORTS.items() for case in cases],
)
def test_imports_of_every_language(language, path, text, imported, told):
    path, imported = (f"{'sub/' if '..' in imported else ''}{one}".replace("sub/../", "") for one in (path, imported))
    order = ordered((path, language, text), ("b", language, ""), (imported, language, told))
    assert order.index(imported) < order.index(path)
    assert ordered((path, language, ""), ("b", language, ""), (imported, language, told)) == sorted(
        [path, "b", imported]
    )


def test_rust_begins_at_the_root_of_the_crate():
    main = ("app/src/main.rs", "Rust", "mod a;\nmod z;")
    one = ("app/src/a.rs", "Rust", "use crate::{z::{self, Thing}, other};")
    assert ordered(main, one, ("app/src/z.rs", "Rust", "")) == ["app/src/z.rs", "app/src/a.rs", "app/src/main.rs"]


def test_what_leads_out_of_the_repository_is_passed_over():
    """A module of the repository that happens to be called as one of the standard library is not meant."""
    assert ordered(
        ("pkg/__init__.py", "Python", ""), ("pkg/a.py", "Python", "import json"), ("pkg/json.py", "Python", "")
    )[1:] == ["pkg/a.py", "pkg/json.py"]
    go = 'import (\n\t"encoding/json"\n\t"example.org/other/z"\n\t"example.org/x/y"\n\t"example.org/x/yy"\n)'
    files = [
        ("a.go", "Go", go),
        ("z/z.go", "Go", ""),
        ("y/y.go", "Go", ""),
        ("yy/y.go", "Go", ""),
        ("json/j.go", "Go", ""),
    ]
    assert ordered(*files) == ["y/y.go", "yy/y.go", "a.go", "json/j.go", "z/z.go"]


@pytest.mark.parametrize(
    ("package", "first", "then"),
    [
        ("email", "base64mime.py", "contentmanager.py"),
        ("email", "errors.py", "_header_value_parser.py"),
        ("email", "header.py", "_policybase.py"),
        ("email", "_policybase.py", "policy.py"),
        ("json", "scanner.py", "decoder.py"),
        ("json", "decoder.py", "__init__.py"),
        ("asyncio", "events.py", "base_events.py"),
        ("asyncio", "base_events.py", "unix_events.py"),
        ("asyncio", "runners.py", "__init__.py"),
    ],
)
def test_packages_of_the_standard_library(package, first, then):
    folder = Path(sysconfig.get_path("stdlib")) / package
    files = [(f"{package}/{path.name}", "Python", path.read_text()) for path in sorted(folder.glob("*.py"))]
    order = ordered(*files)
    assert order.index(f"{package}/{first}") < order.index(f"{package}/{then}")


def test_large_repositories_take_linear_time():
    """A chain as deep as the repository is large, and a namespace that every file is in and uses."""

    def seconds(count: int) -> float:
        chain = [RepositoryFile(f"m{n:06}.py", "Python", f"import m{n + 1:06}") for n in range(count)]
        sharp = "namespace A.N{0};\nusing A.N{1};"
        chain += [RepositoryFile(f"{n}.cs", "C#", sharp.format(n % 2, 1 - n % 2)) for n in range(count)]
        started = time.process_time()
        order = dependency_order(chain)
        assert [place for place in order if place < count] == list(range(count))[::-1]
        return time.process_time() - started

    # Eight times as many: 8 for linear, 64 for quadratic. The quickest of three, since the machine may have other work.
    assert min(seconds(16_000) for _ in range(3)) < 24 * max(min(seconds(2_000) for _ in range(3)), 0.01)


def document(path, text, language="Python", licence="MIT", kind="code"):
    return Document(text, kind, language, licence, "one 1.0", path, content_hash(text))


def test_files_are_joined_whole_under_their_paths():
    parts = [
        document("a.py", "x = 1\n"),
        document("b.c", "int y;", "C", "Apache-2.0 OR MIT"),
        document("c.py", "z = 3\n" * 3),
    ]
    (one,) = join_repository(parts, 1000)
    assert one.text == "# a.py\nx = 1\n\n// b.c\nint y;\n\n# c.py\nz = 3\nz = 3\nz = 3\n"
    assert (one.language, one.licence, one.path) == ("Python", "MIT AND (Apache-2.0 OR MIT)", "a.py + 2 files")
    assert one.content_hash == content_hash(one.text)
    first, second = join_repository(parts, 30)
    assert (first.language, first.licence, second.licence) == ("C", "MIT AND (Apache-2.0 OR MIT)", "MIT")


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 300), st.sampled_from(["code", "natural"])), max_size=12), st.integers(50, 500)
)
def test_nothing_is_cut_or_lost_and_only_single_files_are_too_long(sizes, most):
    files = [document(f"{number}.py", f"{number}" * size, kind=kind) for number, (size, kind) in enumerate(sizes)]
    joined = list(join_repository(files, most))
    assert all(len(one.text) <= most or "+" not in one.path for one in joined)
    inside = [part for one in joined for part in one.text.rstrip("\n").split("\n\n# ")]
    assert "\n".join(inside).count("\n") + 1 >= len(files) or not files
    for number, file in enumerate(files):
        (holder,) = [one for one in joined if f"# {number}.py\n" in one.text]
        assert f"# {number}.py\n{file.text}\n" in holder.text
        assert holder.kind == file.kind


@pytest.mark.parametrize("language", [*CODE_LANGUAGES, *PROSE_LANGUAGES, "English"])
def test_every_language_has_a_comment(language):
    (one,) = join_repository([document("some/path", "text\n", language)], 1000)
    assert "some/path" in one.text.splitlines()[0]
    assert one.text.endswith("\ntext\n")

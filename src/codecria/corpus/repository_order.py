"""The files of a repository as a reader meets them: documentation first, then each file after what it imports.

DeepSeek-Coder's order (section 2.2 of its paper) with two differences: files that import each other stay together,
in the order of their paths, and a file comes right after what it needs, not after all that needs nothing.
Imports are found by regular expressions. Those that lead to no one file of the repository are passed over, and so
are indented ones in Python: most are made late so that two files can import each other.
"""

from __future__ import annotations

import posixpath
import re
from collections import Counter, defaultdict
from dataclasses import replace
from typing import TYPE_CHECKING, NamedTuple

from codecria.corpus.document import Document, content_hash
from codecria.corpus.languages import PROSE_LANGUAGES
from codecria.corpus.licence import all_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


Ends = tuple[str, ...]


class RepositoryFile(NamedTuple):
    """A file of a repository: its path with `/` between folders, its language as in `languages.py`, its text."""

    path: str
    language: str
    text: str


_PYTHON = re.compile(r"^(?:from[ \t]+(\.*)([\w.]*)[ \t]+)?import[ \t]+(\([^)]*\)|[^\n#;]+)", re.MULTILINE)
_PYTHON_ENDINGS = ("{}.py", "{}/__init__.py", "{}.pyx", "{}.pyi")
_INCLUDE = re.compile(r'^[ \t]*#[ \t]*(?:include|import)[ \t]*["<]([^">\n]+)', re.MULTILINE)
_SCRIPT = re.compile(r"""(?:\bfrom|\bimport|\brequire)[ \t]*\(?\s*['"](\.[^'"\n]*)""")
_RUBY = re.compile(r"""^[ \t]*require(?:_relative[ \t(]*['"]|[ \t(]*['"](?=[^'"\n]*/))([^'"\n]+)""", re.MULTILINE)
_SHELL = re.compile(r"""^[ \t]*(?:source|\.)[ \t]+["']?(?:\$[^\s/]*(?:[ \t][^\n/]*)?/)?([\w./-]+)""", re.MULTILINE)
_PHP = re.compile(r"""\b(?:require|include)(?:_once)?\b[^'"\n;]*['"]/?([^'"\n]+)""")
_SCRIPT_ENDINGS = ("{}", *(f"{{}}{end}" for end in (".ts", ".tsx", ".js", ".jsx", ".mjs", "/index.ts", "/index.js")))
_BY_PATH = {
    **dict.fromkeys(("C", "C++", "Objective-C", "CUDA"), (_INCLUDE, ("{}",))),
    **dict.fromkeys(("JavaScript", "TypeScript", "Vue", "Svelte"), (_SCRIPT, _SCRIPT_ENDINGS)),
    "Ruby": (_RUBY, ("{}.rb", "{}")),
    "Shell": (_SHELL, ("{}",)),
    "PHP": (_PHP, ("{}",)),
}
"""Languages that import files: what their imports look like, and how a name becomes a path."""

_NAMESPACE = re.compile(r"^[ \t]*(?:package|namespace)[ \t]+([\w.\\]+)", re.MULTILINE)
_USING = re.compile(
    r"^[ \t]*(?:import|using|use)[ \t]+(?:(?:static|function|const)[ \t]+|\w+[ \t]*=[ \t]*)?([\w.\\]+)(\{[^}]*\})?",
    re.MULTILINE,
)
_BY_NAMESPACE = {"Java", "Kotlin", "Scala", "Groovy", "C#", "PHP"}
_GO = re.compile(r'^import[ \t]*(\([^)]*\)|[^\n]*"[^"\n]+")', re.MULTILINE)
_RUST_MODULE = re.compile(r"^[ \t]*(?:pub[^\n;{]*[ \t])?mod[ \t]+(\w+)[ \t]*;", re.MULTILINE)
_RUST_USE = re.compile(r"\buse[ \t]+(crate|super|self)::([\w:]*)(\{[^;]*\})?")


def dependency_order(files: Sequence[RepositoryFile]) -> list[int]:
    """Places of the files in reading order. The order of `files` does not matter; linear in files and imports."""
    places = sorted(range(len(files)), key=lambda place: (_rank(files[place]), files[place]))
    nodes = [files[place] for place in places]
    found = _Imports(nodes)
    edges = [sorted(set(found.of(node)) - {number}) for number, node in enumerate(nodes)]
    return [places[node] for node in _components(edges + found.groups) if node < len(nodes)]


def _rank(file: RepositoryFile) -> int:
    if file.language not in PROSE_LANGUAGES and file.language != "English":
        return 2
    return 0 if file.path.lower().startswith("readme") else 1


class _Imports:
    """Finds what a file imports: numbers of files, or of groups of files (packages, namespaces), which come after."""

    def __init__(self, files: list[RepositoryFile]) -> None:
        self._paths = {file.path: number for number, file in enumerate(files)}
        self._ends: dict[str, int | None] = {}
        self._names: dict[str, int] = {}
        members: dict[str, list[int]] = defaultdict(list)
        for number, file in enumerate(files):
            parts = file.path.split("/")
            for start in range(len(parts)):
                end = "/".join(parts[start:])
                self._ends[end] = None if end in self._ends else number
            if file.language in _BY_NAMESPACE and (space := _NAMESPACE.search(file.text)):
                name = space[1].replace("\\", ".")
                self._names[f"{name}.{posixpath.splitext(parts[-1])[0]}"] = number
                members[name].append(number)
            elif file.language == "Go" and not file.path.endswith("_test.go"):
                members[f"/{posixpath.dirname(file.path)}"].append(number)
        self.groups = list(members.values())
        self._group_of = {name: len(files) + number for number, name in enumerate(members)}
        # A Go package is named from the root of its module, which may be any folder: of packages alike, the upper one.
        for name in sorted((name for name in members if name.startswith("/")), key=lambda name: name.count("/")):
            for at in _slashes(name):
                self._group_of.setdefault(name[at:], self._group_of[name])
        modules = Counter(module for file in files if file.language == "Go" for module, _ in self._go(file))
        self._go_module = max(modules, key=lambda module: (modules[module], module), default="")

    def of(self, file: RepositoryFile) -> Iterator[int]:
        """Numbers of what `file` imports."""
        if file.language in ("Python", "Python stub", "Cython"):
            yield from self._python(file)
        if file.language in _BY_PATH:
            pattern, endings = _BY_PATH[file.language]
            above = _above(file.path)
            for name in pattern.findall(file.text):
                if name.startswith("."):  # `./z.js` may stand for z.ts
                    stem = posixpath.splitext(name)[0]
                    yield from self._find(name, endings, above[:1]) or self._find(stem, endings, above[:1])
                else:
                    yield from self._find(name, endings, above, elsewhere=endings)
        if file.language in _BY_NAMESPACE:
            yield from self._namespaces(file)
        if file.language == "Go":
            yield from (group for module, group in self._go(file) if module == self._go_module)
        if file.language == "Rust":
            yield from self._rust(file)

    def _find(self, name: str, endings: Ends, folders: Iterable[str], elsewhere: Ends = ()) -> list[int]:
        """The file called `name` in the first folder that has one, or else the only one whose path ends so."""
        paths = (
            posixpath.normpath(f"{folder}/{end.format(name)}").lstrip("/") for folder in folders for end in endings
        )
        found = [self._paths[path] for path in paths if path in self._paths]
        only = [self._ends.get(end.format(name)) for end in elsewhere]
        return (found or [number for number in only if number is not None])[:1]

    def _python(self, file: RepositoryFile) -> Iterator[int]:
        above = _above(file.path)
        # Absolute names begin in a folder that is no package: beside a script, in src/, at the root.
        roots = [folder for folder in above if f"{folder}/__init__.py".lstrip("/") not in self._paths]
        for dots, start, names in _PYTHON.findall(file.text):
            for name in re.findall(r"(?:^|,)\s*([\w.*]+)", re.sub(r"#[^\n]*", "", names.strip("()"))):
                for module in (f"{start}.{name}", start)[: 2 if start or dots else 1]:
                    path = module.strip(".").replace(".", "/")
                    # `import json` does not mean the only json.py, wherever that is.
                    elsewhere = () if dots else _PYTHON_ENDINGS["/" not in path :]
                    folders = above[len(dots) - 1 : len(dots)] if dots else roots
                    if found := self._find(path or ".", _PYTHON_ENDINGS, folders, elsewhere):
                        yield from found
                        break

    def _namespaces(self, file: RepositoryFile) -> Iterator[int]:
        space = _NAMESPACE.search(file.text)
        own = space[1].replace("\\", ".") if space else ""
        for start, inner in _USING.findall(file.text):
            for end in re.findall(r"[\w.\\]+", inner) or [""]:
                name = f"{start}{end}".replace("\\", ".").removesuffix("._").strip(".")
                outer = name.rpartition(".")[0]
                files = [self._names[each] for each in (name, outer) if each in self._names]
                groups = [self._group_of[each] for each in (name, outer) if each in self._group_of and each != own]
                yield from (files or groups)[:1]

    def _go(self, file: RepositoryFile) -> Iterator[tuple[str, int]]:
        """What may be a package of this repository: the module's name if it is, and the package's group."""
        for block in _GO.findall(file.text):
            for name in re.findall(r'"([^"\n]+)"', block):
                found = ((name[:at], self._group_of.get(name[at:])) for at in _slashes(name))
                yield from [(module, group) for module, group in found if group is not None][:1]

    def _rust(self, file: RepositoryFile) -> Iterator[int]:
        above = _above(file.path)
        folder, name = posixpath.split(file.path)
        own = folder if name in ("lib.rs", "main.rs", "mod.rs") else posixpath.join(folder, name[:-3])
        roots = (each for each in above if {f"{each}/lib.rs", f"{each}/main.rs"} & self._paths.keys())
        starts = {"self": own, "super": posixpath.dirname(own), "crate": next(roots, "src")}
        wanted = [(own, module) for module in _RUST_MODULE.findall(file.text)]
        for start, path, inner in _RUST_USE.findall(file.text):
            wanted += [(starts[start], path + end) for end in re.findall(r"[\w:]+", inner) or [""]]
        for start, path in wanted:
            parts = [part for part in path.split("::") if part]
            stems = [posixpath.join(start, *parts[:end]) for end in range(len(parts), 0, -1)]
            # A module that holds this one passes on what others say: they would seem to need each other.
            paths = (path for stem in stems if stem not in above for path in (f"{stem}.rs", f"{stem}/mod.rs"))
            yield from [self._paths[path] for path in paths if path in self._paths][:1]


def _above(path: str) -> list[str]:
    """The folder a file lies in, and those above it up to the root."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[:end]) for end in range(len(parts), -1, -1)]


def _slashes(name: str) -> list[int]:
    return [at for at, character in enumerate(name) if character == "/"]


def _components(edges: list[list[int]]) -> Iterator[int]:
    """Every node after those it has edges to; nodes on a cycle together, the smallest first (Gabow's algorithm)."""
    number: dict[int, int] = {}
    done: set[int] = set()
    path: list[int] = []
    roots: list[int] = []
    for first in range(len(edges)):
        work = [(first, iter(edges[first]))] if first not in number else []
        while work:
            node, rest = work[-1]
            if node not in number:
                number[node] = len(number)
                path.append(node)
                roots.append(node)
            for other in rest:
                if other not in number:
                    work.append((other, iter(edges[other])))
                    break
                while other not in done and number[roots[-1]] > number[other]:
                    roots.pop()
            else:
                work.pop()
                if roots[-1] == node:
                    roots.pop()
                    together: list[int] = []
                    while node not in together[-1:]:
                        together.append(path.pop())
                    yield from sorted(together)
                    done.update(together)


_COMMENTS = {
    "// {}": "AsciiDoc, C, C#, C++, CUDA, D, Dart, F#, GLSL, Go, Groovy, Haxe, Java, JavaScript, Kotlin, Objective-C, "
    "Pascal, Protobuf, Rust, Scala, Solidity, Swift, SystemVerilog, Thrift, TypeScript, Verilog, Zig",
    "-- {}": "Ada, Agda, Elm, Haskell, Idris, Lean, Lua, SQL, VHDL",
    ";; {}": "Clojure, Common Lisp, Emacs Lisp, Racket, Scheme, WebAssembly",
    "% {}": "Erlang, MATLAB, Prolog, TeX",
    "(* {} *)": "Coq, OCaml, Standard ML",
    "/* {} */": "Assembly, CSS, Yacc",
    "<!-- {} -->": "HTML, Markdown, Svelte, Vue",
    "<?php // {} ?>": "PHP",
    ".. {}": "reStructuredText",
    "! {}": "Fortran",
    "' {}": "Visual Basic",
    '" {}': "Vim Script",
    "{{# {} #}}": "Jinja",
    "REM {}": "Batchfile",
    "@c {}": "Texinfo",
}
_COMMENT_OF = {language: comment for comment, languages in _COMMENTS.items() for language in languages.split(", ")}


def join_repository(documents: Iterable[Document], max_characters: int) -> Iterator[Document]:
    """Join consecutive documents of one kind to long ones, for training on long contexts.

    Each file stands whole under a comment with its path, in its own language's syntax ("# {}" where none is known).

    Args:
        documents: of one repository, in the order they are to be read in.
        max_characters: most characters of a joined document; a file that is longer stands alone.
    """
    waiting: list[tuple[Document, str]] = []
    size = 0
    for document in documents:
        comment = _COMMENT_OF.get(document.language, "# {}").format(" ".join(document.path.splitlines()))
        part = f"{comment}\n{document.text}" + ("" if document.text.endswith("\n") else "\n")
        if waiting and (size + 1 + len(part) > max_characters or document.kind != waiting[0][0].kind):
            yield _joined(waiting)
            waiting, size = [], 0
        size += len(part) + bool(waiting)
        waiting.append((document, part))
    if waiting:
        yield _joined(waiting)


def _joined(parts: list[tuple[Document, str]]) -> Document:
    """One document: the language is that of most characters, the licence asks what each part's asks."""
    text = "\n".join(part for _, part in parts)
    languages: Counter[str] = Counter()
    for document, part in parts:
        languages[document.language] += len(part)
    licence = all_of(dict.fromkeys(document.licence for document, _ in parts))
    path = parts[0][0].path + (f" + {len(parts) - 1} files" if len(parts) > 1 else "")
    language = languages.most_common(1)[0][0]
    return replace(
        parts[0][0], text=text, language=language, licence=licence, path=path, content_hash=content_hash(text)
    )

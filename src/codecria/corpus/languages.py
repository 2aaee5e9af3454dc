"""Which language a file is written in, by its name."""

from __future__ import annotations

from pathlib import PurePath

CODE_LANGUAGES: dict[str, tuple[str, ...]] = {
    "Assembly": (".s", ".asm"),
    "C": (".c", ".h"),
    "C#": (".cs",),
    "C++": (".cc", ".cpp", ".cxx", ".hh", ".hpp", ".hxx", ".ipp"),
    "CMake": (".cmake", "cmakelists.txt"),
    "CSS": (".css", ".scss", ".less"),
    "CUDA": (".cu", ".cuh"),
    "Clojure": (".clj", ".cljs"),
    "Cython": (".pyx", ".pxd", ".pxi"),
    "Dart": (".dart",),
    "Dockerfile": (".dockerfile", "dockerfile", "containerfile"),
    "Elixir": (".ex", ".exs"),
    "Erlang": (".erl", ".hrl"),
    "Fortran": (".f", ".f90", ".f95", ".f03"),
    "Go": (".go",),
    "Groovy": (".groovy", ".gradle"),
    "HTML": (".html", ".htm"),
    "Haskell": (".hs",),
    "Java": (".java",),
    "JavaScript": (".js", ".jsx", ".mjs", ".cjs"),
    "Julia": (".jl",),
    "Kotlin": (".kt", ".kts"),
    "Lua": (".lua",),
    "Makefile": (".mk", "makefile", "gnumakefile"),
    "OCaml": (".ml", ".mli"),
    "Objective-C": (".m", ".mm"),
    "PHP": (".php",),
    "Perl": (".pl", ".pm"),
    "Protobuf": (".proto",),
    "Python": (".py",),
    "Python stub": (".pyi",),
    "R": (".r",),
    "Ruby": (".rb", ".rake", "rakefile", "gemfile"),
    "Rust": (".rs",),
    "SQL": (".sql",),
    "Scala": (".scala", ".sbt"),
    "Shell": (".sh", ".bash", ".zsh"),
    "Swift": (".swift",),
    "TypeScript": (".ts", ".tsx", ".mts", ".cts"),
    "Vue": (".vue",),
    "Zig": (".zig",),
}
"""Programming languages: endings, and whole names of files that have none. Lower case."""

PROSE_LANGUAGES: dict[str, tuple[str, ...]] = {
    "Markdown": (".md", ".markdown", ".mdx"),
    "reStructuredText": (".rst",),
    "AsciiDoc": (".adoc", ".asciidoc"),
    "Text": (".txt", "readme", "changelog", "changes", "news", "install", "contributing", "history", "todo"),
}
"""Documentation formats, written as above."""

_CODE = {ending: language for language, endings in CODE_LANGUAGES.items() for ending in endings}
_PROSE = {ending: language for language, endings in PROSE_LANGUAGES.items() for ending in endings}


def code_language(name: str) -> str | None:
    """The programming language of a file called `name`, or None."""
    return _by_name(name, _CODE)


def prose_language(name: str) -> str | None:
    """The documentation format of a file called `name`, or None."""
    return _by_name(name, _PROSE)


def _by_name(name: str, table: dict[str, str]) -> str | None:
    name = name.lower()
    return table.get(name) or table.get(PurePath(name).suffix)

"""Which language a file is written in: by its name, and by its content where the name does not tell."""

from __future__ import annotations

import re
from pathlib import PurePath

_CODE_TABLE = """
Ada: .adb .ads | Agda: .agda | Assembly: .s .asm | Awk: .awk | Batchfile: .bat .cmd | C: .c .h | C#: .cs .csx |
C++: .cc .cpp .cxx .c++ .hh .hpp .hxx .h++ .ipp .inl .tpp .txx | CMake: .cmake cmakelists.txt |
COBOL: .cob .cbl .cpy | CSS: .css .scss .less .sass | CUDA: .cu .cuh | Clojure: .clj .cljs .cljc |
CoffeeScript: .coffee | Common Lisp: .lisp .lsp .asd | Coq: | Crystal: .cr | Cython: .pyx .pxd .pxi | D: .d .di |
Dart: .dart | Dockerfile: .dockerfile dockerfile containerfile | Elixir: .ex .exs | Elm: .elm | Emacs Lisp: .el |
Erlang: .erl .hrl | F#: .fs .fsi .fsx | Forth: .fth .4th | Fortran: .f .for .f77 .f90 .f95 .f03 .f08 |
GLSL: .glsl .vert .frag .geom .comp | Go: .go | GraphQL: .graphql .gql | Groovy: .groovy .gradle | HCL: .tf .hcl |
HTML: .html .htm .xhtml | Haskell: .hs | Haxe: .hx | Idris: .idr | Java: .java | JavaScript: .js .jsx .mjs .cjs |
Jinja: .jinja .jinja2 .j2 | Julia: .jl | Kotlin: .kt .kts | Lean: .lean | Lua: .lua | MATLAB: |
Makefile: .mk makefile gnumakefile | Nim: .nim .nims | Nix: .nix | OCaml: .ml .mli | Objective-C: .m .mm |
PHP: .php .inc | Pascal: .pas .dpr .lpr | Perl: .pl .pm .t | PowerShell: .ps1 .psm1 | Prolog: .pro .prolog |
Protobuf: .proto | Python: .py .pyw | Python stub: .pyi | R: .r | Racket: .rkt |
Ruby: .rb .rake .gemspec rakefile gemfile | Rust: .rs | SQL: .sql | Scala: .scala .sbt | Scheme: .scm .ss .sld |
Shell: .sh .bash .zsh .ksh .bats | Solidity: .sol | Standard ML: .sml .sig | Starlark: .bzl build.bazel |
Stata: .do .ado | Svelte: .svelte | Swift: .swift | SystemVerilog: .sv .svh | Tcl: .tcl .tk |
TeX: .tex .sty .cls .dtx .ltx | Thrift: .thrift | TypeScript: .ts .tsx .mts .cts | VHDL: .vhd .vhdl |
Verilog: .v .vh | Vim Script: .vim vimrc .vimrc | Visual Basic: .vb .bas .vbs .frm | Vue: .vue |
WebAssembly: .wat .wast | Yacc: .y .yy | Zig: .zig
"""
_PROSE_TABLE = """
Markdown: .md .markdown .mdx | reStructuredText: .rst .rest | AsciiDoc: .adoc .asciidoc | Org: .org | Pod: .pod |
Texinfo: .texi .texinfo | Text: .txt .text readme changelog changes news install contributing history todo
"""


def _read(table: str) -> dict[str, tuple[str, ...]]:
    entries = (entry.partition(":") for entry in table.split("|"))
    return {name.strip(): tuple(endings.split()) for name, _, endings in entries}


CODE_LANGUAGES = _read(_CODE_TABLE)
"""Programming languages: endings, and whole names of files that have none. Lower case."""

PROSE_LANGUAGES = _read(_PROSE_TABLE)
"""Documentation formats, likewise."""

_CODE = {ending: language for language, endings in CODE_LANGUAGES.items() for ending in endings}
_PROSE = {ending: language for language, endings in PROSE_LANGUAGES.items() for ending in endings}

_OBJECTIVE_C = r"@(?:interface|class|protocol|property|end|implementation|synthesize|import)\b|#[ \t]*import\b"
_CPLUSPLUS = (
    r"template[ \t]*<|(?:inline[ \t]+)?namespace(?:[ \t]+[\w:]+)?[ \t]*(?:\{|$)|using[ \t]+[\w:]+[^;\n]*;"
    r"|(?:class|enum class)[ \t]+[\w:() ]+?[ ]*(?:;|\{|$|:[^:])|(?:public|private|protected)[ \t]*:"
    r"|(?:constexpr|virtual|explicit|friend|static_assert|(?:typedef |const |static |inline )*std::\w+)\b"
    r"|#[ \t]*include[ \t]*(?:<[a-z_]+>|[<\"][\w./-]+\.(?:hh|hpp|hxx)[>\"])"
)
# Endings that several languages have, each with what begins a line in it. The first that is found; if none is, the
# file is in no language we know.
_SHARED: dict[str, tuple[tuple[str | None, str], ...]] = {
    ".cls": (
        ("TeX", r"\\(?:NeedsTeXFormat|ProvidesClass|documentclass|def|newcommand|LoadClass)\b"),
        ("Visual Basic", r"VERSION [\d.]+ CLASS|Attribute VB_"),
    ),
    ".d": (("D", r"(?:module|import)[ \t]+[\w.]+[ \t]*[;:,=]"),),
    ".fs": (
        ("GLSL", r"#version|(?:precision|uniform|varying|attribute|void[ \t]+main)\b"),
        ("Forth", r": |\\ |[^\n]*\( [^\n]*-- "),
        ("F#", r"(?:module|namespace|open|let|type|member)[ \t]+[\w.(<]"),
    ),
    ".h": (("Objective-C", _OBJECTIVE_C), ("C++", _CPLUSPLUS), ("C", "")),
    ".inc": (
        ("PHP", r"[^\n]*<\?php"),
        ("C++", _CPLUSPLUS),
        ("C", r"#[ \t]*(?:include|define|ifdef|ifndef|if)\b|[A-Z_]+\([^\n]*\)[ \t]*;?$"),
        ("Pascal", r"\{\$|(?:procedure|function|begin|end)\b[^\n]*;"),
    ),
    ".m": (
        ("Objective-C", _OBJECTIVE_C + r"|#[ \t]*include\b"),
        ("MATLAB", r"%|##|(?:function|classdef)\b|end(?:function|if|for)?[ \t]*;?$|[\w.()]+ *=[^=\n]+;?[ \t]*$"),
    ),
    ".pl": (("Perl", r"(?:use|no|package|my|our|sub) [^\n]*[;{]|=\w+$"), ("Prolog", r"[^\n]*:-"), ("Perl", "")),
    ".pro": (("Prolog", r"[^\n]*:-"),),
    ".r": ((None, r"(?:rebol|REBOL|Rebol)\b"), ("R", "")),
    ".t": (("Perl", r"(?:use|require|my|our|sub|package|print|plan|ok)\b"),),
    ".ts": ((None, r"(?<=\A\n)<(?:\?xml|!DOCTYPE|TS)\b"), ("TypeScript", "")),
    ".v": (
        ("Verilog", r"(?:module|endmodule|primitive)\b[^.\n]*$|`\w+|always[ \t]*@"),
        ("Coq", r"(?:Require|From|Theorem|Lemma|Proof|Definition|Inductive|Declare|Ltac|Notation)\b"),
    ),
}
_TOLD_BY = {
    ending: [(language, re.compile(rf"\n[ \t]*(?:{pattern})", re.MULTILINE)) for language, pattern in told_by]
    for ending, told_by in _SHARED.items()
}
_LOOKED_AT_CHARACTERS = 50_000

_SHEBANG = re.compile(r"#![ \t]*(?:\S*/)?(?:env[ \t]+(?:(?:-\S+|\w+=\S*)[ \t]+)*(?:\S*/)?)?([a-zA-Z+-]+)[\d.]*(?:\s|$)")
_MODELINE = re.compile(r"-\*-(?:.*\bmode:)?[ \t]*([\w+#-]+)[ \t]*(?:;.*)?-\*-|\bvim?:.*\b(?:ft|filetype|syntax)=(\w+)")
_OTHER_NAMES = """
ash:Shell cperl:Perl dash:Shell deno:TypeScript escript:Erlang expect:Tcl gawk:Awk guile:Scheme make:Makefile
mawk:Awk node:JavaScript nodejs:JavaScript objc:Objective-C pwsh:PowerShell pypy:Python rscript:R
runhaskell:Haskell swipl:Prolog tclsh:Tcl uv:Python wish:Tcl
"""
_NAMES = {language.lower(): language for language in CODE_LANGUAGES} | {
    name: language for name, _, language in (pair.partition(":") for pair in _OTHER_NAMES.split())
}


def code_language(name: str) -> str | None:
    """The programming language of a file called `name`, or None."""
    return _by_name(name, _CODE)


def prose_language(name: str) -> str | None:
    """The documentation format of a file called `name`, or None."""
    return _by_name(name, _PROSE)


def language_of(path: str, text: str, by_name: str | None) -> str | None:
    """The programming language of a file, or None where it is in none that we know.

    The name decides where its ending has one meaning; else an editor's mode line or the script's interpreter, else
    what stands in the text (patterns after GitHub's linguist).

    Args:
        path: the file's path.
        text: what it holds.
        by_name: what `code_language` said.
    """
    told_by = _TOLD_BY.get(PurePath(path.lower()).suffix)
    stated = _stated(text) if told_by is not None or by_name is None else by_name
    if told_by is None or (stated and stated in {language for language, _ in told_by}):
        return stated
    head = "\n" + text[:_LOOKED_AT_CHARACTERS]
    return next((language for language, begins in told_by if begins.search(head)), None)


def _stated(text: str) -> str | None:
    """The language that a first line `#!...` or an editor's mode line names."""
    found = _SHEBANG.match(text) or _MODELINE.search(text[:400]) or _MODELINE.search(text[-200:])
    if found is None:
        return None
    word = next(filter(None, found.groups())).lower()
    return _NAMES.get(word) or _CODE.get(f".{word}")


def _by_name(name: str, table: dict[str, str]) -> str | None:
    name = name.lower()
    return table.get(name) or table.get(PurePath(name).suffix)

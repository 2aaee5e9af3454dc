import pytest

from codecria.corpus.languages import CODE_LANGUAGES, PROSE_LANGUAGES, code_language, language_of, prose_language


@pytest.mark.parametrize(
    ("name", "language"),
    [
        ("main.PY", "Python"),
        ("types.pyi", "Python stub"),
        ("CMakeLists.txt", "CMake"),
        ("Dockerfile", "Dockerfile"),
        ("a.b.tf", "HCL"),
        ("cpu.sv", "SystemVerilog"),
        ("paper.tex", "TeX"),
        ("notebook.ipynb", None),
        ("data.json", None),
        ("README", None),
        ("", None),
    ],
)
def test_code_by_name(name, language):
    assert code_language(name) == language


@pytest.mark.parametrize(
    ("name", "language"),
    [("index.rst", "reStructuredText"), ("README", "Text"), ("perlop.pod", "Pod"), ("main.py", None)],
)
def test_prose_by_name(name, language):
    assert prose_language(name) == language


def test_no_ending_has_two_languages():
    endings = [
        ending for table in (CODE_LANGUAGES, PROSE_LANGUAGES) for endings in table.values() for ending in endings
    ]
    assert len(endings) == len(set(endings))
    assert endings == [ending.lower() for ending in endings]


@pytest.mark.parametrize(
    ("path", "text", "language"),
    [
        ("a.h", "#ifndef A_H\n#define A_H\nint add(int a, int b);\n#endif\n", "C"),
        ("a.h", '/* a class of devices */\nstruct a;\n#ifdef __cplusplus\nextern "C" {\n#endif\n', "C"),
        ("a.h", "#pragma once\nnamespace a {\nint add(int, int);\n}\n", "C++"),
        ("a.h", "#include <vector>\n", "C++"),
        ("a.h", "class QWidget;\n", "C++"),
        ("a.h", "  template <typename T>\n  T max(T, T);\n", "C++"),
        ("a.h", "// -*- C++ -*-\nint x;\n", "C++"),
        ("a.h", "#import <Foundation/Foundation.h>\n", "Objective-C"),
        ("a.h", "#include <stdio.h>\n@interface Person : NSObject\n@end\n", "Objective-C"),
        ("a.m", "@implementation Person\n@end\n", "Objective-C"),
        ("a.m", "function y = f(x)\n  y = x;\n", "MATLAB"),
        ("a.m", "% plots it\nplot(1:10)\n", "MATLAB"),
        ("a.pl", "use strict;\nmy $x = 1;\n", "Perl"),
        ("a.pl", ":- module(a, [b/1]).\nb(X) :- c(X).\n", "Prolog"),
        ("a.pl", "print 'x';\n", "Perl"),
        ("a.t", "use Test::More tests => 1;\n", "Perl"),
        ("a.t", "some text\n", None),
        ("a.ts", "export const x: number = 1;\n", "TypeScript"),
        ("a.ts", "const page = `\n<?xml version='1.0'?>\n<!DOCTYPE html>`;\n", "TypeScript"),
        ("a.ts", '<?xml version="1.0" encoding="utf-8"?>\n<!DOCTYPE TS>\n<TS version="2.1">\n', None),
        ("a.d.ts", "#!/usr/bin/env node\nexport {};\n", "TypeScript"),
        ("a.v", "module add(input a, output b);\nendmodule\n", "Verilog"),
        ("a.v", "Require Import Arith.\nTheorem t : 1 = 1.\nProof. reflexivity. Qed.\n", "Coq"),
        ("a.r", "x <- c(1, 2)\n", "R"),
        ("a.r", "REBOL [Title: {x}]\n", None),
        ("a.inc", "<?php\necho 1;\n", "PHP"),
        ("a.inc", "#define X 1\n", "C"),
        ("a.inc", "namespace llvm {\n}\n", "C++"),
        ("a.inc", "just words\n", None),
        ("a.fs", "module Main\nlet x = 1\n", "F#"),
        ("a.fs", "#version 330\nvoid main() {}\n", "GLSL"),
        ("a.fs", ": square ( n -- n ) dup * ;\n", "Forth"),
        ("a.cls", "\\NeedsTeXFormat{LaTeX2e}\n", "TeX"),
        ("a.cls", "VERSION 1.0 CLASS\nBEGIN\n", "Visual Basic"),
        ("a.cls", "public with sharing class A {\n}\n", None),
        ("a.d", "module a.b;\nimport std.stdio;\n", "D"),
        ("a.d", "main.o: main.c \\\n main.h\n", None),
    ],
)
def test_endings_that_languages_share(path, text, language):
    assert language_of(f"src/{path}", text, code_language(path)) == language


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("#!/bin/sh\n", "Shell"),
        ("#! /usr/bin/perl -w\n", "Perl"),
        ("#!/usr/bin/env python3.11\n", "Python"),
        ("#!/usr/bin/env -S node --harmony\n", "JavaScript"),
        ("#!/usr/bin/env LC_ALL=C ruby\n", "Ruby"),
        ("#!/usr/bin/tclsh8.6", "Tcl"),
        ("#!/opt/own/interpreter\n", None),
        ("# -*- mode: ruby; tab-width: 2 -*-\nVagrant.configure\n", "Ruby"),
        ("// <string> -*- C++ -*-\n", "C++"),
        ("# vim: set ft=make :\nall:\n", "Makefile"),
        ("x\n" * 300 + "# vim: ts=4 filetype=python\n", "Python"),
        ("# -*- coding: utf-8 -*-\n", None),
        ("Some words of a file without a language.\n", None),
        ("", None),
    ],
)
def test_names_that_say_nothing(text, language):
    assert language_of("bin/tool", text, None) == language


def test_a_name_with_one_meaning_decides():
    assert language_of("a.py", "#!/bin/sh\n", "Python") == "Python"
    assert language_of("docs/README.md", "# Title\n", "Markdown") == "Markdown"

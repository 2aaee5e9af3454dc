from importlib.metadata import distribution

import pytest

from codecria.corpus.licence import (
    is_licence_file,
    is_permissive,
    licence_in_header,
    licence_of_metadata,
    licence_of_text,
)

MIT = """Copyright (c) 2020 Somebody

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal ...
The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software."""
BSD_2 = """Redistribution and use in source and binary forms ... are met:
1. Redistributions of source code must retain the above copyright notice ...
2. Redistributions in binary form must reproduce the above copyright notice ..."""
BSD_3 = BSD_2 + "\n3. Neither the name of the copyright holder nor the names of its contributors may be used ..."
ISC = """Permission to use, copy, modify, and/or distribute this software for any
purpose with or without fee is hereby granted"""
LGPL = """GNU LESSER GENERAL PUBLIC LICENSE
Version 2.1, February 1999
... as the successor of the GNU Library Public License ... the GNU General Public License, version 2 ..."""


@pytest.mark.parametrize(
    ("expression", "permissive"),
    [
        ("MIT", True),
        ("mit", True),
        ("GPL-3.0-only", False),
        ("unknown", False),
        ("", False),
        ("MIT OR GPL-2.0-only", True),
        ("MIT AND GPL-2.0-only", False),
        ("GPL-2.0-only OR MIT AND Apache-2.0", True),
        ("(GPL-2.0-only OR MIT) AND LGPL-3.0-only", False),
        ("(GPL-2.0-only OR MIT) AND (Apache-2.0)", True),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("GPL-2.0-only WITH Classpath-exception-2.0", False),
        ("Apache-2.0 AND Apache-2.0 WITH LLVM-exception AND BSD-2-Clause", True),
        ("LicenseRef-Proprietary", False),
        ("MIT OR", False),
        ("(MIT", False),
        ("MIT Apache-2.0", False),
        ("MPL-2.0 AND MIT", False),
    ],
)
def test_permissive_expressions(expression, permissive):
    assert is_permissive(expression) is permissive


@pytest.mark.parametrize(
    ("text", "licence"),
    [
        (MIT, "MIT"),
        (MIT.rsplit("The above", 1)[0], "MIT-0"),
        (BSD_2, "BSD-2-Clause"),
        (BSD_3, "BSD-3-Clause"),
        (ISC + ", provided that the above copyright notice ...", "ISC"),
        (ISC + ".", "0BSD"),
        (LGPL, "LGPL-2.1-or-later"),
        ("Apache License\n   Version 2.0, January 2004", "Apache-2.0"),
        ("Mozilla Public License Version 2.0", "MPL-2.0"),
        ("GNU GENERAL PUBLIC LICENSE\nVersion 3, 29 June 2007", "GPL-3.0-or-later"),
        ("GNU AFFERO GENERAL PUBLIC LICENSE Version 3 ... GNU General Public License", "AGPL-3.0-or-later"),
        ("This is free and unencumbered software released into the public domain.", "Unlicense"),
        ("All rights reserved. Do not copy.", None),
    ],
)
def test_licence_texts(text, licence):
    assert licence_of_text(text) == licence


@pytest.mark.parametrize(
    ("expression", "classifiers", "field", "licence"),
    [
        ("MIT", ["License :: OSI Approved :: BSD License"], "GPL", "MIT"),
        (None, ["License :: OSI Approved :: Apache Software License"], None, "Apache-2.0"),
        (None, ["License :: OSI Approved :: BSD License"], "BSD 2-Clause License", "BSD-2-Clause"),
        (None, ["License :: OSI Approved :: BSD License"], "BSD", "LicenseRef-BSD"),
        (None, ["License :: OSI Approved :: BSD License"], BSD_3, "BSD-3-Clause"),
        (None, [], "Apache 2.0 License", "Apache-2.0"),
        (None, [], "MPL-2.0 AND MIT", "MPL-2.0 AND MIT"),
        (None, [], "The MIT License", "MIT"),
        (None, [], "see the website", None),
        (None, ["License :: OSI Approved", "Topic :: Software Development"], None, None),
        (None, ["License :: OSI Approved :: GNU General Public License v3 (GPLv3)"], None, "GPL-3.0-only"),
    ],
)
def test_metadata(expression, classifiers, field, licence):
    assert licence_of_metadata(expression, classifiers, field) == licence


@pytest.mark.parametrize(
    ("package", "licence"),
    [
        ("rich", "MIT"),
        ("hypothesis", "MPL-2.0"),
        ("safetensors", "Apache-2.0"),
        ("shellingham", "ISC"),
        ("Jinja2", "LicenseRef-BSD"),
    ],
)
def test_real_packages(package, licence):
    metadata = distribution(package).metadata
    fields = [(metadata.get_all(name) or [None])[0] for name in ("License-Expression", "License")]
    assert licence_of_metadata(fields[0], metadata.get_all("Classifier") or [], fields[1]) == licence


def test_header_before_code_counts_and_nothing_after_it():
    assert licence_in_header("# SPDX-License-Identifier: Apache-2.0\nimport os\n") == "Apache-2.0"
    assert licence_in_header("/* SPDX-License-Identifier: (GPL-2.0 OR MIT) */\nint x;") == "(GPL-2.0 OR MIT)"
    assert licence_in_header("<!-- SPDX-License-Identifier: MIT -->\n# Title") == "MIT"
    assert (
        licence_in_header('#!/bin/sh\n"""Tool.\n\nLicensed under the Apache License, Version 2.0\n"""\n')
        == "Apache-2.0"
    )
    assert licence_in_header("import os\nNOTE = 'SPDX-License-Identifier: GPL-3.0-only'\n") is None
    assert licence_in_header(f"import os\n\nTEXT = '''{MIT}'''\n") is None
    assert licence_in_header("# This package follows no licence in particular\n") is None


def test_a_notice_in_a_header_outweighs_the_package():
    gpl = """# This program is free software: you can redistribute it and/or modify it under the terms of the
# GNU General Public License as published by the Free Software Foundation, either version 2 of the License, or
# (at your option) any later version."""
    assert licence_in_header(gpl + "\nimport os\n") == "GPL-2.0-or-later"
    lesser = gpl.replace("General", "Lesser General").replace("version 2 ", "version 2.1 ")
    assert licence_in_header(lesser) == "LGPL-2.1-or-later"


def test_names_of_licence_files():
    for name in ("LICENSE", "licence.md", "LICENSE.APACHE", "COPYING", "COPYING.LESSER", "UNLICENSE", "LICENSE-MIT"):
        assert is_licence_file(name), name
    for name in ("licenses.py", "license_check.go", "copyingmachine", "README", "license.json"):
        assert not is_licence_file(name), name

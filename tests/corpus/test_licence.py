import re
from importlib.metadata import distribution

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codecria.corpus.licence import (
    behind_licence,
    canonical,
    is_permissive,
    licence_in_header,
    licence_of_text,
    named,
)
from codecria.corpus.licence_files import is_licence_file
from codecria.corpus.licence_metadata import licence_of_metadata

MIT = """Copyright (c) 2020 Somebody

Permission is hereby granted, free of charge, to any person obtaining a copy
of this software and associated documentation files (the "Software"), to deal ...
The above copyright notice and this permission notice shall be included in all
copies or substantial portions of the Software."""
BSD_2 = """Redistribution and use in source and binary forms, with or without modification, are permitted ...
1. Redistributions of source code must retain the above copyright notice ...
2. Redistributions in binary form must reproduce the above copyright notice ..."""
BSD_3 = BSD_2 + "\n3. Neither the name of the copyright holder nor the names of its contributors may be used ..."
BSD_4 = BSD_2 + "\n3. All advertising materials mentioning features or use of this software must display ..."
ISC = """Permission to use, copy, modify, and/or distribute this software for any
purpose with or without fee is hereby granted"""
LGPL = """GNU LESSER GENERAL PUBLIC LICENSE
Version 2.1, February 1999
... as the successor of the GNU Library Public License ... the GNU General Public License, version 2 ..."""
GPL_NOTICE = """This program is free software: you can redistribute it and/or modify it under the terms of the
GNU General Public License as published by the Free Software Foundation, either version 2 of the License, or
(at your option) any later version."""
APACHE_NOTICE = """Licensed under the Apache License, Version 2.0 (the "License"); you may not use this file except in
compliance with the License. You may obtain a copy of the License at https://www.apache.org/licenses/LICENSE-2.0"""
MOZILLA = """Version: MPL 1.1/GPL 2.0/LGPL 2.1

The contents of this file are subject to the Mozilla Public License Version 1.1 (the "License") ...

Alternatively, the contents of this file may be used under the terms of either the GNU General Public License
Version 2 or later (the "GPL"), or the GNU Lesser General Public License Version 2.1 or later (the "LGPL"), in which
case the provisions of the GPL or the LGPL are applicable instead of those above."""


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
        ("((GPL-2.0-only) OR ((MIT)))", True),
        ("Apache-2.0 WITH LLVM-exception", True),
        ("GPL-2.0-only WITH Classpath-exception-2.0", False),
        ("Apache-2.0 AND Apache-2.0 WITH LLVM-exception AND BSD-2-Clause", True),
        ("LicenseRef-Proprietary", False),
        ("MIT OR", False),
        ("OR MIT", False),
        ("(MIT", False),
        ("MIT)", False),
        ("()", False),
        ("MIT(MIT)", False),
        ("MIT OR (", False),
        ("MIT Apache-2.0", False),
        ("MPL-2.0 AND MIT", False),
    ],
)
def test_permissive_expressions(expression, permissive):
    assert is_permissive(expression) is permissive


EXPRESSIONS = st.recursive(
    st.sampled_from([("MIT", True), ("GPL-2.0-only", False), ("Apache-2.0 WITH LLVM-exception", True)]),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map(lambda two: (f"({two[0][0]}) OR ({two[1][0]})", two[0][1] or two[1][1])),
        st.tuples(inner, inner).map(lambda two: (f"({two[0][0]}) AND ({two[1][0]})", two[0][1] and two[1][1])),
    ),
    max_leaves=12,
)


@given(EXPRESSIONS)
def test_permissive_is_what_logic_says(expression):
    written, permissive = expression
    assert is_permissive(written) is permissive
    spelt = canonical(written)
    assert (spelt is None) == (len(written) >= 500)
    assert spelt is None or is_permissive(spelt) is permissive


@pytest.mark.parametrize(
    ("text", "licence"),
    [
        (MIT, "MIT"),
        (MIT.rsplit("The above", 1)[0], "MIT-0"),
        (MIT + " Except as contained in this notice, the name of the author shall not be used", "X11"),
        (MIT + " The Software shall be used for Good, not Evil.", "MIT AND LicenseRef-restricted"),
        (BSD_2, "BSD-2-Clause"),
        (BSD_3, "BSD-3-Clause"),
        (BSD_4, "BSD-4-Clause"),
        (
            BSD_3.replace("are permitted", "are permitted for non-commercial use"),
            "BSD-3-Clause AND LicenseRef-restricted",
        ),
        (ISC + ", provided that the above copyright notice ...", "ISC"),
        (ISC + ".", "0BSD"),
        (LGPL, "LGPL-2.1-or-later"),
        ("Apache License\n   Version 2.0, January 2004", "Apache-2.0"),
        ("Apache License\n   Version 2.0, January 2004\n" + "x " * 2_000 + MIT, "Apache-2.0"),
        ("Apache License v2.0 with LLVM Exceptions", "Apache-2.0 WITH LLVM-exception"),
        ("Mozilla Public License Version 2.0", "MPL-2.0"),
        ("Eclipse Public License - v 2.0\n====", "EPL-2.0"),
        ("European Union Public Licence v. 1.2", "EUPL-1.2"),
        ("GNU GENERAL PUBLIC LICENSE\nVersion 3, 29 June 2007", "GPL-3.0-or-later"),
        (
            "GNU AFFERO GENERAL PUBLIC LICENSE Version 3, 19 November 2007 ... GNU General Public License",
            "AGPL-3.0-or-later",
        ),
        ("This is free and unencumbered software released into the public domain.", "Unlicense"),
        ("Attribution-ShareAlike 4.0 International", "CC-BY-SA-4.0"),
        ("Creative Commons Attribution-NonCommercial-NoDerivatives 4.0 International", "CC-BY-NC-ND-4.0"),
        (
            "You may use it under your choice of the MIT license or the GNU GPL, version 2 or later",
            "MIT OR GPL-2.0-or-later",
        ),
        (
            "You can redistribute it under either the terms of the 2-clause BSDL (see the file BSDL), or the "
            "conditions below: place your modifications in the Public Domain",
            "Ruby OR BSD-2-Clause",
        ),
        ("You may do as you please. " * 30 + "All examples are placed in the public domain.", None),
        ("Business Source License 1.1\nLicensor: X\nChange License: MIT License", "BUSL-1.1"),
        ("Functional Source License, Version 1.1, MIT Future License\n" + MIT, "LicenseRef-FSL"),
        ("Apache License\nVersion 2.0, January 2004\n" + "x " * 4_000 + "Commons Clause", "LicenseRef-Commons-Clause"),
        ("# PolyForm Shield License\n<https://polyformproject.org/licenses/shield/1.0.0>", "LicenseRef-PolyForm"),
        ("This software is NOT licensed under the MIT license.", None),
        ("All rights reserved. Do not copy.", None),
        ("", None),
    ],
)
def test_licence_texts(text, licence):
    assert licence_of_text(text) == licence


@pytest.mark.parametrize(
    ("statement", "licence"),
    [
        ("Licensed under the MIT license.", "MIT"),
        ("Released under\nthe\nMIT license.", "MIT"),
        ("Released under the MIT/X11 License", "MIT"),
        ("@license MIT", "MIT"),
        ("License: BSD-3-Clause", "BSD-3-Clause"),
        ("License     :  BSD-style (see the file LICENSE)", "LicenseRef-BSD"),
        (
            "Use of this source code is governed by a BSD-style license that can be found in the LICENSE file.",
            "LicenseRef-BSD",
        ),
        ("Distributed under the Boost Software License, Version 1.0.", "BSL-1.0"),
        ("Licensed under the Academic Free License version 2.1", "AFL-2.1"),
        ("Dual licensed under the MIT and GPL licenses.", "MIT OR GPL-1.0-or-later"),
        ("Dual licensed under MIT or GPL Version 2 licenses.", "MIT OR GPL-2.0-only"),
        ("Licensed under either of Apache License, Version 2.0 or MIT license at your option.", "Apache-2.0 OR MIT"),
        ("Licensed under the Apache License, Version 2.0 or the MIT license, at your option.", "Apache-2.0 OR MIT"),
        ("This code is licensed under the terms of the MIT license and the Apache 2.0 license.", "MIT AND Apache-2.0"),
        ("This file is free software, licensed under GPLv2+.", "GPL-2.0-or-later"),
        ("This software is released under version 2 of the GNU General Public License", "GPL-2.0-only"),
        ("Distributed under the terms of the GNU General Public License v3", "GPL-3.0-only"),
        ("Licensed under the GPL.", "GPL-1.0-or-later"),
        (
            "This program may be distributed under the same terms as Perl itself.",
            "Artistic-1.0-Perl OR GPL-1.0-or-later",
        ),
        ("You may redistribute it under the terms of the Artistic License 2.0.", "Artistic-2.0"),
        ("This file is in the public domain.", "LicenseRef-public-domain"),
        ("Published under the Creative Commons Attribution-ShareAlike 3.0 license", "CC-BY-SA-3.0"),
        (MOZILLA, "MPL-1.1 OR GPL-2.0-or-later OR LGPL-2.1-or-later"),
        (APACHE_NOTICE, "Apache-2.0"),
        (GPL_NOTICE, "GPL-2.0-or-later"),
        (GPL_NOTICE.replace(", or\n(at your option) any later version", ""), "GPL-2.0-only"),
        (GPL_NOTICE.replace("General", "Lesser General").replace("version 2 ", "version 2.1 "), "LGPL-2.1-or-later"),
        (GPL_NOTICE + "\n\n" + MIT, "GPL-2.0-or-later AND MIT"),
        (APACHE_NOTICE + "\nPython is needed to build this.", "Apache-2.0"),
        (BSD_4, "BSD-4-Clause"),
        ("This is an open source non-commercial project under the ISC license.", "ISC"),
        # what says nothing: the next evidence is asked
        ("Copyright (c) 2020 Somebody. All rights reserved.", None),
        ("See the LICENSE file for licensing terms.", None),
        ("License: see LICENSE", None),
        ("For the full copyright and license information, please view the LICENSE", None),
        ("This runs under Apache and under Perl.", None),
        ("Based on a public domain implementation", None),
        ("This file is not in the public domain: ask for a license.", None),
        ("Copyright (c) Facebook. Licensed under the license found in the LICENSE file in the root directory.", None),
        ("Licensed under the same terms as the rest of it.", None),
        ("Licensed to Somebody under one or more contributor license agreements. See the NOTICE file.", None),
        ("Reads a proprietary format. See the file LICENSE.", None),
        ("OAuth for a confidential client. See the file LICENSE.", None),
        # what is said against a licence, or of what becomes one in years
        ("This file is NOT released under the MIT license. All rights reserved.", "unknown"),
        ("This is not licensed under the Apache License, Version 2.0, but under the GPL version 2.", "GPL-2.0-only"),
        ("Portions licensed under the MIT License. The rest is proprietary.", "MIT AND LicenseRef-restricted"),
        (
            "Use of this software is governed by the Business Source License\nincluded in the file licenses/BSL.txt.\n"
            "As of the Change Date, use will be governed\nby the Apache License, Version 2.0.",
            "BUSL-1.1",
        ),
        ("Licensed under the Functional Source License, Version 1.1, MIT Future License", "LicenseRef-FSL"),
        ("Licensed under the Elastic License 2.0; you may not use this file except as it says", "Elastic-2.0"),
        ("Licensed under the Apache License 2.0 with the Commons Clause.", "LicenseRef-Commons-Clause"),
        ("Licensed under the Confluent Community License; see it", "LicenseRef-Confluent-Community"),
        ("Licensed under the PolyForm Shield License 1.0.0", "LicenseRef-PolyForm"),
        ("Licensed under the Redis Source Available License 2.0", "LicenseRef-RSAL"),
        ("License: Proprietary", "LicenseRef-proprietary"),
        # terms that no phrase matches: what lies around it does not hold
        ('Licensed under the Foo License 2.0 (the "License"); you may not use this file except as it says', "unknown"),
        ("Licensed under Internal Terms.", "unknown"),
        ("This file is subject to the Foo Software Licence Agreement.", "unknown"),
        ("Proprietary and confidential.\nUnauthorized copying of this file is strictly prohibited.", "unknown"),
        ("FOO INC. CONFIDENTIAL", "unknown"),
        ("This is proprietary software.", "unknown"),
        ("This package follows no licence in particular", None),
    ],
)
def test_statements_in_headers(statement, licence):
    for comment in ("# {}", "// {}", ";; {}", "dnl {}", "C {}", "-- {}", "/* * {}*/", "{- {}-}", '"""A module.\n{}"""'):
        lines = statement.splitlines()
        opening, line, closing = re.fullmatch(r"(.*\n|[{/][*-] )?(.*?\{\})(.*)", comment, re.DOTALL).groups("")
        header = opening + "\n" * bool(opening) + "\n".join(line.format(each) for each in lines) + "\n" + closing
        assert licence_in_header(f"{header}\nint x = 1;\n") == licence, header


def test_one_side_of_a_choice_does_not_set_other_text_free():
    """Nettle has files under (LGPL or GPL) and the MIT licence, both at once."""
    either = GPL_NOTICE.replace(
        "terms of the", "terms of either the GNU Lesser General Public License, version 3, or the"
    )
    found = licence_in_header(f"/*\n{either}\n*/\n/* {'x ' * 400}\n{MIT}\n*/\n")
    assert found == "(LGPL-3.0-only OR GPL-2.0-or-later) AND MIT"
    assert not is_permissive(found)


def test_gnu_mp_offers_both_licences():
    notice = """it under the terms of either:
  * the GNU Lesser General Public License as published by the Free
    Software Foundation; either version 3 of the License, or (at your
    option) any later version.
or
  * the GNU General Public License as published by the Free Software
    Foundation; either version 2 of the License, or (at your option) any
    later version."""
    assert licence_in_header(f"/* {notice}\n*/") == "LGPL-3.0-or-later OR GPL-2.0-or-later"


def test_header_before_code_counts_and_strings_do_not():
    assert licence_in_header("# SPDX-License-Identifier: Apache-2.0\nimport os\n") == "Apache-2.0"
    assert licence_in_header("/* SPDX-License-Identifier: (GPL-2.0 OR MIT) */\nint x;") == "(GPL-2.0 OR MIT)"
    assert licence_in_header("<!-- SPDX-License-Identifier: MIT -->\n# Title") == "MIT"
    assert licence_in_header("package x;\n\n/*\n SPDX-License-Identifier: mit\n*/\n") == "MIT"
    assert licence_in_header("\n" * 55 + "// SPDX-License-Identifier: MIT\n") == "MIT"
    assert licence_in_header("x = 1\n" * 70 + "# SPDX-License-Identifier: MIT\n") is None
    assert licence_in_header("// SPDX-License-Identifier: MIT\n// SPDX-License-Identifier: ISC\n") == "MIT AND ISC"
    assert licence_in_header("// SPDX-License-Identifier: Foo-1.0, see below\n") == "Foo-1.0"
    assert licence_in_header("import os\nNOTE = 'SPDX-License-Identifier: GPL-3.0-only'\n") is None
    assert licence_in_header(f"import os\n\nTEXT = '''{MIT}'''\n") is None


def test_a_perl_manual_states_the_licence_at_its_end():
    manual = (
        "package X;\nuse strict;\n\n1;\n__END__\n\n=head1 NAME\n\nX\n\n=head1 LICENSE AND COPYRIGHT\n\n{}\n\n=cut\n"
    )
    stated = (
        "This library is free software; you can redistribute it and/or modify it\nunder the same terms as Perl itself."
    )
    assert licence_in_header(manual.format(stated)) == "Artistic-1.0-Perl OR GPL-1.0-or-later"
    assert licence_in_header(manual.format("See the file LICENSE.")) is None


@given(
    st.text(max_size=300), st.sampled_from([MIT, GPL_NOTICE, "SPDX-License-Identifier: MIT", "MIT/", "=head1 LICENSE"])
)
def test_no_text_makes_it_fail(text, licence):
    for written in (text, f"/* {text}{licence}", f"{licence}\n{text}"):
        licence_in_header(written)
        licence_of_text(written)
        named(written)


def test_long_hostile_headers_take_no_time():
    """Backtracking would take minutes on these."""
    for piece in (
        "license under the ",
        "version ",
        "alternatively a ",
        "(",
        "found in a ",
        "or the ",
        "gnu ",
        "=head1 x\n",
    ):
        text = "# license granted " + piece * 20_000
        licence_in_header(text)
        licence_of_text(text)
        is_permissive(text[:10_000])


MIT_CLASSIFIER = "License :: OSI Approved :: MIT License"
OF_NO_SPDX = "License :: Free for non-commercial use"


@pytest.mark.parametrize(
    ("expression", "classifiers", "field", "licence"),
    [
        ("MIT", ["License :: OSI Approved :: BSD License"], "GPL", "MIT"),
        ("mit or apache-2.0", [], None, "MIT OR Apache-2.0"),
        (None, ["License :: OSI Approved :: Apache Software License"], None, "Apache-2.0"),
        (None, ["License :: OSI Approved :: BSD License"], "BSD 2-Clause License", "BSD-2-Clause"),
        (None, ["License :: OSI Approved :: BSD License"], "BSD", "LicenseRef-BSD"),
        (None, ["License :: OSI Approved :: BSD License"], BSD_3, "BSD-3-Clause"),
        (
            None,
            ["License :: OSI Approved :: MIT License", "License :: OSI Approved :: Apache Software License"],
            None,
            "MIT AND Apache-2.0",
        ),
        (
            None,
            ["License :: OSI Approved :: MIT License", "License :: OSI Approved :: Apache Software License"],
            "MIT OR Apache-2.0",
            "MIT OR Apache-2.0",
        ),
        (None, [], "Apache 2.0 License", "Apache-2.0"),
        (None, [], "MPL-2.0 AND MIT", "MPL-2.0 AND MIT"),
        (None, [], "MIT/Apache-2.0", "MIT OR Apache-2.0"),
        (None, [], "The MIT License", "MIT"),
        (None, [], "MIT and something of our own", None),
        (None, [], "see the website", None),
        (None, ["License :: OSI Approved", "Topic :: Software Development"], None, None),
        (None, ["License :: OSI Approved :: GNU General Public License v3 (GPLv3)"], None, "GPL-3.0-only"),
        (
            None,
            ["License :: OSI Approved :: GNU General Public License v2 or later (GPLv2+)"],
            None,
            "GPL-2.0-or-later",
        ),
        (
            None,
            ["License :: OSI Approved :: GNU Library or Lesser General Public License (LGPL)"],
            None,
            "LGPL-2.0-or-later",
        ),
        (None, ["License :: OSI Approved :: Mozilla Public License 2.0 (MPL 2.0)"], None, "MPL-2.0"),
        (None, ["License :: OSI Approved :: Python Software Foundation License"], None, "PSF-2.0"),
        (None, ["License :: OSI Approved :: ISC License (ISCL)"], None, "ISC"),
        (None, ["License :: OSI Approved :: zlib/libpng License"], None, "Zlib"),
        (None, ["License :: OSI Approved :: Zope Public License"], None, "ZPL-2.1"),
        (None, ["License :: OSI Approved :: The Unlicense (Unlicense)"], None, "Unlicense"),
        (None, ["License :: OSI Approved :: Boost Software License 1.0 (BSL-1.0)"], None, "BSL-1.0"),
        (None, ["License :: CC0 1.0 Universal (CC0 1.0) Public Domain Dedication"], None, "CC0-1.0"),
        (None, ["License :: OSI Approved :: Historical Permission Notice and Disclaimer (HPND)"], None, "HPND"),
        (None, ["License :: Public Domain"], None, "LicenseRef-public-domain"),
        (None, ["License :: OSI Approved :: MIT No Attribution License (MIT-0)"], None, "MIT-0"),
        (None, ["License :: Other/Proprietary License"], None, "LicenseRef-proprietary"),
        (None, ["License :: OSI Approved :: Universal Permissive License (UPL)"], "UPL-1.0", "UPL-1.0"),
        (None, ["License :: OSI Approved :: Something New (MulanPSL-2.0)"], None, "MulanPSL-2.0"),
        (None, [MIT_CLASSIFIER], "MIT License", "MIT"),
        (None, [MIT_CLASSIFIER], "Proprietary", "LicenseRef-proprietary AND MIT"),
        (None, [MIT_CLASSIFIER], "GPL-3.0-only", "GPL-3.0-only AND MIT"),
        (None, [MIT_CLASSIFIER, OF_NO_SPDX], None, "MIT AND LicenseRef-Free-for-non-commercial-use"),
        (None, [OF_NO_SPDX], "MIT OR ISC", "(MIT OR ISC) AND LicenseRef-Free-for-non-commercial-use"),
        (None, ["License :: Other/Proprietary License"], "MIT", "MIT AND LicenseRef-proprietary"),
        (None, ["License :: OSI Approved :: GNU General Public License v3 (GPLv3)"], "GPL", "GPL-3.0-only"),
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


def test_names_of_licence_files():
    yes = (
        "LICENSE licence.md LICENSE.APACHE COPYING COPYING.LESSER COPYING3 UNLICENSE LICENSE-MIT MIT-LICENSE COPYRIGHT"
    )
    for name in f"{yes} LICENSE_1_0.txt LICENSE-2.0.txt COPYING.LIB gpl-license.txt Copyright.txt".split():
        assert is_licence_file(name), name
    no = "licenses.py license_check.go copyingmachine README license.json LICENSE-picocli.md COPYING-CMAKE-SCRIPTS"
    for name in f"{no} check-license LICENSE-3rdparty.csv".split():
        assert not is_licence_file(name), name


def test_pythons_licence_is_not_the_gpl_that_it_tells_of():
    text = (
        "GPL-compatible doesn't mean that we're distributing Python under the GPL. All Python licenses,\n"
        "unlike the GPL, let you distribute a modified version without making your changes open source.\n\n"
        "Thanks to the many outside volunteers who have worked to make these releases possible.\n\n"
        "Python software and documentation are licensed under the Python Software Foundation License Version 2.\n"
    )
    assert licence_of_text(text) == "PSF-2.0"


NOTICE = "/*\n * Copyright 2015 gRPC authors.\n * Licensed under the Apache License, Version 2.0\n */\n\n"


@pytest.mark.parametrize("mark", ["//", "#", "--", ";;"])
def test_what_is_compared_begins_behind_the_licence(mark):
    code = "int main() { return 0; }\n" * 20
    assert behind_licence(NOTICE + code) == code
    lines = "".join(f"{mark} {line}\n" for line in ("Licensed under the MIT license", "by many"))
    assert behind_licence(lines + code) == code
    for whole in (NOTICE, NOTICE + "int x;\n", code, "/* what this does */\n" + code, code + NOTICE + code):
        assert behind_licence(whole) == whole


def test_licences_may_be_accepted_by_name():
    both = "CC-BY-SA-3.0 AND CC-BY-SA-4.0"
    assert not is_permissive(both)
    assert not is_permissive(both, frozenset({"CC-BY-SA-4.0"}))
    assert is_permissive(both, frozenset({"CC-BY-SA-3.0", "CC-BY-SA-4.0"}))
    assert not is_permissive("GPL-2.0-or-later", frozenset({"GPL-2.0"}))

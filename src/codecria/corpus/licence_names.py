"""Names and words of licences: what is permissive, what people call them, and which phrase gives each away."""

from __future__ import annotations

_PERMISSIVE = """
0BSD AFL-3.0 Apache-1.1 Apache-2.0 BSD-1-Clause BSD-2-Clause BSD-3-Clause BSD-3-Clause-LBNL BSD-4-Clause
BSL-1.0 BlueOak-1.0.0 CC-BY-3.0 CC-BY-4.0 CC0-1.0 CNRI-Python ECL-2.0 HPND ICU ISC MIT MIT-0 MIT-CMU
MIT-Modern-Variant MS-PL MulanPSL-2.0 NCSA OpenSSL PHP-3.01 PSF-2.0 PostgreSQL Python-2.0 Python-2.0.1
UPL-1.0 Unicode-3.0 Unicode-DFS-2016 Unlicense W3C WTFPL X11 ZPL-2.1 Zlib bzip2-1.0.6 curl libpng-2.0
LicenseRef-BSD LicenseRef-public-domain
"""
_OTHERS = """
AGPL-3.0 AGPL-3.0-only AGPL-3.0-or-later Artistic-2.0 CC-BY-SA-4.0 EPL-1.0 EPL-2.0 EUPL-1.2 GPL-2.0 GPL-2.0+
GPL-2.0-only GPL-2.0-or-later GPL-3.0 GPL-3.0+ GPL-3.0-only GPL-3.0-or-later LGPL-2.1 LGPL-2.1+
LGPL-2.1-only LGPL-2.1-or-later LGPL-3.0 LGPL-3.0-only LGPL-3.0-or-later MPL-1.1 MPL-2.0 LLVM-exception
Classpath-exception-2.0 GCC-exception-3.1
"""

PERMISSIVE = frozenset(_PERMISSIVE.split())
"""Licences whose only conditions are notices: the permissive ones of the Blue Oak Council's list that occur."""

SPDX_NAMES = PERMISSIVE | frozenset(_OTHERS.split())
"""Identifiers and exceptions that a licence field may be made of."""

ALIASES = {
    "apache": "Apache-2.0",
    "apache 2": "Apache-2.0",
    "apache 2.0": "Apache-2.0",
    "apache license 2.0": "Apache-2.0",
    "apache license version 2.0": "Apache-2.0",
    "apache software license": "Apache-2.0",
    "apache software license 2.0": "Apache-2.0",
    "bsd 2 clause": "BSD-2-Clause",
    "simplified bsd": "BSD-2-Clause",
    "bsd 3 clause": "BSD-3-Clause",
    "3 clause bsd": "BSD-3-Clause",
    "2 clause bsd": "BSD-2-Clause",
    "modified bsd": "BSD-3-Clause",
    "new bsd": "BSD-3-Clause",
    "bsd": "LicenseRef-BSD",
    "boost software license 1.0 (bsl 1.0)": "BSL-1.0",
    "cc0 1.0 universal (cc0 1.0) public domain dedication": "CC0-1.0",
    "gplv2": "GPL-2.0-only",
    "gplv3": "GPL-3.0-only",
    "gnu affero general public license v3": "AGPL-3.0-only",
    "gnu affero general public license v3 or later (agplv3+)": "AGPL-3.0-or-later",
    "gnu general public license (gpl)": "GPL-1.0-or-later",
    "gnu general public license v2 (gplv2)": "GPL-2.0-only",
    "gnu general public license v2 or later (gplv2+)": "GPL-2.0-or-later",
    "gnu general public license v3 (gplv3)": "GPL-3.0-only",
    "gnu general public license v3 or later (gplv3+)": "GPL-3.0-or-later",
    "gnu lesser general public license v2 (lgplv2)": "LGPL-2.0-only",
    "gnu lesser general public license v2 or later (lgplv2+)": "LGPL-2.0-or-later",
    "gnu lesser general public license v3 (lgplv3)": "LGPL-3.0-only",
    "gnu lesser general public license v3 or later (lgplv3+)": "LGPL-3.0-or-later",
    "gnu library or lesser general public license (lgpl)": "LGPL-2.0-or-later",
    "historical permission notice and disclaimer (hpnd)": "HPND",
    "isc license (iscl)": "ISC",
    "isc": "ISC",
    "mit": "MIT",
    "mit no attribution license (mit 0)": "MIT-0",
    "mozilla public license 2.0 (mpl 2.0)": "MPL-2.0",
    "mpl 2.0": "MPL-2.0",
    "psf": "PSF-2.0",
    "psf license": "PSF-2.0",
    "python software foundation": "PSF-2.0",
    "python software foundation license": "PSF-2.0",
    "public domain": "LicenseRef-public-domain",
    "the unlicense (unlicense)": "Unlicense",
    "zlib/libpng": "Zlib",
    "zope public": "ZPL-2.1",
}
"""What people write in `License` fields and classifiers, and the SPDX identifier it means.

Keys are in lower case, with blanks for hyphens.
"""

PHRASES: tuple[tuple[str, str], ...] = (
    ("permission is hereby granted free of charge to any person obtaining a copy of this software", "MIT"),
    ("apache license version 2.0", "Apache-2.0"),
    ("apache software license version 1.1", "Apache-1.1"),
    ("redistributions of source code must retain the above copyright notice", "BSD"),
    ("python software foundation license version 2", "PSF-2.0"),
    ("license agreement for matplotlib", "PSF-2.0"),
    ("cnri open source gpl compatible license agreement", "CNRI-Python"),
    ("permission to use copy modify and or distribute this software for any purpose with or without fee", "ISC"),
    ("permission to use copy modify and distribute this software for any purpose with or without fee", "ISC"),
    ("mozilla public license version 2.0", "MPL-2.0"),
    ("mozilla public license v. 2.0", "MPL-2.0"),
    ("mozilla public license version 1.1", "MPL-1.1"),
    ("eclipse public license v 2.0", "EPL-2.0"),
    ("eclipse public license v2.0", "EPL-2.0"),
    ("eclipse public license v1.0", "EPL-1.0"),
    ("gnu free documentation license", "GFDL-1.3-or-later"),
    ("gnu affero general public license", "AGPL"),
    ("gnu lesser general public license", "LGPL"),
    ("gnu library general public license", "LGPL"),
    ("gnu general public license", "GPL"),
    ("this is free and unencumbered software released into the public domain", "Unlicense"),
    ("must not claim that you wrote the original software", "Zlib"),
    ("boost software license version 1.0", "BSL-1.0"),
    ("cc0 1.0 universal", "CC0-1.0"),
    ("postgresql license", "PostgreSQL"),
    ("the artistic license 2.0", "Artistic-2.0"),
    ("the artistic license", "Artistic-1.0"),
    ("for any purpose and without fee is hereby granted provided that", "HPND"),
    ("do what the fuck you want to public license", "WTFPL"),
    ("blue oak model license", "BlueOak-1.0.0"),
    ("universal permissive license version 1.0", "UPL-1.0"),
    ("sil open font license version 1.1", "OFL-1.1"),
    ("zope public license zpl version 2.1", "ZPL-2.1"),
    ("attribution sharealike 4.0 international", "CC-BY-SA-4.0"),
    ("attribution 4.0 international", "CC-BY-4.0"),
    ("business source license 1.1", "BUSL-1.1"),
    ("server side public license", "SSPL-1.0"),
)
"""Words that only this licence has, in lower case without punctuation."""

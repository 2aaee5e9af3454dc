"""Names and words of licences: what is permissive, what people call them, and which phrase gives each away."""

from __future__ import annotations

_PERMISSIVE = """
0BSD AFL-2.0 AFL-2.1 AFL-3.0 Apache-1.1 Apache-2.0 BSD-1-Clause BSD-2-Clause BSD-2-Clause-NetBSD BSD-3-Clause
BSD-3-Clause-LBNL BSD-4-Clause BSD-4-Clause-UC BSL-1.0 Beerware BlueOak-1.0.0 CC-BY-3.0 CC-BY-4.0 CC0-1.0 CNRI-Python
ECL-2.0 FSFAP FSFUL FSFULLR FTL HPND HPND-sell-variant ICU IJG ISC Libpng MIT MIT-0 MIT-CMU MIT-Modern-Variant MS-PL
MulanPSL-2.0 NCSA NTP OLDAP-2.8 OpenSSL PHP-3.01 PSF-2.0 PostgreSQL Python-2.0 Python-2.0.1 RSA-MD Spencer-86 TCL
UPL-1.0 Unicode-3.0 Unicode-DFS-2016 Unlicense W3C WTFPL X11 ZPL-2.1 Zlib blessing bzip2-1.0.6 curl libpng-2.0 libtiff
LicenseRef-BSD LicenseRef-public-domain
"""

PERMISSIVE = frozenset(_PERMISSIVE.split())
"""Licences whose only conditions are notices: the permissive ones of the Blue Oak Council's list that occur."""

_L = "(?: licen[cs]e)?"
_V = "(?: licen[cs]e)? ?(?:v ?|version |ver )?"
_N = "[0-9](?:[.][0-9])?"
_NAMES = f"""
MIT-0 = mit no attribution|mit 0
MIT = mit x11|mit expat|expat mit|x11 mit|mit x|mit|expat
X11 = x11
ISC = isc
Apache-1.1 = apache(?: software)?{_V}1.1
Apache-2.0 WITH LLVM-exception = apache{_V}2(?:.0)? with llvm exceptions?
Apache-2.0 = (?:apache|asl)(?: software| public)?(?: foundation)?(?:{_V}2(?:.0)?)?|al ?v?2(?:.0)?
0BSD = 0 ?bsd|(?:0|zero) clause bsd
BSD-2-Clause = (?:2|two) clauses? (?:free)?bsd|simplified bsd|(?:free)?bsd{_L} ?(?:2|two)(?: ?clauses?)?
BSD-3-Clause = (?:3|three) clauses? bsd|(?:new|modified|revised) bsd|bsd{_L} ?(?:3|three|new|revised)(?: ?clauses?)?
BSD-4-Clause = (?:4|four) clauses? bsd|original bsd|bsd{_L} ?4(?: ?clauses?)?
LicenseRef-BSD = (?:free|net|open)?bsd
Zlib = zlib(?: libpng)?
BSL-1.0 = boost(?: software)?(?:{_V}1(?:.0)?)?|bsl ?1.0
MPL-# = (?:mpl|mozilla(?: public)?){_V}{_N}
EPL-# = (?:epl|eclipse(?: public)?){_V}{_N}
EUPL-# = (?:eupl|european union public){_V}{_N}
AFL-# = (?:afl|academic free){_V}{_N}
OSL-# = (?:osl|open software){_V}{_N}
ZPL-# = (?:zpl|zope public){_V}{_N}
CDDL-# = (?:cddl|common development and distribution){_V}{_N}
CDDL-1.0 = cddl|common development and distribution
Artistic-# = artistic{_V}{_N}
Artistic-1.0 = artistic
Artistic-1.0-Perl OR GPL-1.0-or-later = perl(?: 5)?(?: programming language)?(?: system)?(?: itself)?
LicenseRef-public-domain = public domain
CC0-1.0 = cc0(?: 1.0)?
Unlicense = unlicen[cs]e
WTFPL = wtfpl
PSF-2.0 = psf|python(?: software foundation)?
ZPL-2.1 = zope public
HPND = historical permission notice and disclaimer|hpnd
PostgreSQL = postgresql
NCSA = ncsa|university of illinois(?: ncsa)? open source
MS-PL = ms pl|microsoft public
MulanPSL-2.0 = mulan(?: psl| permissive software){_V}2(?:.0)?
OpenSSL = openssl
UPL-1.0 = universal permissive(?:{_V}1(?:.0)?)?|upl
LicenseRef-PolyForm = polyform(?: [a-z]+){{1,2}}?
LicenseRef-proprietary = (?:other )?proprietary
OFL-1.1 = sil open font|ofl
W3C = w3c
Ruby OR BSD-2-Clause = ruby(?: itself)?
"""

NAMES = tuple((pattern, name) for name, _, pattern in (line.partition(" = ") for line in _NAMES.strip().split("\n")))
"""What people call a licence, without "license" at the end, and the SPDX expression it means: regular expressions for
text in lower case with blanks for punctuation, the first that matches counts; `#` is the version that was written.
The GNU licences are not among them."""

_PHRASES = """
MIT = permission is hereby granted free of charge to any person obtaining a copy
MIT = opensource.org licenses mit
BSL-1.0 = permission is hereby granted free of charge to any person or organization obtaining a copy
BSL-1.0 = boost software license version 1.0
Apache-2.0 WITH LLVM-exception = apache license v2.0 with llvm exceptions
Apache-2.0 = apache license version 2.0
Apache-2.0 = apache.org licenses license 2.0
Apache-1.1 = apache software license version 1.1
BSD = redistributions of source code must retain the
BSD = redistribution and use in source and binary forms with or without modification are permitted
PSF-2.0 = python software foundation license version 2
PSF-2.0 = license agreement for matplotlib
CNRI-Python = cnri open source gpl compatible license agreement
ISC = permission to use copy modify and or distribute this software for any purpose with or without fee
ISC = permission to use copy modify and distribute this software for any purpose with or without fee
HPND = copy modify and distribute this software and its documentation for any purpose
HPND = copy modify distribute and sell this software and its documentation for any purpose
HPND = for any purpose and without fee is hereby granted provided that
NAMED = mozilla public license
NAMED = eclipse public license
NAMED = european union public
BSD-3-Clause = eclipse distribution license
Ruby OR BSD-2-Clause = 2 clause bsdl see the file bsdl or the conditions below
NAMED = gnu free documentation license
NAMED = gnu affero general public license
NAMED = gnu lesser general public license
NAMED = gnu library general public license
NAMED = gnu general public license
CDDL-1.0 = common development and distribution license
Unlicense = this is free and unencumbered software released into the public domain
Zlib = must not claim that you wrote the original software
libpng-2.0 = png reference library license version 2
CC0-1.0 = cc0 1.0 universal
CC0-1.0 = publicdomain zero 1.0
PostgreSQL = postgresql license
NAMED = the artistic license
WTFPL = do what the fuck you want to public license
BlueOak-1.0.0 = blue oak model license
UPL-1.0 = universal permissive license version 1.0
OFL-1.1 = sil open font license version 1.1
NAMED = zope public license
BUSL-1.1 = business source license
LicenseRef-FSL = functional source license
LicenseRef-Commons-Clause = commons clause
Elastic-2.0 = elastic license
LicenseRef-Confluent-Community = confluent community license
LicenseRef-PolyForm = polyformproject.org
LicenseRef-RSAL = redis source available license
SSPL-1.0 = server side public license
FSFAP = permitted in any medium without royalty provided the copyright notice and this notice are preserved
FSFULLR = gives unlimited permission to copy and or distribute it with or without modifications as long as
FSFUL = gives unlimited permission to copy distribute and modify it
blessing = the author disclaims copyright to this source code in place of a legal notice
Unicode-DFS-2016 = unicode data files and any associated documentation
"""

PHRASES = tuple((phrase, name) for name, _, phrase in (line.partition(" = ") for line in _PHRASES.strip().split("\n")))
"""Words that only this licence has, in lower case with blanks for punctuation; NAMED: its name stands there."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codecria.corpus.licence_metadata import is_package_file, licence_of_package_file

POM = """<project xmlns="http://maven.apache.org/POM/4.0.0">
  <dependencies><license><name>GPL</name></license></dependencies>
  <licenses>{}</licenses>
</project>"""
APACHE = "<license><name>The Apache Software License, Version 2.0</name></license>"
PERL = "Artistic-1.0-Perl OR GPL-1.0-or-later"


@pytest.mark.parametrize(
    ("name", "text", "licence"),
    [
        ("PKG-INFO", "Metadata-Version: 2.4\nName: x\nLicense-Expression: MIT OR Apache-2.0\n", "MIT OR Apache-2.0"),
        ("METADATA", "Name: x\nLicense: BSD\nClassifier: License :: OSI Approved :: BSD License\n", "LicenseRef-BSD"),
        (
            "METADATA",
            "Name: x\nLicense: MIT\nClassifier: License :: Other/Proprietary License\n",
            "MIT AND LicenseRef-proprietary",
        ),
        ("METADATA", "Name: x\n\nLicense: MIT\n", None),
        ("pyproject.toml", '[project]\nname = "x"\nlicense = "MIT OR Apache-2.0"\n', "MIT OR Apache-2.0"),
        ("pyproject.toml", '[project]\nlicense = {text = "BSD 3-Clause"}\n', "BSD-3-Clause"),
        ("pyproject.toml", '[project]\nlicense = {file = "LICENSE"}\n', None),
        ("pyproject.toml", '[project]\nclassifiers = ["License :: OSI Approved :: MIT License"]\n', "MIT"),
        ("pyproject.toml", '[tool.poetry]\nlicense = "Apache-2.0"\n', "Apache-2.0"),
        ("pyproject.toml", "[tool.black]\nline-length = 100\n", None),
        ("setup.cfg", "[metadata]\nlicense = MIT\nversion = attr: %(x)s\n", "MIT"),
        ("setup.cfg", "[metadata]\nclassifiers =\n    License :: OSI Approved :: ISC License (ISCL)\n", "ISC"),
        ("setup.cfg", "[flake8]\nmax-line-length = 100\n", None),
        ("setup.py", "setup(name='x', license='Apache 2.0')\n", "Apache-2.0"),
        ("setup.py", "setup(classifiers=['License :: OSI Approved :: MIT License',])\n", "MIT"),
        ("package.json", '{"license": "MIT"}', "MIT"),
        ("package.json", '{"license": "(MIT OR GPL-2.0)"}', "(MIT OR GPL-2.0)"),
        ("package.json", '{"license": {"type": "BSD-3-Clause", "url": "http://example.org"}}', "BSD-3-Clause"),
        ("package.json", '{"licenses": [{"type": "MIT"}, {"type": "Apache-2.0"}]}', "MIT OR Apache-2.0"),
        ("package.json", '{"license": "SEE LICENSE IN LICENSE.md"}', None),
        ("package.json", '{"license": "UNLICENSED"}', "LicenseRef-proprietary"),
        ("package.json", '{"license": 3}', None),
        ("package.json", '["MIT"]', None),
        ("composer.json", '{"license": ["LGPL-2.1-only", "GPL-3.0-or-later"]}', "LGPL-2.1-only OR GPL-3.0-or-later"),
        ("composer.json", '{"license": "proprietary"}', "LicenseRef-proprietary"),
        ("Cargo.toml", '[package]\nlicense = "MIT/Apache-2.0"\n', "MIT OR Apache-2.0"),
        ("Cargo.toml", '[package]\nlicense = "Apache-2.0 WITH LLVM-exception"\n', "Apache-2.0 WITH LLVM-exception"),
        ("Cargo.toml", "[package]\nlicense.workspace = true\n", None),
        ("Cargo.toml", '[package]\nlicense-file = "LICENSE"\n', None),
        ("Cargo.toml", '[workspace.package]\nlicense = "MIT"\n', "MIT"),
        ("pom.xml", POM.format(APACHE), "Apache-2.0"),
        (
            "pom.xml",
            POM.format(APACHE + "<license><name>LGPL, version 2.1</name></license>"),
            "Apache-2.0 OR LGPL-2.1-only",
        ),
        (
            "pom.xml",
            POM.format("<license><name>see</name><url>https://www.apache.org/licenses/LICENSE-2.0.txt</url></license>"),
            "Apache-2.0",
        ),
        ("pom.xml", POM.format(f"<!-- {APACHE} -->"), None),
        ("x-1.0.pom", POM.format(APACHE), "Apache-2.0"),
        ("x.nuspec", '<package><metadata><license type="expression">MIT</license></metadata></package>', "MIT"),
        ("x.nuspec", '<package><metadata><license type="file">L.txt</license></metadata></package>', None),
        (
            "x.nuspec",
            "<package><metadata><licenseUrl>https://opensource.org/licenses/MIT</licenseUrl></metadata></package>",
            "MIT",
        ),
        ("x.gemspec", 'Gem::Specification.new do |s|\n  s.license     = "MIT"\nend\n', "MIT"),
        ("x.gemspec", "  spec.licenses = ['MIT', \"GPL-3.0\"]\n", "MIT OR GPL-3.0"),
        ("x.gemspec", "  spec.licenses = %w[MIT Apache-2.0]\n", "MIT OR Apache-2.0"),
        ("x-1.rockspec", 'description = {\n   license = "MIT/X11"\n}\n', "MIT"),
        ("x.cabal", "name: x\nlicense:             BSD3\nlicense-file: LICENSE\n", "BSD-3-Clause"),
        ("META.json", '{"license": ["perl_5"]}', PERL),
        ("META.json", '{"license": ["artistic_2", "mit"]}', "Artistic-2.0 AND MIT"),
        ("META.json", '{"license": ["mit", "agpl_3"]}', "MIT AND AGPL-3.0-only"),
        ("META.json", '{"license": ["mit", "restricted"]}', "MIT AND LicenseRef-restricted"),
        ("META.json", '{"license": ["unknown"]}', None),
        ("META.json", '{"name": "no package of Perl"}', None),
        ("META.yml", "---\nabstract: x\nlicense: perl\n", PERL),
        ("META.yml", "license: 'apache_2_0'\n", "Apache-2.0"),
        ("DESCRIPTION", "Package: x\nLicense: GPL (>= 2)\n", "GPL-2.0-or-later"),
        ("DESCRIPTION", "Package: x\nLicense: MIT + file LICENSE\n", "MIT"),
        ("DESCRIPTION", "Package: x\nLicense: GPL-2 | BSD_3_clause + file LICENCE\n", "GPL-2.0-only OR BSD-3-Clause"),
        ("DESCRIPTION", "Package: x\nLicense: file LICENSE\n", None),
        ("DESCRIPTION", "License: MIT\n", None),
        ("README", "License: MIT\n", None),
    ],
)
def test_what_packages_state(name, text, licence):
    assert licence_of_package_file(name, text) == licence


NAMES = [
    "PKG-INFO",
    "pyproject.toml",
    "setup.cfg",
    "setup.py",
    "package.json",
    "composer.json",
    "Cargo.toml",
    "pom.xml",
]
NAMES += ["x.nuspec", "x.gemspec", "META.json", "META.yml", "DESCRIPTION"]


def test_names():
    assert all(map(is_package_file, [*NAMES, "METADATA", "x-1.rockspec", "x.pom"]))
    assert not any(map(is_package_file, ["package-lock.json", "Cargo.lock", "METADATA.txt", "gemspec", "xpom.xml"]))


@given(st.sampled_from(NAMES), st.text(max_size=200))
def test_no_text_makes_it_fail(name, text):
    for written in (
        text,
        f"Package: x\nlicense = {text}",
        f"[package]\nlicense = '{text}'",
        json.dumps({"license": text}),
    ):
        licence_of_package_file(name, written)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda x: st.lists(x) | st.dictionaries(st.text(), x)
)


@given(st.sampled_from(["package.json", "META.json", "composer.json"]), st.sampled_from(["license", "licenses"]), JSON)
def test_no_json_makes_it_fail(name, key, value):
    licence_of_package_file(name, json.dumps({key: value}))


def test_hostile_files_are_only_unreadable():
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    bomb = f'<!DOCTYPE x [<!ENTITY l0 "ha">{laughs}]>' + POM.format("<license><name>&l9;</name></license>")
    assert licence_of_package_file("pom.xml", bomb) is None
    outside = '<!DOCTYPE x [<!ENTITY f SYSTEM "file:///etc/passwd">]>' + POM.format(
        "<license><name>&f;</name></license>"
    )
    assert licence_of_package_file("pom.xml", outside) is None
    assert licence_of_package_file("package.json", "[" * 100_000) is None
    assert licence_of_package_file("Cargo.toml", "a = " + "[" * 100_000) is None
    assert licence_of_package_file("pom.xml", "<a>" * 100_000) is None
    assert licence_of_package_file("x.gemspec", "license = " + "[" * 100_000) is None
    assert licence_of_package_file("DESCRIPTION", "Package: x\nLicense: " + "a (>= 1" * 50_000) is not None

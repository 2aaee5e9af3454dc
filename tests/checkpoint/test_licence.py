import pytest

from codecria.checkpoint.licence import licence_of


@pytest.mark.parametrize(
    ("files", "licence"),
    [
        ({}, None),
        ({"README.md": "---\nlanguage: en\nlicense: llama2\n---\n# Model\n"}, "llama2"),
        ({"README.md": "# A model\nlicense: none\n"}, None),
        ({"README.md": "---\nlicense: [broken\n---\n"}, None),
        ({"LICENSE": "LLAMA 2 COMMUNITY LICENSE AGREEMENT\t\nLlama 2 Version Release"}, "llama2"),
        ({"LICENSE": "   Apache License\n Version 2.0"}, "apache-2.0"),
        ({"LICENSE.txt": "All rights reserved"}, None),
        ({"lineage.json": '{"parent": {"name": "x", "licence": "apache-2.0"}}'}, "apache-2.0"),
        ({"lineage.json": '{"licence": "mit"}', "README.md": "---\nlicense: llama2\n---\n"}, "mit"),
        ({"lineage.json": "not JSON", "LICENSE": "MIT License"}, "mit"),
    ],
)
def test_what_a_folder_says(tmp_path, files, licence):
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    assert licence_of(tmp_path) == licence

import pickle

import pytest

from codecria.common.errors import CodecriaError
from codecria.corpus.opt_out import OptOut

LIST = """# Asked to be left out
Some-Owner/Their-Name
https://github.com/another/one.git   # by letter

everyone/*
left-pad
@Scope/package
"""


@pytest.fixture
def listed(tmp_path):
    (tmp_path / "list.txt").write_text(LIST)
    (tmp_path / "more.txt").write_text("numpy\r\n")
    return OptOut.load((str(tmp_path / "list.txt"), str(tmp_path / "more.txt")))


@pytest.mark.parametrize(
    ("package", "origin"),
    [
        ("some-owner/their-name", "some-owner/their-name @ 0123abcd"),
        ("their-name", "https://github.com/Some-Owner/Their-Name.git @ 0123abcd"),
        ("x", "github.com/another/one v1.2.0"),
        ("git@github.com:another/one", ""),
        ("everyone/anything", ""),
        ("Left-Pad", "left-pad 1.3.0"),
        ("@scope/package", "@scope/package 2.0.0"),
        ("NumPy", "numpy==2.0"),
    ],
)
def test_covered(listed, package, origin):
    assert listed.covers(package, origin)


@pytest.mark.parametrize(
    ("package", "origin"),
    [
        ("their-name", "their-name 1.0"),
        ("some-owner/other", "some-owner/other @ 0123abcd"),
        ("everyone", "everyone 1.0"),
        ("everyone-else/thing", ""),
        ("left-pad-two", "left-pad-two 1.0"),
        ("scope/package", ""),
        ("", ""),
    ],
)
def test_not_covered(listed, package, origin):
    assert not listed.covers(package, origin)


def test_no_list_covers_nothing():
    assert not OptOut.load(()).covers("numpy", "numpy 2.0")


def test_identity_is_of_what_is_covered(listed, tmp_path):
    (tmp_path / "same.txt").write_text(LIST.upper() + "NUMPY\nnumpy\n# a comment\n")
    assert OptOut.load((str(tmp_path / "same.txt"),)).identity == listed.identity
    assert OptOut.load((str(tmp_path / "list.txt"),)).identity != listed.identity
    assert pickle.loads(pickle.dumps(listed)) == listed


def test_a_list_that_is_not_there(tmp_path):
    with pytest.raises(CodecriaError, match=r"gone\.txt: no such file or folder; check the path"):
        OptOut.load((str(tmp_path / "gone.txt"),))

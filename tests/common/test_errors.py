import errno

from codecria.common.errors import CodecriaError, explain_os_error


def test_one_line_with_where_what_and_mend():
    error = CodecriaError("vocabulary of 7 rows\nwanted 8", where="config.json", mend="convert again")
    assert str(error) == "config.json: vocabulary of 7 rows wanted 8; convert again"


def test_only_what():
    assert str(CodecriaError("nothing to do")) == "nothing to do"


def test_os_errors_name_the_file_and_the_mend():
    error = explain_os_error(OSError(errno.ENOSPC, "No space left on device", "/x/y"))
    assert str(error).startswith("/x/y: no space left on the disk; free")
    assert "strange" in str(explain_os_error(OSError(99999, "Strange")))

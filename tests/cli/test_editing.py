import os

import pytest

from tests.generation.openai_server import OpenAIServer

CODE = "def area(radius):\n    return 3 * radius * radius\n"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "shop.py"
    path.write_text(CODE)
    path.chmod(0o755)
    return path


@pytest.fixture
def server():
    """A server whose model says the same whatever it is asked."""
    import json

    says = {}

    def answer(body):
        choices = [{"index": number, "text": says["text"], "finish_reason": "stop"} for number in range(body["n"])]
        return 200, {}, json.dumps({"choices": choices, "usage": {"prompt_tokens": 1}})

    with OpenAIServer(refuse=answer) as server:
        server.says = says
        yield server


def test_a_docstring_is_shown_and_written_only_when_asked(run, file, server):
    server.says["text"] = "Area of a circle."
    options = ("--endpoint", server.url, "--model", "any")
    status, out, err = run("document", f"{file}:area", *options)
    assert status == 0, err
    assert '+    """Area of a circle."""\n' in out
    assert file.read_text() == CODE
    link = file.with_name("link.py")
    link.symlink_to(file)
    run("document", link, *options, "--write")
    assert file.read_text() == CODE.replace(":\n", ':\n    """Area of a circle."""\n')
    assert link.is_symlink()
    assert os.access(file, os.X_OK)
    assert run("document", file, *options)[1] == ""


def test_a_file_that_changed_meanwhile_is_not_written(run, file, server):
    answer = server.refuse

    def edit_then_answer(body):
        file.write_text(CODE + "# mine\n")
        return answer(body)

    server.refuse = edit_then_answer
    server.says["text"] = "Area of a circle."
    status, _, err = run("document", file, "--endpoint", server.url, "--model", "any", "--write")
    assert status == 1
    assert "has changed meanwhile" in err
    assert file.read_text() == CODE + "# mine\n"


def test_a_middle_is_written_into_the_file_as_it_is(run, file, server):
    """Its mode and a link to it stay, and a change made meanwhile."""
    server.says["text"] = "math.pi * "
    link = file.with_name("link.py")
    link.symlink_to(file)
    asked = ("infill", f"{link}:2:12", "--endpoint", server.url, "--model", "any", "--write")
    status, _, err = run(*asked)
    assert status == 0, err
    whole = CODE.replace("return ", "return math.pi * ")
    assert (file.read_text(), link.is_symlink(), os.access(file, os.X_OK)) == (whole, True, True)
    answer = server.refuse

    def edit_then_answer(body):
        file.write_text(CODE + "# mine\n")
        return answer(body)

    server.refuse = edit_then_answer
    status, _, err = run(*asked)
    assert status == 1
    assert "has changed meanwhile" in err
    assert file.read_text() == CODE + "# mine\n"


def test_types_are_written(run, file, server):
    server.says["text"] = "float"
    status, out, err = run("annotate", file, "--endpoint", server.url, "--model", "any", "-w")
    assert status == 0, err
    assert "+def area(radius: float) -> float:\n" in out
    assert "def area(radius: float) -> float:\n" in file.read_text()


def test_a_fix_is_found_in_the_sandbox(run, file, server, tmp_path):
    asserts = tmp_path / "asserts.py"
    asserts.write_text("from shop import area\nassert area(2) == 8\n")
    options = ("--endpoint", server.url, "--model", "any")
    server.says["text"] = "return 1"
    status, out, err = run("fix", file, "--test", asserts, *options, "--write")
    assert (status, out, file.read_text()) == (1, "", CODE)
    assert "none of 1 programs passes; written anew: lines 2" in err
    server.says["text"] = "return 2 * radius * radius"
    status, out, err = run("fix", file, "--test", asserts, *options, "--write")
    assert status == 0, err
    assert "+    return 2 * radius * radius\n" in out
    assert "2 * radius * radius" in file.read_text()
    assert "passes already" in run("fix", file, "--test", asserts, *options)[2]


def test_a_model_without_markers_and_a_file_that_does_not_parse(run, file, plain_model):
    assert "not trained to infill" in run("document", file, "--model", plain_model)[2]
    file.write_text("def area(:\n")
    status, _, err = run("annotate", file, "--model", plain_model)
    assert (status, "shop.py:1: does not parse" in err) == (1, True)


def test_complete_through_an_endpoint(run, server):
    server.says["text"] = "\n    pass"
    status, out, _ = run("complete", "def f():", "--endpoint", server.url, "--model", "any")
    assert (status, out) == (0, "\n    pass")
    assert server.bodies[0]["prompt"] == "def f():"


def test_line_ends_of_standard_input_stay(run, server):
    server.says["text"] = "1"
    options = ("--endpoint", server.url, "--model", "any", "--whole")
    assert run("infill", "-", *options, stdin="a = <FILL>\r\nb = 2\r\n")[:2] == (0, "a = 1\r\nb = 2\r\n")

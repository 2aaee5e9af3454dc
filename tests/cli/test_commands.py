import json
import re
import subprocess
import sys
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from codecria.cli.infill import split_at
from codecria.common.errors import CodecriaError
from codecria.sandbox import Program, attacks, available_backends

CODE = "def area(radius):\n    return \n\n\nprint(area(2))\n"


@pytest.mark.parametrize(
    "command",
    [
        "complete", "infill", "chat", "document", "annotate", "fix",
        "corpus build", "corpus inspect", "train", "evaluate", "convert", "models", "report",
        "doctor", "demo", "export", "pipeline", "train-replay", "bench", "serve",
    ],
)  # fmt: skip
def test_help_reads_like_a_man_page_with_an_example(run, command):
    status, out, _ = run(*command.split(), "--help")
    assert status == 0
    assert "Example" in out
    assert f"codecria {command.split()[0]}" in out


def test_version(run):
    assert run("--version")[1].startswith("codecria 0.")


@pytest.fixture
def doctor(run, monkeypatch):
    """Run the doctor with these attacks beside those that end at once: its status, lines of its table, the error."""
    if not any(each.available for each in available_backends()):
        pytest.skip("no sandbox starts here")
    laid_out = attacks.attacks
    monkeypatch.setenv("COLUMNS", "200")

    def call(*further):
        monkeypatch.setattr(
            attacks, "attacks", lambda bait: [*(each for each in laid_out(bait) if each.quick), *further]
        )
        status, out, err = run("doctor")
        _, _, table = out.partition("\nattack ")
        rows = [re.split(r"  +", line.strip()) for line in table.splitlines()[1:]]
        return status, {name: (contained, verdict) for name, contained, verdict in rows}, err

    return call


def quick_attacks():
    with attacks.lay_bait() as bait:
        return [each for each in attacks.attacks(bait) if each.quick]


def test_the_doctor_says_of_every_attack_that_it_was_contained(doctor):
    expected = quick_attacks()
    status, rows, err = doctor()
    assert (status, err) == (0, "")
    assert list(rows) == [each.name for each in expected]
    assert all(
        contained == "yes" and verdict in each.stopped_as
        for each, (contained, verdict) in zip(expected, rows.values(), strict=True)
    )


def test_the_doctor_names_what_gets_through_and_fails(doctor):
    """Two harmless programs in the attacks' form, which pass: `quick` would have the sandbox refused before."""
    through = Program("def f(x):\n    return x + 1", "assert f(1) == 2")
    names = ["return the right answer", "return it again"]
    status, rows, err = doctor(*(attacks.Attack(name, through, quick=False) for name in names))
    assert status == 1
    assert err == (
        "error: doctor: the sandbox lets through: return the right answer, return it again; "
        "do not run generated code on this machine\n"
    )
    assert [name for name, row in rows.items() if row == ("NO", "passed")] == names
    assert sum(contained == "yes" for contained, _ in rows.values()) == len(rows) - 2


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ("raise KeyboardInterrupt", 130, "interrupted; start the same command again to go on\n"),
        ("raise BrokenPipeError(errno.EPIPE, 'gone')", 141, ""),
        ("print('much\\n' * 100_000)", 141, ""),
        ("print('little')", 141, ""),
    ],
)
@pytest.mark.parametrize("group", ["models", "corpus build"])
def test_a_command_that_is_interrupted_says_so_and_one_without_a_reader_is_silent(group, body, status, told):
    *outer, name = group.split()
    code = f"""
import errno, sys
from codecria.cli import {"corpus, " if outer else ""}main
commands = {"corpus.app" if outer else "main.app"}
commands.registered_commands[:] = [each for each in commands.registered_commands if each.name != {name!r}]
@commands.command({name!r})
def command():
    {body}
sys.argv = ["codecria", *{outer!r}, {name!r}]
main.main()
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        err = process.stderr.read().decode()
    assert (process.returncode, err) == (status, told)


def test_help_does_not_load_torch():
    code = "import sys; from codecria.cli import main; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@given(st.text(alphabet="ab é😀\t", max_size=20), st.lists(st.text(alphabet="ab\r", max_size=5), max_size=5), st.data())
def test_a_cursor_is_lines_and_characters_from_one(line, others, data):
    lines = [*others, line, "end"]
    column = data.draw(st.integers(1, len(line) + 1))
    prefix, suffix = split_at("\n".join(lines), len(others) + 1, column, "file")
    assert prefix + suffix == "\n".join(lines)
    assert prefix.rsplit("\n", 1)[-1] == line[: column - 1]


def test_a_line_ends_before_its_crlf():
    assert split_at("ab\r\ncd", 1, 3, "x") == ("ab", "\r\ncd")
    with pytest.raises(CodecriaError):
        split_at("ab\r\ncd", 1, 4, "x")


def test_infill_prints_the_middle_and_puts_it_in_place(run, infill_model, tmp_path):
    path = tmp_path / "shop.py"
    path.write_text(CODE)
    place = f"{path}:2:12"
    options = ("--model", infill_model, "--max-tokens", 12)
    status, middle, _ = run("infill", place, *options)
    assert status == 0
    assert path.read_text() == CODE
    _, whole, _ = run("infill", place, *options, "--whole")
    assert whole == CODE[:29] + middle + CODE[29:]
    run("infill", place, *options, "--write")
    assert path.read_text() == whole
    _, piped, _ = run("infill", "-", *options, "--whole", stdin=CODE[:29] + "<FILL>" + CODE[29:])
    assert piped == whole
    _, line, _ = run("infill", place, *options, "--until", "line")
    assert "\n" not in line


def test_infill_prints_candidates_and_shows_other_files(run, infill_model, tmp_path):
    path, other = tmp_path / "shop.py", tmp_path / "prices.py"
    path.write_text(CODE)
    other.write_text("PRICE = 3\n" * 20)
    asked = ("infill", f"{path}:2:12", "--model", infill_model, "--max-tokens", 6)
    status, out, _ = run(*asked, "--candidates", 4)
    found = [json.loads(line) for line in out.splitlines()]
    assert status == 0 and 2 <= len(found) <= 4
    assert found == sorted(found, key=lambda each: -each["log_probability"])
    assert run(*asked, "--file", other, "--window", 200, "--until", "bracket")[0] == 0
    assert run(*asked, "--candidates", 2, "--whole")[0] == 1
    assert "none.py" in run(*asked, "--file", tmp_path / "none.py")[2]


def test_complete_and_chat_stream(run, plain_model):
    status, out, _ = run("complete", "import os\n", "--model", plain_model, "--max-tokens", 8)
    assert status == 0
    again = run("complete", "-", "--model", plain_model, "--max-tokens", 8, stdin="import os\n")[1]
    assert again == out
    status, answer, _ = run("chat", "hello", "--model", plain_model, "--max-tokens", 8, "--temperature", 1)
    assert status == 0
    assert answer.endswith("\n")


def test_bench_shows_speed_memory_and_bandwidth(run, plain_model):
    options = ("--prompt-tokens", 32, "--tokens", 4, "--repeats", 1, "--threads", 1)
    status, out, err = run("bench", plain_model, "--dtype", "int8", *options)
    assert status == 0, err
    for word in ("prefill", "decode", "time to first token", "MB", "GB/s"):
        assert word in out


def test_bench_as_json_agrees_with_what_it_measured(run, plain_model):
    options = ("--prompt-tokens", 40, "--tokens", 6, "--repeats", 1, "--threads", 1, "--dtype", "fp32", "--json")
    began = time.perf_counter()
    status, out, err = run("bench", plain_model, *options)
    wall_s = time.perf_counter() - began
    assert status == 0, err
    found = json.loads(out)
    assert (found["dtype"], found["threads"], found["repeats"]) == ("fp32", 1, 1)
    assert (found["prompt_tokens"], found["written_tokens"]) == (40, 6)
    file_bytes = (plain_model / "model.safetensors").stat().st_size
    assert 0.9 * file_bytes < found["weight_bytes"] <= file_bytes  # the file has a header
    assert 0 < found["load_s"] + found["first_token_s"] < wall_s
    assert 40 / found["prefill_tokens_per_s"] == pytest.approx(found["first_token_s"], rel=0.01)
    cached = 2 * 2 * 2 * 8 * 4 * (40 + 6 / 2)  # keys and values, layers, heads, width, bytes, tokens
    step_bytes = found["weight_bytes"] + cached
    assert found["read_bytes_per_s"] == pytest.approx(found["decode_tokens_per_s"] * step_bytes, rel=0.01)
    assert found["bandwidth_bytes_per_s"] > 1e8
    assert found["peak_bytes"] > 5e7
    # A prompt that the context has no room for is shortened.
    status, out, err = run("bench", plain_model, "--prompt-tokens", 5000, "--tokens", 4, "--repeats", 1, "--json")
    assert json.loads(out)["prompt_tokens"] == 2044, err


def test_convert_there_and_back(run, plain_model, tmp_path):
    assert run("convert", plain_model, tmp_path / "m.gguf", "--to", "gguf-f16")[0] == 0
    assert run("convert", tmp_path / "m.gguf", tmp_path / "back")[0] == 0
    assert json.loads((tmp_path / "back" / "config.json").read_text())["vocab_size"]
    assert (
        run("complete", "import", "--model", tmp_path / "back", "--max-tokens", 4)[1]
        == run("complete", "import", "--model", tmp_path / "m.gguf", "--max-tokens", 4)[1]
    )


def test_models_lists_licences_and_what_infills(run):
    status, out, _ = run("models")
    assert status == 0
    assert "codellama-7b" in out
    assert "llama2" in out
    assert "apache-2.0" in out


def test_corpus_build_and_inspect(run, tmp_path):
    code = tmp_path / "code"
    for number in range(8):
        (code / f"project{number}").mkdir(parents=True)
        body = "\n".join(f"def f{number}_{n}(x):\n    return x * {n} + {number}\n" for n in range(20))
        (code / f"project{number}" / "main.py").write_text(body)
    (code / "project3" / "again.py").write_text((code / "project3" / "main.py").read_text() + "\nprint(f3_1(2))\n")
    status, out, err = run("corpus", "build", code, "--out", tmp_path / "corpus", "--licence", "MIT")
    assert status == 0, err
    assert "MIT" in out
    corpus = tmp_path / "corpus"
    assert run("corpus", "inspect", corpus)[1] == out
    assert run("corpus", "inspect", corpus, "--verify")[1] == out
    found = run("corpus", "inspect", corpus, "--search", "DEF ", "--path", "*.py", "--most", "1")[1]
    assert ".py:" in found
    assert "def " in found
    assert "and more: --most 10 shows them" in found
    assert "near-copy" in run("corpus", "inspect", corpus, "--dropped", "all", "--most", "1000")[1]
    assert "similar" in run("corpus", "inspect", corpus, "--copies")[1]
    assert run("corpus", "inspect", corpus, "--html", tmp_path / "page.html")[0] == 0
    page = (tmp_path / "page.html").read_text()
    assert "Near copies, side by side" in page
    assert "http" not in page.replace("http://www.w3.org", "")


def test_train_shows_its_whole_recipe(run, tmp_path):
    path = tmp_path / "r.yaml"
    path.write_text("model: m\ncorpus: c\nsteps: 5\nsequences_per_step: 1\n")
    status, out, _ = run("train", path, "--show", "--set", "optimiser.peak_rate=1e-5")
    assert status == 0
    assert "peak_rate: 1.0e-05" in out
    assert "warm_up_steps: 1000" in out

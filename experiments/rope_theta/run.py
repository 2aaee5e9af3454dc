"""Four times the positions: θ raised, or positions interpolated, each without and with a short tuning.

The base knows 512 positions with θ = 1e4, and has learnt there to look back for a passage that comes again. It is
read, and tuned on plain code, at 2,048.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from codecria.checkpoint.huggingface import save_huggingface
from codecria.checkpoint.open import open_checkpoint
from codecria.checkpoint.source import Description
from codecria.evaluation.recipe import EvaluateRecipe
from codecria.evaluation.run import evaluate
from codecria.evaluation.subject import LocalSubject
from codecria.evaluation.tasks.long_perplexity import LongPerplexityRecipe, LongText, bins, choose_long, score_long
from codecria.model.config import RopeScaling
from experiments.rope_theta.copies import copies_corpus
from experiments.rope_theta.retrieval import PLACES, Repeat, gains, repeats
from experiments.shared.drawing import new_plot, save_plot
from experiments.shared.setting import opened
from experiments.shared.statistics import over_items, over_seeds, shown

if TYPE_CHECKING:
    from codecria.model.config import ModelConfig
    from experiments.shared.setting import Setting

HERE = Path(__file__).parent
THETA, FACTOR = 1e6, 4
ARMS = ("as trained", "θ raised", "interpolated")
DOCUMENTS, KEYS = 24, 12
PIECES = 1_500
Tables = dict[str, dict[str, list[list[float]]]]
"""By arm and measure the values [seeds, items]."""


def run(setting: Setting) -> None:
    """Tune, measure, write `results.json` and `plot.png`."""
    base = _taught_base(setting)
    documents, (_, tokenizer) = setting.held_out(), opened(base)
    longest = FACTOR * setting.shape.max_positions
    asked = LongPerplexityRecipe(
        items=4 if setting.small else DOCUMENTS, max_tokens=longest, min_bytes=1_000 if setting.small else 12_000
    )
    texts = choose_long(documents, "file", tokenizer, 0, asked)
    lengths = [longest // 4, longest // 2, longest]
    found = repeats(documents, tokenizer, 2 if setting.small else KEYS, longest, 48)
    tables: Tables = {}
    for name, checkpoints in _checkpoints(setting, base, longest).items():
        for checkpoint in checkpoints:
            for measure, values in _measured(checkpoint, texts, found, lengths).items():
                tables.setdefault(name, {}).setdefault(measure, []).append(values)
    figures = {name: {measure: _mean(rows) for measure, rows in table.items()} for name, table in tables.items()}
    last = [f"perplexity@{max(128, 2 * start)}" for start, _ in bins(longest)]
    last += [f"{place}@{length}" for length in lengths for place in PLACES]
    results = {
        "question": __doc__,
        "theta": THETA,
        "factor": FACTOR,
        "documents": [len(text.ids) for text in texts],
        "repeats": len(found),
        "figures": figures,
        "tuned_against_tuned_as_trained": {
            arm: {measure: _difference(tables, f"{arm}, tuned", "as trained, tuned", measure) for measure in last}
            for arm in ARMS[1:]
        },
        "θ_raised_less_interpolated_tuned": {
            measure: _difference(tables, "θ raised, tuned", "interpolated, tuned", measure) for measure in last
        },
        "untuned_against_as_trained": {
            arm: {measure: _difference(tables, arm, "as trained", measure) for measure in last} for arm in ARMS[1:]
        },
        "keys_of_the_task": {} if setting.small else _task_keys(setting, base, longest),
    }
    setting.write(results)
    _draw(results, lengths, setting.out / "plot.png")


def _taught_base(setting: Setting) -> Path:
    """The base behind a stage, within its positions, on pieces in which passages come again."""
    base, positions = setting.base(), setting.shape.max_positions
    pieces = 40 if setting.small else PIECES
    corpus = copies_corpus(setting.corpus(), opened(base)[1], pieces, positions, setting.runs / "copies-corpus")
    return setting.stage(HERE / "copies.yaml", base, "base-copies", f"corpus={corpus}")


def _checkpoints(setting: Setting, base: Path, longest: int) -> dict[str, list[Path]]:
    """Of each arm the base read so, and the checkpoints tuned so, one a seed."""
    found: dict[str, list[Path]] = {}
    for arm in ARMS:
        parent = _with_positions(setting, base, arm, longest)
        found[arm] = [parent]
        found[f"{arm}, tuned"] = [
            setting.stage(HERE / "recipe.yaml", parent, f"rope-{_slug(arm)}-seed{seed}", f"seed={seed}")
            for seed in setting.seeds
        ]
    return found


def _measured(
    checkpoint: Path, texts: list[LongText], found: list[Repeat], lengths: list[int]
) -> dict[str, list[float]]:
    """One checkpoint's figures by measure, a value a document or repeat: all in nats a token."""
    model, tokenizer = opened(checkpoint)
    subject = LocalSubject(model, tokenizer)
    row: dict[str, list[float]] = {}
    for sample in (score_long(subject, text, "file", 512) for text in texts):
        for measure, value in sample.measures.items():
            if measure.startswith("perplexity@"):
                row.setdefault(measure, []).append(value)
    for length in lengths:
        for place, values in gains(model, found, length).items():
            row[f"{place}@{length}"] = values.tolist()
    return row


def _slug(arm: str) -> str:
    return arm.replace("θ", "theta").replace(" ", "-")


def _with_positions(setting: Setting, base: Path, arm: str, longest: int) -> Path:
    """The base's weights under a config with other positions. Once written it stays."""
    folder = setting.runs / f"rope-{_slug(arm)}"
    if not (folder / "config.json").exists():
        checkpoint = open_checkpoint(base)
        config: ModelConfig = replace(checkpoint.config, max_positions=longest)
        if arm == "θ raised":
            config = replace(config, rope_theta=THETA)
        elif arm == "interpolated":
            config = replace(config, rope_scaling=RopeScaling("linear", FACTOR))
        source = checkpoint.source
        tensors = ((name, source.read(name, None)) for name in checkpoint.tensor_names())
        like = Description(config, checkpoint.tokenizer, checkpoint.hf_config, checkpoint.generation_config)
        save_huggingface(folder, tensors, like, dtype=torch.float32)
    return folder


def _mean(rows: list[list[float]]) -> dict[str, Any]:
    by_seed = [float(np.mean(row)) for row in rows]
    return {"mean": float(np.mean(by_seed)), "by_seed": by_seed}


def _difference(tables: Tables, after: str, before: str, measure: str) -> dict[str, Any]:
    """Nats a token; paired by seed and by document."""
    sides = [np.array(tables[name][measure]) for name in (after, before)]
    found = {"seeds": over_seeds((sides[0] - sides[1]).mean(axis=1).tolist())}
    found["documents"] = over_items(sides[0], sides[1], None, measure, after, before)
    print(f"{after} - {before}, {measure}: seeds {shown(found['seeds'])}  documents {shown(found['documents'])}")
    return found


def _task_keys(setting: Setting, base: Path, longest: int) -> dict[str, float]:
    """Keys found in the task's own form, by checkpoint: as trained within its positions, θ raised and tuned beyond."""
    tuned = setting.runs / f"rope-theta-raised-seed{setting.seeds[0]}" / "checkpoint"
    found: dict[str, float] = {}
    for name, checkpoint, length in (("as trained", base, longest // 4), ("θ raised, tuned", tuned, longest)):
        keys = {"lengths": [length - 16], "depths": [0.0, 0.5, 1.0], "items": 4}
        recipe = EvaluateRecipe.model_validate(
            {"checkpoint": str(checkpoint), "corpus": str(setting.corpus()), "tasks": {"key_retrieval": keys}}
        )
        rows = evaluate(recipe, setting.runs / f"rope-keys-{_slug(name)}")["results"]
        found[f"{name}, {length - 16} tokens"] = rows[0]["measures"]["retrieved"]["value"]
    return found


def _draw(results: dict[str, Any], lengths: list[int], path: Path) -> None:
    figure, (left, right) = new_plot(9.4, 3.8, columns=2)
    for name, measures in results["figures"].items():
        colour = dict(zip(ARMS, ("#777777", "#3b6fb6", "#d1823b"), strict=True))[name.removesuffix(", tuned")]
        style: dict[str, Any] = {"color": colour, "linestyle": "-" if name.endswith("tuned") else ":", "marker": "."}
        points = [(int(key.partition("@")[2]), each["mean"]) for key, each in measures.items() if "perplexity@" in key]
        left.plot([x for x, _ in points], [np.exp(y) for _, y in points], label=name, **style)
        for place, alpha in zip(PLACES, (0.4, 1.0), strict=True):
            cells = [
                (length, measures[f"{place}@{length}"]["mean"]) for length in lengths if f"far@{length}" in measures
            ]
            right.plot([x for x, _ in cells], [y for _, y in cells], alpha=alpha, **style)
    for axes in (left, right):
        axes.set_xscale("log", base=2)
    ticks = [int(key.partition("@")[2]) for key in results["figures"][ARMS[0]] if "perplexity@" in key]
    left.set_xticks(ticks, [f"{tick:,}" for tick in ticks])
    right.set_xticks(lengths, [f"{length:,}" for length in lengths])
    left.set_xlabel("position (a bin's last)")
    left.set_ylabel("held-out perplexity")
    left.legend(frameon=False, fontsize=8)
    right.set_xlabel("tokens of the prompt")
    right.set_ylabel("gain of a second reading, nats a token\n(strong: first at the start; faint: 128 before)")
    save_plot(figure, path)

"""Time to first token of each key of a typing trace: a kept SPM prompt against llama.cpp as llama.vim drives it.

The trace is made from a real file: text before and after the cursor, keys (characters, wrong ones deleted again) and
moves between lines. Every side computes each key's first token for the document as it then is; nothing is answered
from an earlier suggestion. Peer and ours alternate key by key.

    ours       SPM, `CodeModel.cursor`: the prompt's end is new. Its time holds encoding and building the prompt.
    llama.cpp  PSM as llama-server builds it for llama.vim (lines above, current line, suffix); encoding not counted
      prefix     keeps the common beginning of the last prompt and this one
      chunks     and shifts runs of 256 equal ids further on (`--cache-reuse 256`)
      behind     the current line behind the middle marker, as llama-server's README describes and its code does not do
    transformers  SPM, no cache between calls

The last line is JSON: `ratio` is the smaller of prefix / ours and chunks / ours, by medians over the keys.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

os.environ.setdefault("GOMP_SPINCOUNT", "3000")  # as the command line sets it
sys.path.insert(0, str(Path(__file__).parent.parent))

import torch

import codecria
from codecria.checkpoint.convert import convert
from codecria.common.progress import track
from codecria.infill.layout import infill_prompt
from tests.oracles import llama_cpp

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from codecria.generation.code_model import CodeModel
    from codecria.generation.cursor import Cursor

SCRIPT = Path(__file__).with_suffix(".mjs")
WRONG, MOVED = 0.05, 0.02
TRANSFORMERS_EVERY = 5


@dataclass(frozen=True)
class Key:
    """One event: what it is, and the document's two parts after it."""

    what: str
    amount: int
    text: str


def trace(tail: str, after: str, keys: int, seed: int) -> Iterator[Key]:
    """Keys that write `tail`, wrong letters deleted again, and now and then a move two lines on and back."""
    draws = random.Random(seed)
    made = place = 0
    while made < keys:
        draw = draws.random()
        if draw < MOVED and after.count("\n") > 3:
            away = after.index("\n", after.index("\n") + 1)
            yield Key("move", away, "")
            yield Key("move", -away, "")
            made += 2
        elif draw < MOVED + WRONG:
            yield Key("type", 0, draws.choice("etaoinsr"))
            yield Key("delete", 1, "")
            made += 2
        else:
            yield Key("type", 0, tail[place])
            place, made = place + 1, made + 1


def apply(cursor: Cursor, key: Key) -> None:
    """What the editor tells the session."""
    if key.what == "type":
        cursor.type(key.text)
    elif key.what == "delete":
        cursor.delete(key.amount)
    else:
        cursor.move(key.amount)


def peer_ids(model: CodeModel, prefix: str, suffix: str, behind: bool) -> list[int]:
    """PSM as llama-server builds it: lines above and current line are encoded apart."""
    markers, tokenizer = model.infill_markers(), model.tokenizer
    above = prefix[: prefix.rfind("\n") + 1]
    line = tokenizer.encode_infilling(prefix[len(above) :])
    ids = infill_prompt(tokenizer, markers, above, suffix, "psm")
    place = len(ids) if behind else ids.index(markers.suffix)
    return [*ids[:place], *line, *ids[place:]]


def split_source(model: CodeModel, path: Path, tokens: int, keys: int) -> tuple[str, str, str]:
    """Text before, to be typed, and after; before and after are cut to `tokens` tokens."""
    text = path.read_text()
    start = text.index("\n", len(text) // 3) + 1
    tail = text[start : start + keys]
    before, after = text[:start], text[start + keys :]
    before = model.tokenizer.decode_infilling(model.tokenizer.encode(before)[-tokens:])
    after = model.tokenizer.decode_infilling(model.tokenizer.encode_infilling(after)[:tokens])
    return before, tail, after


def timed(run: Callable[[], object]) -> float:
    """Seconds."""
    began = time.perf_counter()
    run()
    return time.perf_counter() - began


def replay(
    model: CodeModel,
    peer: llama_cpp.Process,
    behind: llama_cpp.Process,
    twin: Any,
    source: tuple[str, str, str],
    keys: int,
) -> dict[str, list[tuple[float, int]]]:
    """Seconds and new tokens of every key, by side."""
    before, tail, after = source
    cursor = model.cursor(before, after, order="spm", max_tokens=1)
    cursor.suggest()
    for mode in ("prefix", "chunks"):
        peer.ask({"mode": mode, "ids": peer_ids(model, before, after, behind=False)})
    behind.ask({"mode": "prefix", "ids": peer_ids(model, before, after, behind=True)})
    found: dict[str, list[tuple[float, int]]] = {name: [] for name in ("ours", "prefix", "chunks", "behind", "none")}
    for number, key in enumerate(track(trace(tail, after, keys, seed=0), "keys", keys, "keys")):
        began = time.perf_counter()
        apply(cursor, key)
        suggestion = cursor.suggest(fresh=True)
        found["ours"].append((time.perf_counter() - began, suggestion.new_tokens))
        for name in ("prefix", "chunks", "behind"):
            process, mode = (behind, "prefix") if name == "behind" else (peer, name)
            ids = peer_ids(model, cursor.prefix, cursor.suffix, behind=name == "behind")
            answer = process.ask({"mode": mode, "ids": ids})
            found[name].append((answer["seconds"], answer["evaluated"]))
        if twin is not None and number % TRANSFORMERS_EVERY == 0:
            ids = infill_prompt(model.tokenizer, model.infill_markers(), cursor.prefix, cursor.suffix, "spm")
            found["none"].append((timed(lambda ids=ids: twin(ids)), len(ids)))
    return found


def transformers_first_token(folder: Path, dtype: torch.dtype) -> Callable[[list[int]], object]:
    """transformers' generate of one token."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    twin = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)

    def run(ids: list[int]) -> object:
        prompt = torch.tensor([ids])
        mask = torch.ones_like(prompt)
        return twin.generate(prompt, attention_mask=mask, max_new_tokens=1, do_sample=False, pad_token_id=0)

    return run


def summary(found: dict[str, list[tuple[float, int]]]) -> dict[str, dict[str, float]]:
    """Milliseconds and new tokens by side."""
    rows: dict[str, dict[str, float]] = {}
    for name, each in found.items():
        seconds = sorted(second for second, _ in each)
        if seconds:
            rows[name] = {
                "p50_ms": round(1000 * statistics.median(seconds), 2),
                "p95_ms": round(1000 * seconds[int(0.95 * (len(seconds) - 1))], 2),
                "new_tokens_p50": statistics.median(new for _, new in each),
            }
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="128 tokens before and after, 12 keys: for a busy machine")
    parser.add_argument("--full", action="store_true", help="1,024 tokens before and after the cursor, 300 keys")
    parser.add_argument("--keys", type=int, help="another number of keys")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--dtype", default="int8", help="ours, as codecria.load knows it; int8 is the peer's Q8_0")
    parser.add_argument("--gguf", choices=["f16", "q8_0"], default="q8_0", help="the peer's weights")
    parser.add_argument("--model", default="codecria-135m-infill")
    parser.add_argument("--source", type=Path, default=Path(argparse.__file__))
    options = parser.parse_args()
    tokens, keys = (1024, 300) if options.full else (128, 12) if options.quick else (512, 100)
    keys = options.keys or keys
    torch.set_num_threads(options.threads)
    with tempfile.TemporaryDirectory() as temporary:
        gguf, folder = Path(temporary) / f"model-{options.gguf}.gguf", Path(temporary) / "model"
        convert(options.model, gguf, "gguf-f16" if options.gguf == "f16" else "gguf-q8_0")
        convert(options.model, folder, "huggingface", torch.bfloat16)
        model = codecria.load(options.model, dtype=options.dtype)
        source = split_source(model, options.source, tokens, keys)
        twin = transformers_first_token(folder, torch.bfloat16)
        peers = [llama_cpp.Process(SCRIPT, gguf, options.threads, 4 * tokens + 512) for _ in range(2)]
        try:
            found = replay(model, peers[0], peers[1], twin, source, keys)
        finally:
            for peer in peers:
                peer.close()
    rows = summary(found)
    for name, row in rows.items():
        print(f"{name:8} {row}")
    print(json.dumps(result(found, rows, options)))


def result(
    found: dict[str, list[tuple[float, int]]], rows: dict[str, dict[str, float]], options: argparse.Namespace
) -> dict[str, Any]:
    """The printed object."""
    ratios = {name: rows[name]["p50_ms"] / rows["ours"]["p50_ms"] for name in rows if name != "ours"}
    nearer = min(("prefix", "chunks"), key=lambda name: ratios[name])
    pairs = sorted(theirs / ours for (theirs, _), (ours, _) in zip(found[nearer], found["ours"], strict=True))
    return {
        "ratio": round(ratios[nearer], 2),
        "ours": rows["ours"]["p50_ms"],
        "peer": rows[nearer]["p50_ms"],
        "unit": "ms to first token, median over keys",
        "peer_name": f"llama.cpp (node-llama-cpp 3.22.1), {options.gguf}, cache by {nearer}, {options.threads} threads",
        "ours_name": f"codecria {options.dtype}, {options.threads} threads",
        "spread": [round(pairs[len(pairs) // 10], 2), round(pairs[-1 - len(pairs) // 10], 2)],
        "ratios": {name: round(each, 2) for name, each in ratios.items()},
        "sides": rows,
        "keys": len(found["ours"]),
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("codecria", "torch", "transformers")},
        },
    }


if __name__ == "__main__":
    main()

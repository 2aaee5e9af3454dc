import argparse
from pathlib import Path

import pytest
import torch

from codecria.generation.engine import Engine
from codecria.generation.sampling import SamplingOptions
from codecria.generation.sequence import Priority
from tests.generation.conftest import drain, random_ids, random_model, transformers_twin


def test_200_greedy_texts_equal_those_of_transformers_alone_and_in_mixed_batches():
    model = random_model(seed=8)
    prompts = [random_ids(3 + 7 * number % 61, seed=number) for number in range(200)]
    expected = greedy_of_transformers(transformers_twin(model), prompts, 6)
    greedy, drawn = (
        SamplingOptions(max_tokens=6),
        SamplingOptions(max_tokens=9, temperature=1.0, top_p=0.9, n=2, seed=4),
    )
    together, lone = Engine(model, prefill_tokens=24), Engine(model)
    mixed, beside = [], {}
    for number, prompt in enumerate(prompts):
        mixed += together.submit(prompt, greedy, priority=Priority(number % 2))
        if number % 4 == 0:
            beside[number] = together.submit(prompt, drawn)
    drain(together)
    for sequence, ids, prompt in zip(mixed, expected, prompts, strict=True):
        ((alone,),) = lone.generate([prompt], greedy)
        for result in (alone, sequence.result()):
            assert result.ids == ids or min(result.near_ties) <= _parted(result.ids, ids)
    for number, samples in list(beside.items())[::5]:
        assert [each.ids for each in samples] == [each.ids for each in lone.generate([prompts[number]], drawn)[0]]


def greedy_of_transformers(twin, prompts, count):
    """Prompts of one length at once, so that nothing is padded."""
    lengths = {}
    for number, prompt in enumerate(prompts):
        lengths.setdefault(len(prompt), []).append(number)
    made = {}
    for numbers in lengths.values():
        ids = torch.tensor([prompts[number] for number in numbers])
        texts = twin.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=count, do_sample=False)
        made |= dict(zip(numbers, texts[:, ids.shape[1] :].tolist(), strict=True))
    return [made[number] for number in range(len(prompts))]


def _parted(one, other):
    return next(step for step, (a, b) in enumerate(zip(one, other, strict=True)) if a != b)


@pytest.mark.slow
def test_200_greedy_texts_of_smollm2_equal_those_of_transformers(smollm2_checkpoint):
    from codecria.checkpoint.open import load_model

    model = load_model(smollm2_checkpoint)
    twin = transformers_twin(model)
    whole = smollm2_checkpoint.tokenizer.encode(Path(argparse.__file__).read_text())
    prompts = [whole[40 * number : 40 * number + 10 + number % 90] for number in range(200)]
    expected = greedy_of_transformers(twin, prompts, 6)
    together = Engine(model).generate(prompts, SamplingOptions(max_tokens=6))
    lone = Engine(model)
    for prompt, ids, (result,) in zip(prompts, expected, together, strict=True):
        ((alone,),) = lone.generate([prompt], SamplingOptions(max_tokens=6))
        for made in (alone, result):
            assert made.ids == ids or min(made.near_ties) <= _parted(made.ids, ids)

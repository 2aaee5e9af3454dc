import pytest
import torch

from codecria.generation.engine import Engine
from codecria.generation.sampling import SamplingOptions
from tests.generation.conftest import prompts_of, random_ids, random_model, slot_bytes


def test_texts_wait_for_memory_and_end_as_if_there_were_enough():
    model = random_model(seed=2)
    engine = Engine(model, cache_bytes=6 * 64 * slot_bytes(model), prefill_tokens=32)
    options = SamplingOptions(max_tokens=100)
    prompts = prompts_of((60, 60, 50, 100, 20))
    sequences = [engine.submit(prompt, options)[0] for prompt in prompts]
    while engine.step():
        assert engine.statistics().cached_bytes <= engine.statistics().cache_bytes
    assert engine.statistics().pauses > 0
    for prompt, sequence in zip(prompts, sequences, strict=True):
        assert sequence.result().ids == Engine(model).generate([prompt], options)[0][0].ids


def test_int8_keys_and_values_score_nearly_as_exact_ones_and_take_less_memory():
    model = random_model(seed=2)
    options = SamplingOptions(max_tokens=1, logprobs=True)
    exact, rough = Engine(model), Engine(model, cache_type="int8", prefill_tokens=50)
    for prompt in prompts_of((200, 90, 30)):
        ((one,),), ((other,),) = exact.generate([prompt], options), rough.generate([prompt], options)
        if one.ids == other.ids:
            assert other.log_probabilities == pytest.approx(one.log_probabilities, abs=0.2)
    assert rough.statistics().cached_bytes < 0.3 * exact.statistics().cached_bytes
    ((chunked,),) = Engine(model, cache_type="int8", prefill_tokens=7).generate([prompt], options)
    assert chunked.log_probabilities == pytest.approx(other.log_probabilities, abs=1e-4)


@pytest.mark.parametrize("cache_type", ["model", "int8"])
@pytest.mark.parametrize("tokens", [20_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_a_long_context_is_read_within_the_memory_that_the_formula_gives(tokens, cache_type):
    model = random_model(
        dtype=torch.bfloat16, max_positions=100_100, num_layers=1, num_heads=2, num_kv_heads=1, head_dim=32
    )
    slot = 2 * 1 * 1 * (32 + 2 if cache_type == "int8" else 32 * 2)
    budget = slot * (tokens + 2 * 64)
    engine = Engine(model, cache_bytes=budget, cache_type=cache_type, prefill_tokens=2048)
    ((result,),) = engine.generate([random_ids(tokens)], SamplingOptions(max_tokens=3))
    assert len(result.ids) == 3
    assert slot * tokens <= engine.statistics().cached_bytes <= budget

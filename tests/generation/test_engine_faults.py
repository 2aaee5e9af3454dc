import itertools

import pytest
import torch

from codecria.common.errors import CodecriaError
from codecria.generation.engine import Engine
from codecria.generation.extent import Extent
from codecria.generation.sampling import SamplingOptions
from tests.generation.conftest import drain, prompts_of, random_ids, random_model, slot_bytes


@pytest.mark.usefixtures("in_pytorch")
def test_a_pass_that_fails_leaves_the_engine_usable():
    model = random_model(seed=6)
    engine = Engine(model)
    options = SamplingOptions(max_tokens=10)
    prompts = prompts_of((10, 20))
    passes = itertools.count()

    def fail(*_):
        if next(passes) == 5:
            raise MemoryError

    hook = model.model.norm.register_forward_hook(fail)
    with pytest.raises(CodecriaError, match="memory is used up"):
        engine.generate(prompts, options)
    hook.remove()
    again = engine.generate(prompts, options)
    fresh = Engine(model).generate(prompts, options)
    assert [result.ids for (result,) in again] == [result.ids for (result,) in fresh]


def test_a_text_that_no_memory_can_hold_fails_alone():
    model = random_model(seed=2)
    engine = Engine(model, cache_bytes=2 * 64 * slot_bytes(model))
    options = SamplingOptions(max_tokens=10)
    (small,) = engine.submit(random_ids(20), options)
    (large,) = engine.submit(random_ids(200), options)
    (long,) = engine.submit(random_ids(30, seed=1), SamplingOptions(max_tokens=200))
    (last,) = engine.submit(random_ids(20, seed=2), options)
    drain(engine)
    for sequence in (large, long):
        with pytest.raises(CodecriaError, match=r"has no room for .* MiB of keys and values.*cache_bytes"):
            sequence.result()
    assert len(small.result().ids) == len(last.result().ids) == 10
    assert len(long.ids) > 50
    assert engine.statistics().locked_bytes == 0


def test_memory_that_the_machine_lacks_fails_the_text_that_asks_for_it(monkeypatch):
    """Here a long run of slots stands for what the machine does not have."""
    model = random_model(seed=2)
    options = SamplingOptions(max_tokens=10)
    prompts = [random_ids(20), random_ids(200), random_ids(20, seed=2)]
    expected = [Engine(model).generate([prompt], options)[0][0].ids for prompt in prompts]
    empty = Extent._empty

    def limited(self, shape, dtype):
        if shape[2] > 128:
            raise MemoryError
        return empty(self, shape, dtype)

    monkeypatch.setattr(Extent, "_empty", limited)
    engine = Engine(model)
    sequences = [engine.submit(prompt, options)[0] for prompt in prompts]
    drain(engine)
    with pytest.raises(CodecriaError, match="the machine has no memory for more keys and values"):
        sequences[1].result()
    assert [sequences[number].result().ids for number in (0, 2)] == [expected[0], expected[2]]
    monkeypatch.undo()
    assert engine.generate([prompts[1]], options)[0][0].ids == expected[1]


@pytest.mark.parametrize("n", [1, 3])
def test_scores_that_are_no_numbers_fail_their_text_alone_and_are_not_kept(n):
    model = random_model(seed=2)
    prompts = [random_ids(40, seed=1, vocab_size=150), random_ids(30, seed=2, vocab_size=150)]
    options = SamplingOptions(max_tokens=20, forbidden_ids=(155,))
    expected = Engine(model).generate(prompts, options)
    whole = model.model.embed_tokens.weight[155].clone()
    with torch.no_grad():
        model.model.embed_tokens.weight[155] = torch.nan
    engine = Engine(model)
    good = [engine.submit(prompt, options)[0] for prompt in prompts]
    many = SamplingOptions(max_tokens=20, n=n, temperature=1.0)
    begun = SamplingOptions(max_tokens=20, n=n, logit_bias={155: 100.0})
    bad = [*engine.submit([*prompts[0], 155, 3], many), *engine.submit(prompts[1][:20], begun)]
    drain(engine)
    assert [sequence.result().ids for sequence in good] == [result.ids for (result,) in expected]
    for sequence in bad:
        with pytest.raises(CodecriaError, match=r"scores for token \d+ of the text are not finite"):
            sequence.result()
    assert engine.generate(prompts, options)[1][0].ids == expected[1][0].ids
    with pytest.raises(CodecriaError, match="not finite"):
        engine.generate([[*prompts[0], 155]], options)
    with torch.no_grad():
        model.model.embed_tokens.weight[155] = whole
    for prompt in ([*prompts[0], 155, 3], [*prompts[0], 7]):
        ((again,),) = engine.generate([prompt], options)
        assert again.ids == Engine(model).generate([prompt], options)[0][0].ids


def test_a_rule_that_breaks_on_one_text_leaves_the_others_of_its_pass():
    model = random_model(seed=2)
    engine, options = Engine(model), SamplingOptions(max_tokens=10)
    prompts = prompts_of((20, 30, 25))
    expected = Engine(model).generate(prompts, options)
    sequences = [engine.submit(prompt, options)[0] for prompt in prompts]
    accept = sequences[1].accept

    def broken(*choice):
        if len(sequences[1].ids) == 4:
            raise RuntimeError("no such rule")
        accept(*choice)

    sequences[1].accept = broken
    drain(engine)
    with pytest.raises(CodecriaError, match=r"could not go on behind token 4: RuntimeError\('no such rule'\)"):
        sequences[1].result()
    assert [sequences[number].result().ids for number in (0, 2)] == [expected[number][0].ids for number in (0, 2)]
    assert engine.statistics().locked_bytes == 0
    assert [result.ids for (result,) in engine.generate(prompts, options)] == [result.ids for (result,) in expected]

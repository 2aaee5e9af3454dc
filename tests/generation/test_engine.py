import argparse
import itertools
from pathlib import Path

import pytest
import torch

from codecria.common.errors import CodecriaError
from codecria.generation.engine import Engine
from codecria.generation.sampling import SamplingOptions
from codecria.generation.scheduler import QueueFullError
from codecria.generation.sequence import Priority
from codecria.generation.stopping import TextPlan
from codecria.tokenizer.stream import StreamDecoder
from tests.generation.conftest import (
    random_ids,
    random_model,
    scripted_model,
    transformers_greedy,
    transformers_twin,
)

VARIANTS = {
    "grouped": {},
    "multi-head": {"num_kv_heads": 4},
    "one key head, tied": {"num_kv_heads": 1, "tied_embeddings": True},
    "theta 1e6": {"rope_theta": 1e6},
}
LENGTHS = (1, 5, 40, 17, 5, 90)


def prompts_of(lengths=LENGTHS):
    return [random_ids(length, seed=number) for number, length in enumerate(lengths)]


def assert_equal_but_for_near_ties(one, other):
    """Two texts are the same, or part at a step whose two best scores were within 1e-4."""
    if one.ids != other.ids:
        parted = next(step for step, (a, b) in enumerate(zip(one.ids, other.ids, strict=False)) if a != b)
        assert parted in one.near_ties or parted in other.near_ties


@pytest.mark.parametrize("name", VARIANTS)
def test_greedy_texts_equal_those_of_transformers(name):
    model = random_model(**VARIANTS[name])
    results = Engine(model).generate(prompts_of(), SamplingOptions(max_tokens=30))
    twin = transformers_twin(model)
    for prompt, (result,) in zip(prompts_of(), results, strict=True):
        assert result.near_ties == []
        assert result.ids == transformers_greedy(twin, prompt, 30)
        assert (result.finish_reason, result.prompt_tokens, result.text) == ("length", len(prompt), "")


@pytest.mark.parametrize(
    "settings", [{}, {"max_rows": 2}, {"prefill_tokens": 7}, {"max_rows": 1, "prefill_tokens": 16}]
)
def test_a_text_is_equal_alone_and_in_a_batch(settings):
    model = random_model(seed=3)
    options = SamplingOptions(max_tokens=25, logprobs=True)
    together = Engine(model, **settings).generate(prompts_of(), options)
    for prompt, (result,) in zip(prompts_of(), together, strict=True):
        ((alone,),) = Engine(model).generate([prompt], options)
        assert_equal_but_for_near_ties(alone, result)
        if alone.ids == result.ids:
            assert result.log_probabilities == pytest.approx(alone.log_probabilities, abs=1e-4)


def test_log_probabilities_are_the_models_own():
    model = random_model()
    prompt = random_ids(12)
    options = SamplingOptions(max_tokens=8, temperature=1.5, top_k=20, seed=1, logprobs=True)
    ((result,),) = Engine(model).generate([prompt], options)
    with torch.no_grad():
        scores = model.logits(model(torch.tensor([prompt + result.ids])))[0].log_softmax(-1)
    expected = [scores[len(prompt) - 1 + step, id].item() for step, id in enumerate(result.ids)]
    assert result.log_probabilities == pytest.approx(expected, abs=1e-4)
    assert Engine(model).generate([prompt], SamplingOptions(max_tokens=1))[0][0].log_probabilities is None


def test_a_prompt_that_begins_like_the_last_is_read_from_where_it_differs():
    model = random_model(seed=5)
    engine = Engine(model, prefill_tokens=16)
    options = SamplingOptions(max_tokens=12)
    first = random_ids(60)
    ((done,),) = engine.generate([first], options)
    written = first + done.ids
    for prompt, reused in (
        (first, 59),
        ([*first[:40], 3, *first[41:]], 40 if first[40] != 3 else 59),
        (written[:30], 29),
        (random_ids(20, seed=9), 0),
    ):
        ((result,),) = engine.generate([prompt], options)
        ((fresh,),) = Engine(model).generate([prompt], options)
        assert result.reused_tokens == reused
        assert_equal_but_for_near_ties(fresh, result)


def test_the_written_tokens_are_reused_too():
    engine = Engine(random_model(seed=5))
    prompt = random_ids(20)
    ((done,),) = engine.generate([prompt], SamplingOptions(max_tokens=12))
    ((result,),) = engine.generate([[*prompt, *done.ids, 1, 2]], SamplingOptions(max_tokens=1))
    # The last token written was never read: nothing came after it.
    assert result.reused_tokens == 20 + 11


def test_samples_share_the_reading_of_their_prompt():
    model = random_model(seed=1)
    engine = Engine(model)
    tokens_read = []
    model.model.embed_tokens.register_forward_hook(lambda _, args, __: tokens_read.append(args[0].shape))
    ((*samples,),) = engine.generate([random_ids(50)], SamplingOptions(max_tokens=3, temperature=1.0, n=4, seed=0))
    assert tokens_read == [(1, 50), (4, 1), (4, 1)]
    assert [sample.reused_tokens for sample in samples] == [0, 50, 50, 50]


def test_seeds_reproduce_and_samples_do_not_depend_on_their_number_or_batch():
    model = random_model(seed=2)
    prompts = prompts_of()

    def texts(prompts, **changes):
        options = SamplingOptions(**{"max_tokens": 10, "temperature": 0.9, "top_p": 0.95, "seed": 7, "n": 3} | changes)
        return [[sample.ids for sample in samples] for samples in Engine(model).generate(prompts, options)]

    together = texts(prompts)
    assert together == texts(prompts)
    assert [texts([prompt])[0] for prompt in prompts] == together
    assert [each[:2] for each in together] == texts(prompts, n=2)
    assert together != texts(prompts, seed=8)
    assert len({tuple(sample) for samples in together for sample in samples}) == 3 * len(prompts)
    assert texts(prompts, seed=None) != texts(prompts, seed=None)


def test_reasons_to_end():
    engine = Engine(scripted_model([10, 11, 12, 13, 14, 15], vocab_size=160, max_positions=32))

    def run(prompt, **options):
        ((result,),) = engine.generate([prompt], SamplingOptions(**options))
        return result.ids, result.finish_reason

    assert run([1, 10], max_tokens=3) == ([11, 12, 13], "length")
    assert run([1, 10], stop_ids=(3, 13)) == ([11, 12], "stop")
    assert run([1, 10], stop_ids=(11,)) == ([], "stop")
    assert run([1, 10], max_tokens=0) == ([], "length")
    ids, reason = run([1] * 27 + [10], max_tokens=100)
    assert (ids, reason) == ([11, 12, 13, 14], "length")


def test_a_prompt_that_cannot_be_run_is_refused_before_anything_is():
    engine = Engine(random_model(max_positions=32))
    options = SamplingOptions(max_tokens=1)
    for prompt, message in (
        ([], "prompt is empty"),
        ([1] * 32, "32 tokens and the model's context 32; shorten it to at most 31"),
        ([1, 160], "token 160 and the model 160"),
        ([-1], "token -1"),
    ):
        with pytest.raises(CodecriaError, match=message):
            engine.stream([[1, 2], prompt], options)
    with pytest.raises(CodecriaError, match="stop strings"):
        engine.generate([[1, 2]], SamplingOptions(stop=("a",)))
    assert len(engine.generate([[1] * 31], options)[0][0].ids) == 1


def test_streams_give_what_generate_gives_also_when_they_run_side_by_side():
    model = random_model(seed=4)
    options = SamplingOptions(max_tokens=15)
    engine = Engine(model, prefill_tokens=8)
    prompts = prompts_of((30, 9, 50))
    streams = [engine.stream([prompt], options) for prompt in prompts]
    ids = [[step.id for step in steps if step] for steps in zip(*itertools.zip_longest(*streams), strict=True)]
    for prompt, made in zip(prompts, ids, strict=True):
        ((alone,),) = Engine(model).generate([prompt], options)
        assert alone.near_ties == []
        assert made == alone.ids


def test_a_closed_stream_frees_its_row_at_once():
    model = random_model(seed=4)
    engine = Engine(model, max_rows=1)
    options = SamplingOptions(max_tokens=20)
    first, second = random_ids(10, seed=1), random_ids(12, seed=2)
    expected = Engine(model).generate([second], options)[0][0].ids
    stream = engine.stream([first], options)
    assert [next(stream).id for _ in range(3)] == Engine(model).generate([first], options)[0][0].ids[:3]
    waiting = engine.stream([second], options)
    stream.close()
    passes = []
    model.model.embed_tokens.register_forward_hook(lambda *_: passes.append(1))
    assert [step.id for step in waiting] == expected
    assert len(passes) == 20


def test_closing_one_stream_leaves_the_others():
    model = random_model(seed=4)
    engine = Engine(model)
    options = SamplingOptions(max_tokens=20)
    prompts = prompts_of((10, 20, 30))
    streams = [engine.stream([prompt], options) for prompt in prompts]
    made = [[next(stream).id for _ in range(4)] for stream in streams]
    streams[0].close()
    for stream, ids, prompt in list(zip(streams, made, prompts, strict=True))[1:]:
        assert ids + [step.id for step in stream] == Engine(model).generate([prompt], options)[0][0].ids


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


def test_a_bfloat16_model_scores_its_texts_as_the_float32_model_does():
    exact, rough = random_model(seed=1), random_model(seed=1, dtype=torch.bfloat16)
    options = SamplingOptions(max_tokens=12, logprobs=True)
    for prompt, (result,) in zip(prompts_of(), Engine(rough).generate(prompts_of(), options), strict=True):
        with torch.no_grad():
            scores = exact.logits(exact(torch.tensor([prompt + result.ids])))[0].log_softmax(-1)
        expected = [scores[len(prompt) - 1 + step, id].item() for step, id in enumerate(result.ids)]
        assert result.log_probabilities == pytest.approx(expected, abs=0.3)


def test_steps_carry_text_that_joined_is_the_whole(infilling_tokenizer):
    model = random_model(vocab_size=infilling_tokenizer.vocab_size, hidden_size=32)
    plan = TextPlan(lambda: StreamDecoder(infilling_tokenizer, infilling=True))
    options = SamplingOptions(max_tokens=40, temperature=1.0, seed=0, n=2)
    prompts = [infilling_tokenizer.encode("def f():"), infilling_tokenizer.encode("é")]
    results = Engine(model).generate(prompts, options, [plan, plan])
    texts = [["", ""], ["", ""]]
    for step in Engine(model).stream(prompts, options, [plan, plan]):
        texts[step.prompt][step.sample] += step.text
        assert step.finish_reason is None or step.id == results[step.prompt][step.sample].ids[-1]
    assert texts == [[sample.text for sample in samples] for samples in results]
    for samples in results:
        for sample in samples:
            assert sample.text == infilling_tokenizer.decode_infilling(sample.ids)


def test_smollm2_equals_transformers(smollm2_checkpoint):
    from codecria.checkpoint.open import load_model

    model = load_model(smollm2_checkpoint)
    prompt = smollm2_checkpoint.tokenizer.encode("def quick_sort(items):\n    ")
    ((result,),) = Engine(model).generate([prompt], SamplingOptions(max_tokens=24))
    assert result.near_ties == []
    assert result.ids == transformers_greedy(transformers_twin(model), prompt, 24)


def drain(engine):
    while engine.step():
        pass


def slot_bytes(model):
    config = model.config
    return 2 * config.num_layers * config.num_kv_heads * config.head_dim * 4


def test_200_greedy_texts_equal_those_of_transformers_alone_and_in_mixed_batches():
    model = random_model(seed=8, num_layers=2)
    twin = transformers_twin(model)
    prompts = [random_ids(3 + 7 * number % 61, seed=number) for number in range(200)]
    expected = [transformers_greedy(twin, prompt, 6) for prompt in prompts]
    together, lone = Engine(model, prefill_tokens=24), Engine(model)
    mixed = []
    for number, prompt in enumerate(prompts):
        # Each comes with two samples that are drawn, in its batch and of its prompt.
        mixed += together.submit(prompt, SamplingOptions(max_tokens=6), priority=Priority(number % 2))
        if number % 4 == 0:
            together.submit(prompt, SamplingOptions(max_tokens=9, temperature=1.0, top_p=0.9, n=2, seed=number))
    drain(together)
    for sequence, ids, prompt in zip(mixed, expected, prompts, strict=True):
        ((alone,),) = lone.generate([prompt], SamplingOptions(max_tokens=6))
        for result in (alone, sequence.result()):
            assert result.ids == ids or min(result.near_ties) <= _parted(result.ids, ids)


def _parted(one, other):
    return next(step for step, (a, b) in enumerate(zip(one, other, strict=True)) if a != b)


@pytest.mark.slow
def test_200_greedy_texts_of_smollm2_equal_those_of_transformers(smollm2_checkpoint):
    from codecria.checkpoint.open import load_model

    model = load_model(smollm2_checkpoint)
    twin = transformers_twin(model)
    whole = smollm2_checkpoint.tokenizer.encode(Path(argparse.__file__).read_text())
    prompts = [whole[40 * number : 40 * number + 10 + number % 90] for number in range(200)]
    expected = [transformers_greedy(twin, prompt, 12) for prompt in prompts]
    together = Engine(model).generate(prompts, SamplingOptions(max_tokens=12))
    lone = Engine(model)
    for prompt, ids, (result,) in zip(prompts, expected, together, strict=True):
        ((alone,),) = lone.generate([prompt], SamplingOptions(max_tokens=12))
        for made in (alone, result):
            assert made.ids == ids or min(made.near_ties) <= _parted(made.ids, ids)


def test_samples_are_equal_however_their_prompt_is_shared():
    model = random_model(seed=2)
    prompts = [random_ids(150, seed=1), [*random_ids(150, seed=1)[:100], 3, 4]]
    options = SamplingOptions(max_tokens=20, temperature=1.0, seed=5, n=5)
    expected = [[each.ids for each in samples] for samples in Engine(model, draft_tokens=0).generate(prompts, options)]
    for settings in ({"max_rows": 3}, {"max_rows": 1}, {"max_rows": 6, "prefill_tokens": 32}):
        engine = Engine(model, **settings)
        for _ in range(2):
            made = engine.generate(prompts, options)
            assert [[each.ids for each in samples] for samples in made] == expected


def test_the_cursor_goes_before_a_batch_job_also_when_all_rows_are_taken():
    model = random_model(seed=2)
    engine = Engine(model, max_rows=2, prefill_tokens=16)
    options = SamplingOptions(max_tokens=40)
    job = [engine.submit(prompt, options, priority=Priority.BATCH)[0] for prompt in prompts_of((40, 50, 60))]
    for _ in range(20):
        engine.step()
    (cursor,) = engine.submit(random_ids(33, seed=7), SamplingOptions(max_tokens=8))
    steps = 0
    while not cursor.finished:
        engine.step()
        steps += 1
    # Three chunks, seven more tokens, and at most two turns of the job.
    assert steps <= 12
    assert engine.statistics().pauses == 1
    drain(engine)
    for prompt, sequence in zip(prompts_of((40, 50, 60)), job, strict=True):
        assert sequence.result().ids == Engine(model).generate([prompt], options)[0][0].ids


def test_a_batch_job_goes_on_beside_the_cursor():
    engine = Engine(random_model(seed=2))
    (job,) = engine.submit(random_ids(20), SamplingOptions(max_tokens=200), priority=Priority.BATCH)
    for number in range(30):
        (cursor,) = engine.submit(random_ids(20, seed=number), SamplingOptions(max_tokens=4))
        while not cursor.finished:
            engine.step()
    assert len(job.ids) > 10


def test_running_texts_go_on_while_a_long_prompt_is_read():
    engine = Engine(random_model(seed=2), prefill_tokens=8)
    (first,) = engine.submit(random_ids(8), SamplingOptions(max_tokens=60))
    engine.step()
    engine.submit(random_ids(160, seed=1), SamplingOptions(max_tokens=2))
    before = len(first.ids)
    for _ in range(20):
        engine.step()
    assert len(first.ids) - before == 10


def test_a_thousand_wait_and_one_more_is_refused():
    model = random_model(num_layers=1)
    engine = Engine(model, max_waiting=1000)
    options = SamplingOptions(max_tokens=2)
    prompts = [random_ids(4, seed=number) for number in range(1000)]
    sequences = [engine.submit(prompt, options)[0] for prompt in prompts]
    with pytest.raises(QueueFullError, match=r"1000 texts wait, and 1 more would be over .* 1000; try again later"):
        engine.submit([1], options)
    assert engine.statistics().waiting == 1000
    drain(engine)
    assert all(len(sequence.result().ids) == 2 for sequence in sequences)
    order = [sequence.reused for sequence in sequences]
    assert None not in order and engine.statistics().waiting == engine.statistics().locked_bytes == 0


@pytest.mark.parametrize("steps", [0, 1, 2, 5, 9])
@pytest.mark.parametrize("n", [1, 3])
def test_a_cancelled_text_frees_its_blocks_at_once_in_every_state(steps, n):
    model = random_model(seed=2)
    engine = Engine(model, prefill_tokens=16, max_rows=4)
    options = SamplingOptions(max_tokens=20, temperature=1.0, seed=3, n=n)
    (other,) = engine.submit(random_ids(30, seed=5), options if n == 1 else SamplingOptions(max_tokens=20))
    sequences = engine.submit(random_ids(70), options)
    for _ in range(steps):
        engine.step()
    engine.cancel(sequences)
    statistics = engine.statistics()
    own = statistics.locked_bytes
    engine.cancel([other])
    assert own <= 64 * slot_bytes(model) and engine.statistics().locked_bytes == 0
    assert (engine.statistics().running, engine.statistics().waiting) == (0, 0)
    ((again,),) = engine.generate([random_ids(70)], SamplingOptions(max_tokens=5))
    assert again.ids == Engine(model).generate([random_ids(70)], SamplingOptions(max_tokens=5))[0][0].ids


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


@pytest.mark.parametrize("n", [1, 3])
def test_scores_that_are_no_numbers_fail_their_text_alone_and_are_not_kept(n):
    model = random_model(seed=2)
    prompts = [random_ids(40, seed=1, vocab_size=150), random_ids(30, seed=2, vocab_size=150)]
    options = SamplingOptions(max_tokens=20, forbidden_ids=(155,))
    expected = Engine(model).generate(prompts, options)
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
    ((again,),) = engine.generate([[*prompts[0], 7]], options)
    assert again.ids == Engine(model).generate([[*prompts[0], 7]], options)[0][0].ids


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
def test_a_hundred_thousand_tokens_are_read_within_the_memory_that_the_formula_gives(cache_type):
    model = random_model(
        dtype=torch.bfloat16, max_positions=100_100, num_layers=1, num_heads=2, num_kv_heads=1, head_dim=32
    )
    tokens = 100_000
    slot = 2 * 1 * 1 * (32 + 2 if cache_type == "int8" else 32 * 2)
    budget = slot * (tokens + 2 * 64)
    engine = Engine(model, cache_bytes=budget, cache_type=cache_type, prefill_tokens=2048)
    ((result,),) = engine.generate([random_ids(tokens)], SamplingOptions(max_tokens=3))
    assert len(result.ids) == 3
    assert slot * tokens <= engine.statistics().cached_bytes <= budget

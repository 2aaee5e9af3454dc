import itertools

import pytest
import torch

from codecria.common.errors import CodecriaError
from codecria.generation.engine import Engine
from codecria.generation.sampling import SamplingOptions
from codecria.generation.stopping import TextPlan
from codecria.tokenizer.stream import StreamDecoder
from tests.generation.conftest import (
    prompts_of,
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


@pytest.mark.usefixtures("in_pytorch")
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


@pytest.mark.usefixtures("in_pytorch")
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
    ((result,),) = Engine(model).generate([prompt], SamplingOptions(max_tokens=12))
    assert result.near_ties == []
    assert result.ids == transformers_greedy(transformers_twin(model), prompt, 12)


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

"""Many requests at once: who goes first, who waits, who is refused."""

import pytest

from codecria.common.errors import CodecriaError
from codecria.generation.engine import Engine
from codecria.generation.sampling import SamplingOptions
from codecria.generation.scheduler import QueueFullError
from codecria.generation.sequence import Priority
from tests.generation.conftest import drain, prompts_of, random_ids, random_model, slot_bytes


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
    assert engine.statistics().waiting == engine.statistics().locked_bytes == 0


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


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_any_number_of_prompts_go_through_a_queue_of_sixteen(count):
    model = random_model(num_layers=1, hidden_size=32, intermediate_size=32)
    engine = Engine(model, max_waiting=16, cache_bytes=1 << 20)
    options = SamplingOptions(max_tokens=2)
    prompts = [[number % 160, number // 160] for number in range(count)]
    most, steps = 0, [0] * len(prompts)
    for step in engine.stream(prompts, options):
        most = max(most, engine.statistics().waiting)
        steps[step.prompt] += 1
    assert steps == [2] * len(prompts)
    assert 0 < most <= 8
    assert engine.statistics().waiting == engine.statistics().locked_bytes == 0
    found = engine.generate(prompts[:100], options)
    for number in (0, 50, 99):
        assert found[number][0].ids == Engine(model).generate([prompts[number]], options)[0][0].ids


def test_a_job_holds_what_is_under_way_and_no_more():
    engine = Engine(random_model(num_layers=1), max_waiting=16, max_rows=4)
    made = []

    class Plan:
        rules, first_ids, guess, narrow, returns = (), None, None, None, False

        def new_decoder(self):
            made.append(self)
            return StreamOfNothing()

    class StreamOfNothing:
        def push(self, _id):
            return "x"

        def finish(self):
            return ""

    prompts = [random_ids(5, seed=number) for number in range(60)]
    stream = engine.stream(prompts, SamplingOptions(max_tokens=3, n=2), [Plan() for _ in prompts])
    assert made == []
    for _ in range(10):
        next(stream)
    assert 0 < len(made) < 24
    stream.close()
    assert engine.statistics().waiting == engine.statistics().running == 0
    with pytest.raises(CodecriaError, match="the prompt is empty"):
        engine.stream([*prompts, []], SamplingOptions(max_tokens=3))


@pytest.mark.parametrize("max_waiting", [1, 2, 16])
def test_a_job_leaves_the_cursor_its_place(max_waiting):
    model = random_model(seed=2)
    engine = Engine(model, max_waiting=max_waiting, max_rows=2)
    prompts = [random_ids(20, seed=number) for number in range(12)]
    options = SamplingOptions(max_tokens=10, n=3, temperature=1.0, seed=1)
    stream, seen = engine.stream(prompts, options), []
    seen += [next(stream) for _ in range(8)]
    try:
        (cursor,) = engine.submit(random_ids(20, seed=99), SamplingOptions(max_tokens=4))
    except QueueFullError:
        assert max_waiting < 16
    else:
        before = len(seen)
        while not cursor.finished:
            seen.append(next(stream))
        assert len(seen) - before < 40  # of 360
    seen += stream
    expected = Engine(model).generate(prompts, options)
    ids = {}
    for step in seen:
        ids.setdefault((step.prompt, step.sample), []).append(step.id)
    for place, samples in enumerate(expected):
        for number, sample in enumerate(samples):
            assert ids[place, number] == sample.ids


def test_two_jobs_share_a_small_queue_and_one_may_be_left():
    model = random_model(seed=2)
    engine = Engine(model, max_waiting=2, max_rows=2)
    options = SamplingOptions(max_tokens=5)
    prompts = [random_ids(9, seed=number) for number in range(20)]
    one, other = engine.stream(prompts, options), engine.stream(prompts[::-1], options)
    seen = []
    for _ in range(30):
        seen.append(next(one))
        next(other)
    other.close()
    seen += one
    assert sorted((step.prompt, step.id) for step in seen) == sorted(
        (place, id) for place, [sample] in enumerate(Engine(model).generate(prompts, options)) for id in sample.ids
    )
    assert engine.statistics().waiting == engine.statistics().locked_bytes == 0

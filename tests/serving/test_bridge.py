import asyncio
import contextlib
import dataclasses

import pytest

from codecria.common.errors import CodecriaError
from codecria.generation.code_model import load
from codecria.generation.sampling import SamplingOptions
from codecria.serving.bridge import Bridge
from codecria.serving.dialects.ollama import tags
from codecria.serving.problems import Busy, Problem, TooLong, Unavailable
from codecria.serving.requests import Chat, Complete, Infill, TextRequest
from codecria.serving.routes import Call
from codecria.serving.settings import Settings
from tests.serving.conftest import PREFIX, SUFFIX

LONG = TextRequest(Complete("import os\n", heal=False), SamplingOptions(max_tokens=1500))
SHORT = TextRequest(Infill(PREFIX, SUFFIX), SamplingOptions(max_tokens=4))


def with_bridge(folder, work, **settings):
    async def run():
        bridge = Bridge(lambda: load(folder, dtype="fp32", device="cpu"), folder, Settings(**settings))
        await bridge.start()
        try:
            return await asyncio.wait_for(work(bridge), 60)
        finally:
            await bridge.stop()

    return asyncio.run(run())


def seeded(request, seed):
    return dataclasses.replace(request, sampling=dataclasses.replace(request.sampling, seed=seed))


async def until(condition):
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0.01)


async def idle(bridge):
    await until(lambda: bridge.counts()["running"] == bridge.counts()["waiting"] == bridge.counts()["texts"] == 0)


@pytest.mark.parametrize(("dtype", "level"), [("fp32", "F32"), ("bf16", "F16"), ("int8", "Q8_0")])
def test_the_size_that_is_told_is_that_of_the_weights_as_they_are_held(model_folder, dtype, level):
    async def told():
        bridge = Bridge(lambda: load(model_folder, dtype=dtype, device="cpu"), model_folder, Settings())
        await bridge.start()
        try:
            call = Call(bridge, Settings(), None, {}, {}, {}, {})
            return bridge.info, (await tags(call)).content["models"][0]
        finally:
            await bridge.stop()

    info, entry = asyncio.run(told())
    assert info.weight_bytes >= info.parameters
    assert (entry["size"], entry["details"]["quantization_level"]) == (info.weight_bytes, level)


def test_a_text_is_the_models_own(model_folder, code_model):
    async def work(bridge):
        async with bridge.submit(SHORT) as ticket:
            return await ticket.finished()

    outcome = with_bridge(model_folder, work)
    expected = code_model.infill(PREFIX, SUFFIX, max_tokens=4, order="spm")
    assert outcome.samples[0].text == expected.text
    assert outcome.prompt_tokens == expected.prompt_tokens
    assert outcome.asked_s <= outcome.begun_s <= outcome.first_s <= outcome.ended_s


def test_pieces_joined_are_the_text(model_folder):
    request = TextRequest(Complete("import os\n"), SamplingOptions(max_tokens=30, n=3, temperature=1.0, seed=1))

    async def work(bridge):
        async with bridge.submit(request) as ticket:
            texts = ["", "", ""]
            async for piece in ticket:
                texts[piece.sample] += piece.text
            assert [sample.text for sample in ticket.outcome.samples] == texts
            assert all(sample.finish_reason for sample in ticket.outcome.samples)

    with_bridge(model_folder, work)


def test_equal_requests_are_one_text_also_for_who_comes_later(model_folder):
    async def work(bridge):
        async with bridge.submit(LONG) as first:
            pieces = aiter(first)
            for _ in range(5):
                await anext(pieces)
            async with bridge.submit(LONG) as second:
                assert bridge.counts()["joined"] == 1
                one, two = await asyncio.gather(first.finished(), second.finished())
        assert one.samples[0].text == two.samples[0].text
        await idle(bridge)
        assert one.written_tokens == two.written_tokens == bridge.counts()["written_tokens"] == 1500

    with_bridge(model_folder, work)


def test_samples_without_a_seed_are_texts_of_their_own(model_folder):
    request = TextRequest(LONG.task, SamplingOptions(max_tokens=20, temperature=1.0))

    async def work(bridge):
        async with bridge.submit(request) as first, bridge.submit(request) as second:
            one, two = await asyncio.gather(first.finished(), second.finished())
        assert one.samples[0].text != two.samples[0].text
        assert bridge.counts()["joined"] == 0

    with_bridge(model_folder, work)


def test_a_text_ends_when_the_last_caller_has_gone(model_folder):
    async def work(bridge):
        async with bridge.submit(LONG) as first:
            async with bridge.submit(LONG) as second:
                await second.started()
            await anext(aiter(first))
            assert bridge.counts()["cancelled"] == 0
        assert bridge.counts()["cancelled"] == 1
        await idle(bridge)
        assert bridge.counts()["locked_bytes"] == 0
        assert bridge.counts()["written_tokens"] < 1500

    with_bridge(model_folder, work)


def test_a_full_queue_refuses_and_says_when_to_come_again(model_folder):
    async def work(bridge):
        async with contextlib.AsyncExitStack() as stack:
            for seed in range(18):
                await stack.enter_async_context(bridge.submit(seeded(LONG, seed)))
            with pytest.raises(Busy) as refused:
                bridge.submit(seeded(LONG, 99))
            assert refused.value.retry_s >= 1
        async with bridge.submit(SHORT) as ticket:
            await ticket.finished()
        await idle(bridge)

    with_bridge(model_folder, work, waiting_texts=2)


@pytest.mark.parametrize("held", [False, True])
def test_a_text_that_has_begun_ends_in_time_with_what_it_has(model_folder, code_model, held):
    """Also with what a stop string that may yet come has held back."""
    newline = code_model.tokenizer.encode("\n")[0]
    lines = SamplingOptions(max_tokens=1500, logit_bias={newline: 100.0}, stop=("\n" * 1501,))
    request = dataclasses.replace(LONG, sampling=lines) if held else LONG

    async def work(bridge):
        async with bridge.submit(request) as ticket:
            found = await asyncio.gather(ticket.finished(), return_exceptions=True)
        await idle(bridge)
        return found[0]

    # From a time in which a quick machine does not end 1,500 tokens to one in which a busy one begins them.
    outcomes = (with_bridge(model_folder, work, text_s=text_s) for text_s in (0.25, 1, 4))
    outcome = next(outcome for outcome in outcomes if not isinstance(outcome, Unavailable))
    assert outcome.samples[0].finish_reason == "length"
    assert 0 < outcome.written_tokens < 1500
    assert outcome.samples[0].text == "\n" * outcome.written_tokens if held else outcome.samples[0].text


def test_a_text_that_has_not_begun_in_time_fails(model_folder, monkeypatch):
    """16 are written together and have long to go, so one more with less time does not begin."""

    async def work(bridge):
        async with contextlib.AsyncExitStack() as stack:
            for seed in range(16):
                await stack.enter_async_context(bridge.submit(seeded(LONG, seed)))
            await until(lambda: bridge.counts()["running"] == 16)
            monkeypatch.setattr(bridge, "_settings", Settings(text_s=0.1))
            async with bridge.submit(seeded(LONG, 16)) as ticket:
                with pytest.raises(Unavailable):
                    await ticket.finished()
        await idle(bridge)

    with_bridge(model_folder, work)


def test_what_makes_no_sense_is_the_callers_and_the_rest_goes_on(model_folder):
    long = TextRequest(Complete(tuple([5] * 3000)), SamplingOptions(max_tokens=4))
    odd = TextRequest(Complete((5, 10_000_000)), SamplingOptions(max_tokens=4))
    rude = TextRequest(Chat(b'[{"role":"nobody","content":"x"}]'), SamplingOptions(max_tokens=4))

    async def work(bridge):
        for request, kind in ((long, TooLong), (odd, Problem), (rude, Problem)):
            async with bridge.submit(request) as ticket:
                with pytest.raises(kind) as refused:
                    await ticket.finished()
                assert refused.value.status == 400
        async with bridge.submit(SHORT) as ticket:
            assert (await ticket.finished()).written_tokens == 4

    with_bridge(model_folder, work)


def test_a_fault_in_the_engine_fails_its_texts_and_no_later_one(model_folder):
    async def work(bridge):
        engine = bridge._model.engine
        step = engine.step

        def broken():
            engine.step = step
            raise ZeroDivisionError("on purpose")

        engine.step = broken
        async with bridge.submit(LONG) as ticket:
            with pytest.raises(Problem) as failed:
                await ticket.finished()
        assert failed.value.status == 500
        assert "purpose" not in str(failed.value)
        async with bridge.submit(SHORT) as ticket:
            assert (await ticket.finished()).written_tokens == 4
        await idle(bridge)

    with_bridge(model_folder, work)


def test_draining_lets_texts_end_and_takes_no_more(model_folder):
    async def work(bridge):
        async with bridge.submit(LONG) as ticket:
            await ticket.started()
            bridge.drain(0.3)
            with pytest.raises(Unavailable):
                bridge.submit(SHORT)
            assert (await ticket.finished()).samples[0].finish_reason == "length"

    with_bridge(model_folder, work)


def test_a_model_that_cannot_be_loaded_is_told(tmp_path):
    async def run():
        bridge = Bridge(lambda: load(tmp_path), "nothing", Settings())
        with pytest.raises(CodecriaError):
            await bridge.start()

    asyncio.run(run())


def test_time_to_write_ends_at_a_line_end_alone(model_folder, code_model):
    tokenizer = code_model.tokenizer
    lines = [id for id in range(tokenizer.vocab_size) if b"\n" in tokenizer.token_bytes(id)]
    wanted = SamplingOptions(max_tokens=1500, logit_bias={lines[0]: 1000.0})
    request = TextRequest(LONG.task, wanted, predict_ms=50.0)

    async def work(bridge):
        async with bridge.submit(request) as ticket:
            outcome = await ticket.finished()
        assert outcome.samples[0].finish_reason == "length"
        assert outcome.written_tokens < 1500
        assert (outcome.ended_s - outcome.first_s) >= 0.05
        biased = SamplingOptions(max_tokens=60, logit_bias=dict.fromkeys(lines, float("-inf")))
        async with bridge.submit(TextRequest(LONG.task, biased, predict_ms=0.001)) as ticket:
            assert (await ticket.finished()).written_tokens == 60

    with_bridge(model_folder, work)

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from codecria.generation.cache import PrefixCache, RowCache
from tests.generation.conftest import random_ids, random_model

CPU = torch.device("cpu")


def new_cache(model, block_slots=8):
    return RowCache(model.config, dtype=model.head_weight.dtype, device=CPU, block_slots=block_slots)


def run(model, cache, rows):
    """One pass over equally many next tokens of every row."""
    ids = torch.tensor(rows)
    hidden = model(ids, positions_BL=cache.place(ids.shape[1]), cache=cache)
    cache.commit()
    return hidden


def cached_rows(model, prompts):
    """A cache with one row for each prompt, as the engine makes it."""
    cache = new_cache(model)
    for prompt in prompts:
        row = new_cache(model)
        row.add_row()
        if prompt:
            run(model, row, [prompt])
        cache.add_row(row)
    return cache


@pytest.fixture(scope="module")
def model():
    return random_model()


@pytest.mark.parametrize("chunks", [[30], [1] * 30, [8, 8, 8, 6], [17, 1, 12]])
@torch.no_grad()
def test_a_prompt_in_chunks_equals_the_whole(model, chunks):
    ids = random_ids(30)
    cache = new_cache(model)
    cache.add_row()
    parts, start = [], 0
    for count in chunks:
        parts.append(run(model, cache, [ids[start : start + count]]))
        start += count
    torch.testing.assert_close(torch.cat(parts, dim=1), model(torch.tensor([ids])), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("tokens", [1, 3])
@torch.no_grad()
def test_rows_of_different_lengths_equal_rows_alone(model, tokens):
    prompts = [random_ids(length, seed=length) for length in (5, 19, 1, 8)]
    cache = cached_rows(model, prompts)
    whole = [list(prompt) for prompt in prompts]
    for step in range(4):
        more = [random_ids(tokens, seed=100 * step + row) for row in range(len(prompts))]
        hidden = run(model, cache, more)
        for row, ids in enumerate(more):
            whole[row] += ids
            alone = model(torch.tensor([whole[row]]))[0, -tokens:]
            torch.testing.assert_close(hidden[row], alone, atol=1e-5, rtol=1e-5)
    assert cache.lengths == [len(each) for each in whole]


@torch.no_grad()
def test_what_a_row_held_before_is_not_seen(model):
    cache = cached_rows(model, [random_ids(23, seed=1), random_ids(9, seed=2)])
    cache.truncate(0, 4)
    hidden = run(model, cache, [[7], [8]])
    alone = model(torch.tensor([[*random_ids(23, seed=1)[:4], 7]]))[0, -1]
    torch.testing.assert_close(hidden[0, -1], alone, atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_the_last_row_takes_the_place_of_a_dropped_one(model):
    prompts = [random_ids(length, seed=length) for length in (5, 19, 8)]
    cache = cached_rows(model, prompts)
    cache.drop_row(0)
    assert cache.lengths == [8, 19]
    hidden = run(model, cache, [[3], [4]])
    for row, ids in enumerate(([*prompts[2], 3], [*prompts[1], 4])):
        torch.testing.assert_close(hidden[row, -1], model(torch.tensor([ids]))[0, -1], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_a_pass_that_fails_changes_nothing(model):
    ids = random_ids(12)
    cache = cached_rows(model, [ids[:6]])
    model(torch.tensor([[1, 2, 3]]), positions_BL=cache.place(3), cache=cache)
    assert cache.lengths == [6]
    hidden = run(model, cache, [ids[6:]])
    torch.testing.assert_close(hidden, model(torch.tensor([ids]))[:, 6:], atol=1e-5, rtol=1e-5)


def test_memory_grows_in_blocks_and_by_doubled_rows(model):
    cache = new_cache(model, block_slots=8)
    sizes = []
    for _ in range(5):
        cache.add_row()
        cache.reserve(0, 9)
        sizes.append((cache.rows, cache.slots))
    assert sizes == [(1, 16), (2, 16), (4, 16), (4, 16), (8, 16)]


ids_of_few = st.lists(st.integers(0, 2), min_size=1, max_size=14)


@settings(max_examples=60, deadline=None)
@given(st.lists(ids_of_few, min_size=1, max_size=5))
@torch.no_grad()
def test_a_prefix_cache_gives_what_a_fresh_one_gives(prompts):
    model = random_model()
    prefix = PrefixCache(new_cache(model, block_slots=4))
    for prompt in prompts:
        before = list(prefix.ids)
        held = prefix.keep(prompt)
        assert prompt[:held] == before[:held] and held < len(prompt)
        assert held == len(prompt) - 1 or held == len(before) or before[held] != prompt[held]
        rest = torch.tensor([prompt[held:]])
        hidden = model(rest, positions_BL=prefix.cache.place(rest.shape[1]), cache=prefix.cache)
        prefix.extend(prompt[held:])
        assert prefix.ids == prompt
        whole = model(torch.tensor([prompt]))
        torch.testing.assert_close(hidden[:, -1], whole[:, -1], atol=1e-5, rtol=1e-5)

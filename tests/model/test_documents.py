import pytest
import torch
from torch._dynamo.testing import CompileCounter
from torch.nn.attention.flex_attention import create_block_mask
from torch.nn.utils.rnn import pad_sequence

from codecria.model.documents import BlockMaskAttention, DocumentAttention
from tests.model import variants
from tests.model.test_transformer import random_model, transformers_twin

CPU = torch.device("cpu")
PACKINGS = [
    [[100, 60, 640]],
    [[800]],
    [[300, 1, 499], [799, 1]],
    [[10] * 80],
]
EVERYTHING, WHOLE_BLOCKS, RAGGED = [range(800)], [range(128, 256), range(640, 768)], [range(100), range(700, 800)]


@pytest.mark.parametrize("kv_heads", [4, 2, 1])
def test_packed_documents_give_what_transformers_gives_for_padded_ones(kv_heads):
    """The loss and every gradient."""
    model = random_model(variants.tiny(num_kv_heads=kv_heads))
    twin = transformers_twin(model.config, model)
    source = torch.Generator().manual_seed(2)
    lengths = [40, 2, 118]
    documents = torch.randint(0, 160, (160,), generator=source).split(lengths)
    weights = torch.ones(1, 160).index_fill(1, torch.tensor(lengths).cumsum(0) - 1, 0.0)
    ids = torch.cat(documents)[None]
    loss, _ = model.loss(ids, ids.roll(-1, dims=1), weights, documents=[lengths])
    loss.backward()
    padded = pad_sequence(documents, batch_first=True)
    seen = pad_sequence([torch.ones_like(each) for each in documents], batch_first=True)
    labels = padded.masked_fill(seen == 0, -100)
    twin_loss = twin(padded, attention_mask=seen, labels=labels, num_items_in_batch=1).loss
    twin_loss.backward()
    assert loss.item() == pytest.approx(twin_loss.item(), rel=1e-5)
    for name, parameter in twin.named_parameters():
        scale = parameter.grad.abs().max().item()
        torch.testing.assert_close(model.get_parameter(name).grad, parameter.grad, rtol=1e-5, atol=1e-5 * scale)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("chunks", [WHOLE_BLOCKS, RAGGED])
def test_chunks_of_the_queries_give_those_rows_of_the_whole(chunks, dtype):
    q, k, v = (torch.randn(2, heads, 800, 16, dtype=dtype) for heads in (4, 2, 2))
    documents = PACKINGS[2]
    whole = DocumentAttention(documents, EVERYTHING)(q, k, v)
    here = torch.cat([torch.arange(each.start, each.stop) for each in chunks])
    part = DocumentAttention(documents, chunks)(q[:, :, here], k, v)
    exact = dtype == torch.float32
    torch.testing.assert_close(part, whole[:, :, here], rtol=0, atol=1e-5 if exact else 2e-2)


@pytest.mark.filterwarnings("ignore:flex_attention called without")
@pytest.mark.parametrize("chunks", [EVERYTHING, WHOLE_BLOCKS, RAGGED])
@pytest.mark.parametrize("documents", PACKINGS)
def test_the_block_mask_attends_as_each_document_alone_does(documents, chunks):
    queries = sum(len(each) for each in chunks)
    q = torch.randn(len(documents), 4, queries, 16)
    k, v = (torch.randn(len(documents), 2, 800, 16) for _ in range(2))
    got = BlockMaskAttention(documents, chunks, CPU)(q, k, v)
    torch.testing.assert_close(got, DocumentAttention(documents, chunks)(q, k, v), rtol=0, atol=1e-5)


@pytest.mark.parametrize("chunks", [EVERYTHING, WHOLE_BLOCKS, RAGGED])
@pytest.mark.parametrize("documents", PACKINGS)
def test_the_block_mask_lists_the_blocks_that_the_whole_square_gives(documents, chunks):
    ours = BlockMaskAttention(documents, chunks, CPU).mask
    owner = torch.stack([torch.arange(len(row)).repeat_interleave(torch.tensor(row)) for row in documents])
    here = torch.cat([torch.arange(each.start, each.stop) for each in chunks])

    def sees(row, _head, query, key):
        return (owner[row, here[query]] == owner[row, key]) & (here[query] >= key)

    theirs = create_block_mask(sees, len(documents), None, len(here), 800, device="cpu")
    assert ours.shape == theirs.shape
    for kind in ("kv", "full_kv", "q", "full_q"):
        lists = [(getattr(each, f"{kind}_num_blocks"), getattr(each, f"{kind}_indices")) for each in (ours, theirs)]
        got, expected = ([set(row[:n].tolist()) for n, row in zip(count.flatten(), index.flatten(0, 2), strict=True)]
                         for count, index in lists)  # fmt: skip
        if chunks is RAGGED:  # a block with queries of both chunks also lists what lies between them
            assert all(more >= fewer for more, fewer in zip(got, expected, strict=True))
        else:
            assert got == expected


@torch.no_grad()
def test_a_compiled_block_serves_every_packing():
    model = random_model(variants.tiny(num_kv_heads=2, num_layers=1))
    counter = CompileCounter()
    block = torch.compile(model.model.layers[0], backend=counter, fullgraph=True)
    eager = model.run_block
    ids = torch.randint(0, 160, (1, 300))
    for lengths in ([300], [100, 200], [7, 3, 290]):
        model.run_block = eager
        expected = model(ids, documents=[lengths])
        model.run_block = lambda _block, x, plan: block(x, plan)
        got = model(ids, documents=[lengths], packed=BlockMaskAttention([lengths], [range(300)], CPU))
        torch.testing.assert_close(got, expected, rtol=0, atol=1e-4)
    assert counter.frame_count == 1


@pytest.mark.slow
@torch.no_grad()
def test_the_compiled_kernel_needs_no_block_that_is_not_listed():
    """Eager FlexAttention looks at the mask's function alone; the compiled kernel goes by the lists of blocks."""
    documents = PACKINGS[2]
    q, k, v = (torch.randn(2, heads, 800, 16) for heads in (4, 2, 2))
    attention = BlockMaskAttention(documents, EVERYTHING, CPU)
    attention._kernel = torch.compile(attention._kernel)
    expected = DocumentAttention(documents, EVERYTHING)(q, k, v)
    torch.testing.assert_close(attention(q, k, v), expected, rtol=0, atol=1e-5)

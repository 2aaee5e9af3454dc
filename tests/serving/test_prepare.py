import asyncio
import math
from dataclasses import replace

import pytest

from codecria.generation.code_model import CodeModel, load
from codecria.generation.preparing import Preparer
from codecria.generation.sampling import SamplingOptions
from codecria.infill.layout import infill_prompt
from codecria.serving.dialects.llama_cpp import infill
from codecria.serving.markers import parse_markers
from codecria.serving.prepare import LEAST_WINDOW, prepare
from codecria.serving.problems import BadRequest, Busy, TooLong, Unsupported
from codecria.serving.requests import Chat, Complete, Infill, ModelInfo, TextRequest
from codecria.serving.routes import Call
from codecria.serving.settings import Settings
from codecria.tokenizer.tokenizer import Tokenizer
from tests.generation.conftest import random_model
from tests.serving.captured import captured
from tests.serving.conftest import PREFIX, SUFFIX
from tests.tokenizer.conftest import CODE_LLAMA_PIECES, Piece, PieceKind, model_bytes

PLAIN = SamplingOptions(max_tokens=8)
GOLDEN_PREFIX = 'def remove_non_ascii(s: str) -> str:\n    """ '
GOLDEN_SUFFIX = "\n    return result\n"
SPM = (
    "1 32007 32008 13 1678 736 1121 13 32009 822 3349 29918 5464 29918 294 18869 29898 29879 29901 851 29897 1599 851 "
    "29901 13 1678 9995 29871"
)
"""Code Llama's own ids; llama.cpp's server writes 29871 before the suffix, and has an order of its own for SPM."""


@pytest.fixture(scope="module")
def code_llama(llama_tokenizer_folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("code-llama") / "tokenizer.model"
    added = [Piece(text, 1.0 + number, PieceKind.NORMAL) for number, text in enumerate(CODE_LLAMA_PIECES)]
    path.write_bytes((llama_tokenizer_folder / "tokenizer.model").read_bytes() + model_bytes(added))
    tokenizer = Tokenizer.from_sentencepiece(path)
    return CodeModel(random_model(vocab_size=tokenizer.vocab_size, max_positions=256), tokenizer)


def test_code_llamas_ids_are_metas(code_llama):
    task = Infill(GOLDEN_PREFIX, GOLDEN_SUFFIX, heal=False)
    assert " ".join(map(str, prepare(code_llama, TextRequest(task, PLAIN), None).ids)) == SPM


def test_pasted_markers_are_metas_ids_too_with_one_bos(code_llama):
    pasted = parse_markers(f"<s><PRE> {GOLDEN_PREFIX} <SUF>{GOLDEN_SUFFIX} <MID>")
    assert pasted is not None
    ids = prepare(code_llama, TextRequest(replace(pasted, heal=False), PLAIN), None).ids
    assert " ".join(map(str, ids)) == SPM
    assert prepare(code_llama, TextRequest(Complete("x"), PLAIN), None).ids.count(1) == 1
    assert prepare(code_llama, TextRequest(Complete((5, 6)), PLAIN), None).ids == [5, 6]


def test_an_indentation_is_a_number_of_characters(code_llama):
    rule, *_ = prepare(code_llama, TextRequest(Infill("\t\t", "", indent=2), PLAIN), None).text.rules
    assert rule.cut(" 1\n\t\tx\n\t}\n") == len(" 1\n\t\tx")


def test_code_llamas_files_stand_behind_bos(code_llama):
    task = Infill(GOLDEN_PREFIX, GOLDEN_SUFFIX, files=(("a.py", "x = 1\n"),), heal=False)
    ids = prepare(code_llama, TextRequest(task, PLAIN), None).ids
    assert ids[0] == 1 and ids.count(1) == 1
    assert ids.index(32007) > 5 and ids[ids.index(32007) :] == [int(id) for id in SPM.split()[1:]]


def test_code_llamas_end_mark_ends(code_llama):
    prepared = prepare(code_llama, TextRequest(Infill("a", "b"), PLAIN), None)
    assert 32010 in prepared.options.stop_ids


def test_windows_line_ends(code_llama):
    """On `<SUF>` followed by a carriage return a server choked."""
    task = Infill("a = 1\r\nb = ", "\r\nc = 2\r\n", heal=False)
    ids = prepare(code_llama, TextRequest(task, PLAIN), None).ids
    assert ids == infill_prompt(code_llama.tokenizer, code_llama.sentinels, "a = 1\nb = ", "\nc = 2\n", "spm")


def test_the_window_is_what_is_read_in_time(code_model):
    def tokens(prompt_ms, rate, max_tokens=8):
        request = TextRequest(
            Infill("x = 1\n" * 2000, SUFFIX), SamplingOptions(max_tokens=max_tokens), prompt_ms=prompt_ms
        )
        return len(prepare(code_model, request, rate).ids)

    whole = tokens(None, 100.0)
    assert 1900 < whole < 2048
    assert tokens(500, None) == whole
    assert tokens(500, 1e6) == whole
    assert 0.7 * 1024 < tokens(1000, 1500.0) <= 1024
    assert tokens(1000, 1500.0) == tokens(1000, 1900.0)
    assert 0.7 * LEAST_WINDOW < tokens(1, 10.0) <= LEAST_WINDOW
    # What is read ahead is what a usual request will want.
    assert tokens(None, None, 0) == tokens(None, None, 128)


class Noting:
    """A backend that keeps what it is asked for, and has no room."""

    def __init__(self, model):
        self.tokenizer, self.sentinels = model.tokenizer, model.sentinels
        self.info = ModelInfo("tiny", model.max_positions, 0, 0, 0, 0, 0)

    def submit(self, request):
        self.asked = request
        raise Busy("full")


@pytest.mark.parametrize("tokens_per_s", [20_000, 4000, 2000, 10, None])
@pytest.mark.parametrize("plugin", ["llama_vim", "llama_vscode"])
def test_what_is_read_ahead_is_what_the_request_that_follows_shows(code_model, plugin, tokens_per_s):
    extra = [{"filename": f"{name}.py", "text": f"{name} = 1\n" * 40} for name in "abcdefgh"]
    asked = []
    for name in (f"{plugin}_ahead", plugin):
        backend = Noting(code_model)
        body = {**captured(name).body, "input_extra": extra}
        with pytest.raises(Busy):
            asyncio.run(infill(Call(backend, Settings(), None, body, {}, {}, {})))
        asked.append(backend.asked)
    ahead, real = (prepare(code_model, each, tokens_per_s).ids for each in asked)
    files = ahead.index(code_model.sentinels.suffix)
    assert files > 500
    assert ahead[: files + 1] == real[: files + 1]


@pytest.mark.parametrize("positions", [40, 200, 256])
def test_a_small_context_can_be_read_ahead(code_model, positions):
    model = Preparer(code_model.tokenizer, positions)
    prompts = (
        prepare(model, TextRequest(Infill("x = 1\n" * 500, SUFFIX), SamplingOptions(max_tokens=most)), None).ids
        for most in (0, 128)
    )
    assert next(prompts) == next(prompts)


def test_prompts_that_cannot_fit(code_model, plain_folder):
    for task, kind in (
        (Complete(tuple([5] * 2048)), TooLong),
        (Complete("x = 1\n" * 3000), TooLong),
        (Complete("x" * 500_000), BadRequest),
        (Chat(b'[{"role":"user","content":"' + b"x" * 500_000 + b'"}]'), BadRequest),
    ):
        with pytest.raises(kind):
            prepare(code_model, TextRequest(task, PLAIN), None)
    with pytest.raises(Unsupported, match="infill"):
        prepare(load(plain_folder, dtype="fp32"), TextRequest(Infill(PREFIX, SUFFIX), PLAIN), None)


def test_an_empty_prompt_begins_a_document(code_model):
    assert prepare(code_model, TextRequest(Complete(""), PLAIN), None).ids == [code_model.tokenizer.eos_ids[0]]


def test_the_infill_sampler_takes_over_the_filters(code_model):
    options = SamplingOptions(max_tokens=8, top_k=40, top_p=0.9, temperature=1.0, logit_bias={5: -math.inf})
    prepared = prepare(code_model, TextRequest(Infill(PREFIX, SUFFIX), options, favour_end=True), None)
    assert (prepared.options.top_k, prepared.options.top_p) == (0, 1.0)
    assert prepared.text.narrow is not None
    assert prepared.options.biases == ((5, -math.inf),)


def test_an_end_that_the_model_lacks_ends_no_neighbours_text(code_model):
    model = CodeModel(
        code_model.engine.model, code_model.tokenizer, ending_ids=[code_model.engine.model.config.vocab_size + 5]
    )
    infill = TextRequest(Infill(PREFIX, SUFFIX), PLAIN, favour_end=True)
    asked = [prepare(model, each, None) for each in (infill, TextRequest(Complete("import os\n"), PLAIN))]
    sequences = [model.engine.submit(each.ids, each.options, each.text)[0] for each in asked]
    while model.engine.step():
        pass
    assert [each.error for each in sequences] == [None, None]
    assert all(each.finished for each in sequences)

"""From a request to what the engine is given."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any, assert_never

from codecria.generation.ending import FavourEnd
from codecria.generation.middle import InfillOptions, Options
from codecria.generation.stopping import SameBlock
from codecria.serving.problems import BadRequest, TooLong, Unsupported
from codecria.serving.requests import Chat, Complete, Infill, TextRequest

if TYPE_CHECKING:
    from codecria.generation.preparing import Prepared, Preparer

LEAST_WINDOW = 1024
"""A prompt is not cut to fewer tokens for the sake of time: less would not be worth asking for."""

# No text worth reading has fewer tokens than these many characters a token; it is refused before it is encoded.
_MOST_CHARACTERS = 64
_FILE_CHARACTERS = 8
_FILES = 64
# What llama.vim and llama.vscode want, when they do not read ahead; one token more is kept free in any case.
_USUAL_TOKENS = 127
_USUAL_MS = 500


def prepare(model: Preparer, request: TextRequest, tokens_per_s: float | None) -> Prepared:
    """The ids, the sampling and the rules of a text.

    Args:
        model: makes ids of texts.
        request: what is asked for.
        tokens_per_s: how fast prompts are read here, as far as is known.

    Raises:
        CodecriaError: the request makes no sense to this model, or does not fit its context.
    """
    options = _options(request)
    match request.task:
        case Complete(prompt, heal):
            prepared = _complete(model, prompt, heal, options)
        case Infill() as task:
            prepared = _infill(model, task, options, _window(model, request, tokens_per_s))
        case Chat(messages):
            refuse_endless(model.max_positions, len(messages))
            prepared = model.prepare_chat(json.loads(messages), **options)
        case _:
            assert_never(request.task)
    if len(prepared.ids) >= model.max_positions:
        raise TooLong(len(prepared.ids), model.max_positions)
    if request.favour_end:
        ends = frozenset(prepared.options.stop_ids)
        narrow = FavourEnd(model.tokenizer.token_bytes, ends, request.sampling)
        prepared = replace(prepared, text=replace(prepared.text, narrow=narrow))
    return prepared


def _complete(model: Preparer, prompt: str | tuple[int, ...], heal: bool, options: Options) -> Prepared:
    if isinstance(prompt, tuple):
        return model.prepare_ids(prompt, **options)
    refuse_endless(model.max_positions, len(prompt))
    if not prompt and not model.tokenizer.bos_ids:
        # Nothing to go on from: a document begins behind another one's end.
        return model.prepare_ids(model.tokenizer.eos_ids[:1], **options)
    return model.prepare_completion(prompt, heal=heal, **options)


def _infill(model: Preparer, task: Infill, options: Options, window: int) -> Prepared:
    if model.sentinels is None:
        what = "infill is not supported by this model: its tokenizer has no infill markers"
        raise Unsupported(what, mend="serve one that `codecria models` marks as infilling")
    most = model.max_positions * _FILE_CHARACTERS
    asked: InfillOptions = {
        **options,
        # A key then changes the prompt's end alone, and the rest is in the cache.
        "order": "spm" if "spm" in model.sentinels.orders else None,
        "files": tuple((name, text[:most]) for name, text in task.files[-_FILES:]),
        "path": task.path,
        "stop_at": task.stop_at,
        "trim": task.trim,
        "heal": task.heal,
        "window_tokens": window,
    }
    prepared = model.prepare_infill(task.prefix, task.suffix, **asked)
    if task.indent:
        # llama.vim, llama.vscode and llama.cpp count characters: a tab is one.
        rules = (SameBlock(" " * task.indent, tab=1), *prepared.text.rules)
        prepared = replace(prepared, text=replace(prepared.text, rules=rules))
    return prepared


def _window(model: Preparer, request: TextRequest, tokens_per_s: float | None) -> int:
    """Tokens that are read in time: a power of two, so that it stays the same while the rate wavers.

    What is read ahead of a request is what that one will show, however little time is asked for: as much is kept free.
    """
    ahead = not request.sampling.max_tokens
    window = model.max_positions
    if request.prompt_ms and tokens_per_s:
        readable = int(tokens_per_s * max(request.prompt_ms, _USUAL_MS if ahead else 0) / 1000)
        window = min(window, max(LEAST_WINDOW, 1 << max(readable.bit_length() - 1, 0)))
    return window - min(_USUAL_TOKENS, window // 2 - 1) if ahead else window


def _options(request: TextRequest) -> Options:
    given: Any = {name: getattr(request.sampling, name) for name in Options.__annotations__}
    given["logit_bias"] = dict(request.sampling.biases)
    if request.favour_end:
        # They act before the filter, which does it itself.
        given |= {"top_k": 0, "top_p": 1.0, "min_p": 0.0}
    return given


def refuse_endless(positions: int, characters: int) -> None:
    """Refuse a prompt that cannot fit, before it is encoded.

    Raises:
        BadRequest: so many characters are more than so many tokens have.
    """
    if characters > positions * _MOST_CHARACTERS:
        what = f"the prompt has {characters} characters and the model's context {positions} tokens"
        raise BadRequest(what, where="prompt", mend="shorten it")

r"""A model as a person uses it: text in, text out.

    model = codecria.load("smollm2-135m")
    model.complete("def fibonacci(n):").text
    model.chat([{"role": "user", "content": "Reverse a list in Python."}]).text

    model = codecria.load("runs/demo/code/checkpoint")   # a model trained to infill
    model.infill("def add(a, b):\n    return ", "\n").text

Every method takes the fields of `SamplingOptions` by name, and has a twin that yields the text piece by piece
(`stream_infill`) and one for many inputs in common batches (`infill_many`).
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Unpack

from codecria.checkpoint.catalogue import DEFAULT
from codecria.checkpoint.open import load_model, open_checkpoint
from codecria.common.errors import CodecriaError
from codecria.generation.candidates import infill_candidates
from codecria.generation.cursor import Cursor
from codecria.generation.engine import Engine
from codecria.generation.preparing import Prepared, Preparer
from codecria.generation.quantised import Form, load_quantised
from codecria.model.precision import Precision, compute_dtype, pick_device

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence
    from pathlib import Path

    from codecria.generation.middle import CompleteOptions, InfillOptions, Options
    from codecria.generation.sequence import Completion, Step
    from codecria.model.transformer import Transformer
    from codecria.tokenizer.tokenizer import Tokenizer


class CodeModel(Preparer):
    """A model, its tokenizer and an engine.

    Not to be used from several threads at once. The last prompt's keys and values are kept, so a prompt that begins
    like it is read only from where it differs.

    Attributes:
        engine: generates from ids; several streams may be under way.
    """

    def __init__(
        self,
        model: Transformer,
        tokenizer: Tokenizer,
        *,
        name: str = "model",
        ending_ids: Sequence[int] = (),
        max_rows: int = 16,
    ) -> None:
        vocab_size, positions = model.config.vocab_size, model.config.max_positions
        super().__init__(tokenizer, positions, name=name, ending_ids=ending_ids, vocab_size=vocab_size)
        self.engine = Engine(model, max_rows=max_rows)

    def fresh(self) -> CodeModel:
        """The same model with nothing read yet: its texts do not depend on what this one has in its cache."""
        engine = self.engine
        return CodeModel(
            engine.model, self.tokenizer, name=self.name, ending_ids=self._stop_ids, max_rows=engine.max_rows
        )

    def complete(self, prompt: str, **options: Unpack[CompleteOptions]) -> Completion:
        """Continue a text.

        Raises:
            CodecriaError: an option is out of range; the prompt is empty or does not fit the context.
        """
        return self._one([self.prepare_completion(prompt, **options)])

    def complete_many(self, prompts: Sequence[str], **options: Unpack[CompleteOptions]) -> list[list[Completion]]:
        """Continue many texts together: for each its `n` samples."""
        return self._many([self.prepare_completion(prompt, **options) for prompt in prompts])

    def stream_complete(self, prompt: str, **options: Unpack[CompleteOptions]) -> Iterator[str]:
        """As `complete`, piece by piece."""
        return self._stream(self.prepare_completion(prompt, **options))

    def infill(self, prefix: str, suffix: str, **options: Unpack[InfillOptions]) -> Completion:
        """Write what stands between a prefix and a suffix.

        A prefix and suffix that do not fit the context are cut to what is nearest to the cursor, at line ends.

        Raises:
            CodecriaError: the model does not infill, or not in this order; an option is out of range.
        """
        return self._one([self.prepare_infill(prefix, suffix, **options)])

    def infill_many(self, pairs: Sequence[tuple[str, str]], **options: Unpack[InfillOptions]) -> list[list[Completion]]:
        """Fill many pairs of prefix and suffix together: for each its `n` samples."""
        return self._many([self.prepare_infill(prefix, suffix, **options) for prefix, suffix in pairs])

    def stream_infill(self, prefix: str, suffix: str, **options: Unpack[InfillOptions]) -> Iterator[str]:
        """As `infill`, piece by piece. With `trim`, an end that may repeat the suffix waits until that is known."""
        return self._stream(self.prepare_infill(prefix, suffix, **options))

    def infill_candidates(
        self, prefix: str, suffix: str, count: int = 3, **options: Unpack[InfillOptions]
    ) -> list[Completion]:
        """Different middles, at most `count` of them, those the model finds more likely first.

        One is greedy, the others are samples, at a temperature of 0.8 where none is given. Their rank is the mean
        log-probability of their tokens.
        """
        return infill_candidates(self, prefix, suffix, count, options)

    def cursor(self, prefix: str, suffix: str, **options: Unpack[InfillOptions]) -> Cursor:
        """A session at a cursor: text is typed, deleted and suggested, and each step reuses what was read before.

        Args:
            prefix: the document before the cursor.
            suffix: the document after it.
            options: of every suggestion, `path` and `files` among them. The order is suffix first wherever the family
                knows it: then a key changes the prompt's end alone.

        Raises:
            CodecriaError: the model does not infill.
        """
        return Cursor(self, prefix, suffix, options)

    def chat(self, messages: Sequence[Mapping[str, Any]], **options: Unpack[Options]) -> Completion:
        """Answer a conversation: messages with `role` and `content`.

        Raises:
            CodecriaError: the model has no chat template or refuses the messages; the conversation does not fit the
                context; an option is out of range.
        """
        return self._one([self.prepare_chat(messages, **options)])

    def chat_many(
        self, conversations: Sequence[Sequence[Mapping[str, Any]]], **options: Unpack[Options]
    ) -> list[list[Completion]]:
        """Answer many conversations together: for each its `n` samples."""
        return self._many([self.prepare_chat(messages, **options) for messages in conversations])

    def stream_chat(self, messages: Sequence[Mapping[str, Any]], **options: Unpack[Options]) -> Iterator[str]:
        """As `chat`, piece by piece."""
        return self._stream(self.prepare_chat(messages, **options))

    def _many(self, prepared: list[Prepared]) -> list[list[Completion]]:
        if not prepared:
            return []
        texts = [each.text for each in prepared]
        return self.engine.generate([each.ids for each in prepared], prepared[0].options, texts)

    def _one(self, prepared: list[Prepared]) -> Completion:
        samples = prepared[0].options.n
        if samples != 1:
            raise CodecriaError(f"n is {samples}, but one text is returned", mend="use the method that ends in _many")
        return self._many(prepared)[0][0]

    def _stream(self, prepared: Prepared) -> Iterator[str]:
        if prepared.options.n != 1:
            raise CodecriaError(f"n is {prepared.options.n}, but one text is streamed", mend="leave n out")
        return _texts(self.engine.stream([prepared.ids], prepared.options, [prepared.text]))


def _texts(steps: Generator[Step]) -> Iterator[str]:
    with contextlib.closing(steps):
        yield from (step.text for step in steps if step.text)


def load(name_or_path: str | Path = DEFAULT, *, dtype: Precision | Form = "auto", device: str = "auto") -> CodeModel:
    """Open a model for use.

    Args:
        name_or_path: a name that `codecria models` lists (fetched when it is not there yet), a Hugging Face or Meta
            folder, or a GGUF file.
        dtype: `fp32`, `bf16`, or `auto`: bfloat16 where the device computes it in hardware, else float32. `int8` and
            `int4` are weights in few bits: a row or a group of 32 has a common scale, four-bit blocks of a GGUF file
            are kept, and an adapter is merged to eight bits or computed beside four.
        device: `cpu`, `cuda`, `cuda:1` …, or `auto`: the GPU where there is one.

    Raises:
        CodecriaError: no such model, its files are damaged, or it does not fit the memory.
    """
    target = pick_device(device)
    checkpoint = open_checkpoint(name_or_path)
    if dtype == "int8" or dtype == "int4":
        model: Transformer = load_quantised(checkpoint, dtype, target)
    else:
        model = load_model(checkpoint, dtype=compute_dtype(dtype, target), device=target)
    return CodeModel(model, checkpoint.tokenizer, name=str(name_or_path), ending_ids=checkpoint.ending_ids)

r"""How a line is asked for, and what is scored as the truth: infilling in either order, or plain left to right.

Left to right sees the prefix alone, without markers; what it writes is cut at the line's end. Its end is that line
end: the mass of all tokens that begin with one, because tokenizers join a line end and the next line's indentation
into one token. In infilling the end is the mass of the family's end ids.

A token may reach from the prefix into the middle (again a line end and an indentation). SPM training encodes prefix
and middle as one string, and so does any plain text. There the middle is scored in that joint encoding: the tokens
after those both share, the first taken among the tokens that continue the prefix's text, because that text is given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, get_args

from codecria.evaluation.scoring import Continuation
from codecria.infill.layout import Sentinels, Split, common_length, infill_example, infill_prompt

if TYPE_CHECKING:
    from codecria.evaluation.tasks.lines import Line
    from codecria.tokenizer.tokenizer import Tokenizer

Method = Literal["psm", "spm", "left_to_right"]
METHODS: tuple[Method, ...] = get_args(Method)


class Asking:
    """One tokenizer's prompts and truths. `sentinels` is None for a model that was not taught to infill."""

    def __init__(self, tokenizer: Tokenizer, sentinels: Sentinels | None) -> None:
        self.tokenizer = tokenizer
        self.sentinels = sentinels

    def reason_against(self, method: Method) -> str:
        """Why this model cannot be asked so; "" when it can."""
        if method == "left_to_right" or (self.sentinels and method in self.sentinels.orders):
            return ""
        if self.sentinels is None:
            return "the model has no infill markers"
        return f"the {self.sentinels.family} layout has no {method.upper()} order"

    def prompt(self, line: Line, method: Method) -> list[int]:
        """Ids after which the middle is written. `reason_against` must be empty."""
        if method == "left_to_right":
            return [*self._start(line.prefix), *self.tokenizer.encode(line.prefix)]
        assert self.sentinels is not None
        return infill_prompt(self.tokenizer, self.sentinels, line.prefix, line.suffix, method)

    def truth(self, line: Line, method: Method) -> Continuation:
        """The true middle and its end, to be scored."""
        prompt = self.prompt(line, method)
        if method == "left_to_right":
            ids = [*self._start(line.prefix), *self.tokenizer.encode(line.prefix + line.middle)]
            end_among = list(self.tokenizer.ids_beginning(b"\n"))
        else:
            assert self.sentinels is not None
            split = Split(line.prefix, line.middle, line.suffix)
            ids = infill_example(self.tokenizer, self.sentinels, split, method).ids[:-1]
            end_among = list(self.sentinels.end)
        shared = common_length(prompt, ids)
        healed = b"".join(map(self.tokenizer.token_bytes, prompt[shared:]))
        among = list(self.tokenizer.ids_beginning(healed)) if healed else None
        if among is not None and ids[shared] not in among:
            among = None
        return Continuation(ids[:shared] or list(self.tokenizer.eos_ids[:1]), ids[shared:], among, end_among)

    def _start(self, prefix: str) -> list[int]:
        """What a plain text is read after; without BOS an empty prefix is read after a document's end."""
        return self.tokenizer.bos_ids or ([] if prefix else list(self.tokenizer.eos_ids[:1]))

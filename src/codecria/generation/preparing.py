"""From a text to what an engine is given: the prompt's ids, the sampling, and how ids become text again.

One class does it for a model in this process and for one behind a server, so that both are asked with the same ids.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Unpack

from codecria.common.errors import CodecriaError
from codecria.generation.encoding import RememberingEncoder
from codecria.generation.middle import of_sampling, plan_middle
from codecria.generation.sampling import SamplingOptions
from codecria.generation.stopping import HealedDecoder, TextPlan, TextRule
from codecria.infill.heal import heal
from codecria.tokenizer.chat import encode_chat
from codecria.tokenizer.sentinels import find_sentinels, reserved_ids
from codecria.tokenizer.stream import StreamDecoder

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from codecria.generation.middle import CompleteOptions, InfillOptions, Options
    from codecria.infill.layout import Sentinels
    from codecria.tokenizer.tokenizer import Tokenizer


@dataclass(frozen=True)
class Prepared:
    """What the engine is given for one text."""

    ids: list[int]
    options: SamplingOptions
    text: TextPlan


class Preparer:
    """Prepares texts for one model. Not to be used from several threads at once.

    Args:
        tokenizer: the model's.
        max_positions: tokens that its context holds.
        name: what it is called in errors.
        ending_ids: ids that end a text, besides the tokenizer's own.
        vocab_size: of the model, where it has more ids than the tokenizer; they are never written.
        heals: whether a prompt's last token may be taken back; what a server writes first cannot be chosen here.

    Attributes:
        name: see above.
        tokenizer: see above.
        sentinels: the infill markers, None for a model that does not infill.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        max_positions: int,
        *,
        name: str = "model",
        ending_ids: Sequence[int] = (),
        vocab_size: int = 0,
        heals: bool = True,
    ) -> None:
        self.name = name
        self.tokenizer = tokenizer
        self._positions = max_positions
        self._heals = heals
        self._encoder = RememberingEncoder(tokenizer)
        self.sentinels: Sentinels | None = find_sentinels(tokenizer)
        meaningless = {*reserved_ids(tokenizer), *range(tokenizer.vocab_size, vocab_size)}
        # A control id is never text: whichever the model writes, its text has ended.
        ends = {*ending_ids, *tokenizer.eos_ids, *tokenizer.special_ids} - meaningless
        self._stop_ids = tuple(sorted(ends))
        self._forbidden_ids = tuple(sorted(meaningless))

    @property
    def max_positions(self) -> int:
        """Tokens that the context holds."""
        return self._positions

    def prepare_completion(self, prompt: str, **options: Unpack[CompleteOptions]) -> Prepared:
        """What `complete` gives the engine: BOS where the model has one, then the prompt's tokens."""
        ids = [*self.tokenizer.bos_ids, *self.tokenizer.encode(prompt)]
        # Behind an empty prompt the implicit space falls on the answer, whose decoding takes it off.
        plan = self._text_plan(continues=bool(prompt))
        prepared = Prepared(ids, self._options(of_sampling(options)), plan)
        return self._healed(prepared, prompt) if options.get("heal", True) else prepared

    def prepare_ids(self, ids: Sequence[int], **options: Unpack[Options]) -> Prepared:
        """What is given the engine for a prompt that is ids already: they are taken as they are, no BOS is added."""
        return Prepared(list(ids), self._options(options), self._text_plan(continues=bool(ids)))

    def prepare_infill(self, prefix: str, suffix: str, **options: Unpack[InfillOptions]) -> Prepared:
        """What `infill` gives the engine: the ids are `infill_prompt`'s for the part of the text that fits."""
        sentinels = self.infill_markers()
        sampling = self._options(of_sampling(options))
        middle = plan_middle(
            self._encoder,
            sentinels,
            prefix,
            suffix,
            options,
            max_tokens=sampling.max_tokens,
            positions=self.max_positions,
        )
        plan = replace(self._text_plan(middle.continues, middle.rules), returns=middle.returns)
        return self._healed(Prepared(middle.ids, sampling, plan), middle.healable)

    def infill_markers(self) -> Sentinels:
        """The model's infill markers.

        Raises:
            CodecriaError: it has none.
        """
        if self.sentinels is None:
            raise CodecriaError(
                "the model was not trained to infill: its tokenizer has no infill markers",
                where=self.name,
                mend="train it (`codecria train`), or pick one that infills (`codecria models`)",
            )
        return self.sentinels

    def prepare_chat(self, messages: Sequence[Mapping[str, Any]], **options: Unpack[Options]) -> Prepared:
        """What `chat` gives the engine: the conversation up to where the answer begins."""
        ids = encode_chat(self.tokenizer, messages, add_generation_prompt=True).ids
        return Prepared(ids, self._options(options), self._text_plan(continues=False))

    def _healed(self, prepared: Prepared, text: str) -> Prepared:
        """The same request with the last token of `text`, which the prompt ends with, taken back."""
        found = heal(self.tokenizer, prepared.ids, text) if self._heals else None
        # Without BOS nothing may be left: such a text is read after a document's end.
        start = () if found is None else found.ids or self.tokenizer.eos_ids[:1]
        if found is None or not start:
            return prepared
        plan = prepared.text
        text_plan = replace(
            plan,
            new_decoder=lambda: HealedDecoder(plan.new_decoder(), found.text),
            first_ids=found.first_ids,
            guess=prepared.ids[-1],
        )
        return replace(prepared, ids=list(start), text=text_plan)

    def _options(self, options: Options) -> SamplingOptions:
        stop = options.get("stop", ())
        values: dict[str, Any] = {**options, "stop": (stop,) if isinstance(stop, str) else tuple(stop)}
        values["stop_ids"] = (*self._stop_ids, *options.get("stop_ids", ()))
        return SamplingOptions(**values, forbidden_ids=self._forbidden_ids)

    def _text_plan(self, continues: bool, rules: tuple[TextRule, ...] = ()) -> TextPlan:
        return TextPlan(lambda: StreamDecoder(self.tokenizer, infilling=continues), rules)

"""What a caller may ask for, and what follows from it for a middle: the prompt, and the rules that end the text.

Models in this process and behind a server ask for the same middle with the same ids (law 2).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, NamedTuple, TypedDict, cast, get_args

from codecria.common.errors import CodecriaError
from codecria.generation.stopping import BracketClosed, FirstLine, NoOverlap, SameBlock, TextRule
from codecria.generation.window import show
from codecria.infill.layout import continues_prefix
from codecria.infill.trim import open_quote

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from codecria.infill.layout import Order, Sentinels
    from codecria.infill.repository import Vocabulary

StopAt = Literal["end", "line", "block", "bracket"]
"""Where a middle ends at the latest: at the model's end marker, at the first line end, before the first line that is
indented less than the cursor's, or where a bracket is closed that was open at the cursor."""


class Options(TypedDict, total=False):
    """Fields of `SamplingOptions` that a caller may give."""

    max_tokens: int
    min_tokens: int
    temperature: float
    top_p: float
    top_k: int
    min_p: float
    seed: int | None
    stop: str | Sequence[str]
    stop_ids: Sequence[int]
    n: int
    logprobs: bool
    repetition_penalty: float
    presence_penalty: float
    frequency_penalty: float
    logit_bias: Mapping[int, float]
    top_logprobs: int


class CompleteOptions(Options, total=False):
    """What a caller may give for completion.

    Attributes:
        heal: whether the prompt's last token may become a longer one; by default it may. See `codecria.infill.heal`.
    """

    heal: bool


class InfillOptions(CompleteOptions, total=False):
    """What a caller may give for infilling. Healing concerns the end of the prefix in SPM alone.

    Attributes:
        order: the prompt's layout; by default the one the model's family prefers.
        stop_at: where the middle ends at the latest; by default at the end marker.
        trim: whether to cut an end of the middle that repeats how the suffix begins; by default it is cut.
        begun: how the middle begins; what is written goes on from there. In PSM it is read behind the last marker, so
            text typed there leaves the prompt before it as it was.
        files: (path, text) of other files of the project, what helps most last. See `codecria.generation.window`.
        path: the document's own.
        window_tokens: what prompt and middle may take of the context; by default all of it.
    """

    order: Order | None
    stop_at: StopAt
    trim: bool
    begun: str
    files: Sequence[tuple[str, str]]
    path: str | None
    window_tokens: int


def of_sampling(asked: CompleteOptions) -> Options:
    """What is left for the sampler. An option that nobody knows stays, to be refused there."""
    others = InfillOptions.__annotations__.keys() - Options.__annotations__.keys()
    return cast("Options", {name: value for name, value in asked.items() if name not in others})


class Middle(NamedTuple):
    """A middle to be written.

    Attributes:
        ids: the prompt.
        rules: what ends the text, and what is cut from it.
        continues: whether it goes on from a text, so that a leading space is its own.
        healable: the text that the prompt ends with, where its last token may become a longer one; else "".
        returns: the document has CR LF: the model reads and writes line feeds, and the rules are for these; carriage
            returns are put back behind them.
    """

    ids: list[int]
    rules: tuple[TextRule, ...]
    continues: bool
    healable: str
    returns: bool


def plan_middle(
    encoder: Vocabulary,
    sentinels: Sentinels,
    prefix: str,
    suffix: str,
    asked: InfillOptions,
    *,
    max_tokens: int,
    positions: int,
) -> Middle:
    """The prompt for a middle, of what of the texts fits.

    Args:
        encoder: the tokenizer.
        sentinels: its infill markers.
        prefix: what stands before the middle.
        suffix: what stands after it.
        asked: the caller's options; those of sampling are not looked at.
        max_tokens: of the middle; half the context at most is kept for it.
        positions: tokens that the context holds.

    Raises:
        CodecriaError: an order that the family does not know, or no such `stop_at`.
    """
    order = asked.get("order") or sentinels.orders[0]
    joined = continues_prefix(sentinels, order)
    begun = asked.get("begun", "")
    window = min(asked.get("window_tokens", positions), positions)
    returns = 2 * (prefix.count("\r\n") + suffix.count("\r\n")) > prefix.count("\n") + suffix.count("\n")
    if returns:
        prefix, begun, suffix = (each.replace("\r\n", "\n") for each in (prefix, begun, suffix))
    shown = show(
        encoder,
        sentinels,
        prefix,
        suffix,
        order,
        window - max(1, min(max_tokens, window // 2)),
        begun=begun,
        files=tuple((name, text) for name, text in asked.get("files", ())),
        path=asked.get("path"),
    )
    left, right = shown.prefix if joined else shown.prefix + begun, shown.suffix
    rules = ending_rules(asked, left, right)
    healable = (left if joined else begun) if asked.get("heal", True) else ""
    return Middle(shown.ids, rules, bool(left) or not joined, healable, returns)


def ending_rules(asked: InfillOptions, prefix: str, suffix: str) -> tuple[TextRule, ...]:
    """What ends a middle that is written behind this prefix, and cuts it."""
    stop_at = asked.get("stop_at", "end")
    if stop_at not in get_args(StopAt):
        raise CodecriaError(f"stop_at is '{stop_at}'", mend=f"give one of: {', '.join(get_args(StopAt))}")
    rules: list[TextRule] = []
    if stop_at == "line":
        rules.append(FirstLine())
    elif stop_at == "block":
        rules.append(SameBlock(prefix))
    elif stop_at == "bracket":
        rules.append(BracketClosed(open_quote(prefix), suffix))
    return (*rules, NoOverlap(suffix)) if asked.get("trim", True) else tuple(rules)

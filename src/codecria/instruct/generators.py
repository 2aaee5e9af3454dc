"""The models of a run: each a checkpoint here, through our engine, or one behind an OpenAI-compatible server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

from codecria.common.recipe import Recipe
from codecria.generation.code_model import CodeModel, load
from codecria.generation.endpoint import Endpoint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from codecria.generation.generator import Generator
    from codecria.generation.sequence import Completion


class GeneratorRecipe(Recipe):
    """A model that writes.

    Attributes:
        model: a checkpoint's folder or a name from the catalogue; with an endpoint its name there.
        endpoint: an OpenAI-compatible server, up to and with the version (`http://host:8000/v1`); absent for here.
        tokenizer: with an endpoint, the model's: prompts to be completed then go as token ids.
        dialect: with an endpoint, which fields the server knows.
        chat: asked by its chat template; false has prompts completed, for a model that was not tuned to chat.
        dtype: of a model here, as `codecria.load` takes it.
    """

    model: str
    endpoint: str | None = None
    tokenizer: str | None = None
    dialect: Literal["vllm", "openai"] = "vllm"
    chat: bool = True
    dtype: Literal["auto", "fp32", "bf16", "int8", "int4"] = "auto"


class Writer:
    """A generator that is opened when it is first asked.

    Args:
        recipe: what it is.
    """

    def __init__(self, recipe: GeneratorRecipe) -> None:
        self.recipe = recipe
        self._generator: Generator | None = None

    def for_group(self) -> Generator:
        """The generator with an empty cache: a group's texts must not depend on the groups before it.

        Behind a server that is the server's business.
        """
        recipe = self.recipe
        if self._generator is None and recipe.endpoint is not None:
            self._generator = Endpoint(
                recipe.endpoint, recipe.model, tokenizer=recipe.tokenizer, dialect=recipe.dialect
            )
        elif self._generator is None:
            self._generator = load(recipe.model, dtype=recipe.dtype)
        generator = self._generator
        return generator.fresh() if isinstance(generator, CodeModel) else generator


def ask(
    generator: Generator,
    prompts: Sequence[str],
    *,
    chat: bool,
    begun: str = "",
    stop: Sequence[str] = (),
    max_tokens: int,
    temperature: float,
    top_p: float,
    seed: int,
) -> list[str]:
    """One answer to each prompt, asked together.

    Args:
        generator: who is asked.
        prompts: what is asked.
        chat: each prompt is a user's message; otherwise a text to be continued.
        begun: without `chat`, what the answer begins with; it is part of what is returned.
        stop: strings that end an answer and are cut from it.
        max_tokens: as in `SamplingOptions`, and so the rest.
        temperature: divides the scores.
        top_p: share of the probability that is drawn from.
        seed: of the draws.
    """
    if not prompts:
        return []
    answers: list[list[Completion]]
    if chat:
        conversations = [[{"role": "user", "content": prompt}] for prompt in prompts]
        answers = generator.chat_many(
            conversations, stop=stop, max_tokens=max_tokens, temperature=temperature, top_p=top_p, seed=seed
        )
        return [answer.text for (answer,) in answers]
    texts = [prompt + begun for prompt in prompts]
    answers = generator.complete_many(
        texts, stop=stop, max_tokens=max_tokens, temperature=temperature, top_p=top_p, seed=seed
    )
    return [begun + answer.text for (answer,) in answers]

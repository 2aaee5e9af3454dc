"""The models of a run: each a checkpoint here, through our engine, or one behind an OpenAI-compatible server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from codecria.common.recipe import Recipe
from codecria.generation.code_model import CodeModel, load
from codecria.generation.endpoint import Endpoint

if TYPE_CHECKING:
    from collections.abc import Sequence

    from codecria.generation.generator import Generator

Count = Annotated[int, Field(ge=1)]


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


class SamplingRecipe(Recipe):
    """How a model writes. The paper states none of these figures.

    Attributes:
        generator: one of the recipe's `generators`.
        temperature, top_p, max_tokens: as in `SamplingOptions`.
    """

    generator: str
    temperature: Annotated[float, Field(ge=0)] = 0.8
    top_p: Annotated[float, Field(gt=0, le=1)] = 0.95
    max_tokens: Count = 512


class Writer:
    """A generator that is opened when it is first asked.

    Args:
        recipe: what it is.
        generator: it, where it is open already.
    """

    def __init__(self, recipe: GeneratorRecipe, generator: Generator | None = None) -> None:
        self.recipe = recipe
        self._generator = generator

    def fresh(self) -> Writer:
        """The same with an empty cache: a group's texts must not depend on the groups before it.

        Behind a server that is the server's business.
        """
        generator = self._opened()
        return Writer(self.recipe, generator.fresh() if isinstance(generator, CodeModel) else generator)

    def ask(
        self,
        prompts: Sequence[str],
        how: SamplingRecipe,
        seed: int,
        *,
        begun: str = "",
        stop: Sequence[str] = (),
        completes: bool = False,
    ) -> list[str]:
        """One answer to each prompt, asked together.

        Args:
            prompts: what is asked.
            how: it is written.
            seed: of the draws.
            begun: of a model that does not chat, what the answer begins with; it is part of what is returned.
            stop: strings that end an answer and are cut from it.
            completes: each prompt is a text to be continued, even for a model that chats.
        """
        if not prompts:
            return []
        generator, sampling = self._opened(), how.model_dump(include={"max_tokens", "temperature", "top_p"})
        if self.recipe.chat and not completes:
            conversations = [[{"role": "user", "content": prompt}] for prompt in prompts]
            answers = generator.chat_many(conversations, stop=stop, seed=seed, **sampling)
            return [answer.text for (answer,) in answers]
        answers = generator.complete_many([prompt + begun for prompt in prompts], stop=stop, seed=seed, **sampling)
        return [begun + answer.text for (answer,) in answers]

    def _opened(self) -> Generator:
        recipe = self.recipe
        if self._generator is None and recipe.endpoint is not None:
            self._generator = Endpoint(
                recipe.endpoint, recipe.model, tokenizer=recipe.tokenizer, dialect=recipe.dialect
            )
        elif self._generator is None:
            self._generator = load(recipe.model, dtype=recipe.dtype)
        return self._generator

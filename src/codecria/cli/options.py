"""Options that several commands share, so that a thing has one name and one meaning everywhere."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from codecria.generation.code_model import CodeModel
    from codecria.generation.endpoint import Endpoint

DEFAULT_MODEL = "smollm2-135m"
INFILLING_MODEL = "codecria-135m-infill"

ModelOption = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        envvar="CODECRIA_MODEL",
        help="A checkpoint's folder or file, or a name from `codecria models`.",
    ),
]
MaxTokens = Annotated[int, typer.Option("--max-tokens", "-n", min=1, help="Longest answer in tokens.")]
Temperature = Annotated[float, typer.Option(min=0.0, help="0 takes the most probable token each time.")]
TopP = Annotated[float, typer.Option(min=0.0, max=1.0, help="Sample from the smallest set with this probability.")]
TopK = Annotated[int, typer.Option(min=0, help="Sample from this many tokens at most; 0 is no limit.")]
Seed = Annotated[int, typer.Option(help="The same seed gives the same samples.")]
Dtype = Annotated[
    Literal["auto", "fp32", "bf16", "int8", "int4"],
    typer.Option(help="Number format of the weights; `auto` is bf16 where the processor has it, else fp32."),
]
Threads = Annotated[int | None, typer.Option(min=1, help="CPU threads; all by default.")]
EndpointOption = Annotated[
    str | None,
    typer.Option(
        envvar="CODECRIA_ENDPOINT",
        help="An OpenAI-compatible server, such as http://host:8000/v1; --model is then its name there. The key is "
        "read from OPENAI_API_KEY.",
    ),
]
TokenizerOption = Annotated[
    str | None,
    typer.Option(help="The tokenizer of the endpoint's model: a folder or a name. Prompts then go as token ids."),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", help="Override a key of the recipe: `--set optimiser.peak_rate=1e-4`. Repeatable."),
]


def load(model: str, threads: int | None, dtype: Dtype = "auto") -> CodeModel:
    """Load a model for generation in a number format, on `threads` CPU threads."""
    import torch

    from codecria.generation.code_model import load as load_model

    torch.set_num_threads(threads or len(os.sched_getaffinity(0)))
    return load_model(model, dtype=dtype)


def load_or_connect(
    model: str, threads: int | None, dtype: Dtype, endpoint: str | None, tokenizer: str | None = None
) -> CodeModel | Endpoint:
    """A model loaded here, or one behind a server where an endpoint is named."""
    return load(model, threads, dtype) if endpoint is None else connect(endpoint, model, tokenizer)


def connect(endpoint: str, model: str, tokenizer: str | None) -> Endpoint:
    """A model behind a server."""
    from codecria.generation.endpoint import Endpoint

    return Endpoint(endpoint, model, tokenizer=tokenizer)

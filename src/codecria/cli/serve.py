"""`codecria serve`: a model behind the interfaces that editors speak."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Annotated, Literal

import typer

from codecria.cli import options
from codecria.common.errors import CodecriaError

_NEEDED = ("starlette", "uvicorn", "orjson", "prometheus_client")


def serve(
    model: Annotated[
        str, typer.Argument(envvar="CODECRIA_MODEL", help="A checkpoint, or a name from `codecria models`.")
    ] = options.INFILLING_MODEL,
    host: Annotated[
        str, typer.Option(help="Address to listen at; by default this machine alone may ask.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8012,
    upstream: Annotated[
        str | None,
        typer.Option(
            help="Write with an OpenAI-compatible engine that takes token ids, such as vLLM at http://host:8000/v1, "
            "instead of loading MODEL. Its key is read from OPENAI_API_KEY."
        ),
    ] = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            help="With --upstream: the tokenizer of the engine's model, a folder or a name; by default MODEL's."
        ),
    ] = None,
    upstream_model: Annotated[
        str | None, typer.Option(help="With --upstream: the model's name there, where the engine lists several.")
    ] = None,
    api_key: Annotated[
        str | None,
        typer.Option(envvar="CODECRIA_API_KEY", help="What requests must bring; the variable is not seen by `ps`."),
    ] = None,
    allow_origin: Annotated[
        list[str] | None, typer.Option(help="A web origin whose pages may ask, such as https://host. Repeatable.")
    ] = None,
    allow_host: Annotated[
        list[str] | None, typer.Option(help="A further name this server may be asked by. Repeatable.")
    ] = None,
    max_waiting: Annotated[int, typer.Option(min=0, help="Texts that may wait before requests are refused.")] = 64,
    timeout: Annotated[float, typer.Option(min=1, help="Seconds after which a text ends with what it has.")] = 300.0,
    grace: Annotated[float, typer.Option(min=0, help="Seconds that running texts have after SIGTERM.")] = 10.0,
    markers: Annotated[
        bool, typer.Option("--markers/--no-markers", help="Understand infill markers spelt in raw prompts.")
    ] = True,
    log_level: Annotated[
        Literal["info", "warning"], typer.Option(help="`info` writes a line a request to standard error.")
    ] = "info",
    log_prompts: Annotated[bool, typer.Option("--log-prompts", help="Write what is asked into the log too.")] = False,
    dtype: options.Dtype = "auto",
    threads: options.Threads = None,
) -> None:
    """Serve a model over HTTP in the interfaces of OpenAI, llama.cpp, Ollama, Tabby and Mistral.

    Behind each of them infilling goes by token ids.

    One line says when it is ready. SIGTERM lets running texts end.

    **Examples**

    `codecria serve`

    `codecria serve --upstream http://gpu:8000/v1 --tokenizer checkpoints/CodeLlama-7b`

    `CODECRIA_API_KEY=secret codecria serve runs/demo/code/checkpoint --host 0.0.0.0 --port 8080`
    """
    _check(upstream, tokenizer, upstream_model)
    from codecria.serving.bridge import Bridge
    from codecria.serving.guard import is_loopback
    from codecria.serving.logs import log_to_stderr
    from codecria.serving.run import serve as run
    from codecria.serving.settings import Settings

    settings = Settings(
        host=host,
        port=port,
        api_key=api_key or None,
        origins=tuple(allow_origin or ()),
        hosts=tuple(allow_host or ()),
        waiting_texts=max_waiting,
        text_s=timeout,
        grace_s=grace,
        markers_in_text=markers,
        log_prompts=log_prompts,
    )
    log_to_stderr(log_level)
    if not is_loopback(host) and not settings.api_key:
        typer.echo(f"warning: anybody who reaches {host}:{port} may use this server; give it --api-key", err=True)
    if upstream is None:
        run(Bridge(lambda: options.load(model, threads, dtype), model, settings), settings, typer.echo)
    else:
        from codecria.serving.upstream import Upstream

        run(Upstream(upstream, tokenizer or model, settings, upstream_model), settings, typer.echo)


def _check(upstream: str | None, tokenizer: str | None, upstream_model: str | None) -> None:
    """That what is needed is installed, and that no option stands without the one it belongs to."""
    needed = _NEEDED if upstream is None else (*_NEEDED, "httpx")
    missing = [name for name in needed if find_spec(name) is None]
    if missing:
        what = f"{', '.join(missing)} not installed"
        raise CodecriaError(what, where="codecria serve", mend="pip install 'codecria[serve,endpoint]'")
    if upstream is None and (tokenizer or upstream_model):
        given = "--tokenizer" if tokenizer else "--upstream-model"
        raise CodecriaError(f"{given} is of use with --upstream alone", where="codecria serve", mend="leave it out")

"""A server from its first to its last moment: it listens, loads the model, says that it is ready, and ends in order."""

from __future__ import annotations

import asyncio
import contextlib
import math
import signal
import socket
import sys
from typing import TYPE_CHECKING

import uvicorn

from codecria.common.errors import CodecriaError, explain_os_error
from codecria.serving.app import build_app
from codecria.serving.dialects import all_dialects

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from codecria.serving.jobs import Jobs
    from codecria.serving.settings import Settings

_CONNECTIONS = 1024
_LONGEST_HEAD = 64 * 2**10
# A connection at rest is kept so long. uvicorn's 5 s are an editor's pause: who reuses the connection just then has its
# request lost.
_KEEP_ALIVE_S = 75
# After the texts have ended their last frames are still to be sent.
_LAST_FRAMES_S = 2


def serve(backend: Jobs, settings: Settings, announce: Callable[[str], None]) -> None:
    """Serve a model until SIGTERM or SIGINT; a second one ends it at once.

    Args:
        backend: writes the texts; until it has started, requests are answered with 503.
        settings: how.
        announce: is given one line when texts can be asked for.

    Raises:
        CodecriaError: the address is not to be had, or the backend cannot start.
    """
    listener = _listen(settings.host, settings.port)
    # How long a thread waits for the one that computes: 5 ms by default, which is a token's time.
    sys.setswitchinterval(0.0005)
    with contextlib.closing(listener):
        asyncio.run(_serve(backend, settings, announce, listener))


async def _serve(backend: Jobs, settings: Settings, announce: Callable[[str], None], on: socket.socket) -> None:
    dialects = all_dialects()
    config = uvicorn.Config(
        build_app(backend, dialects, settings),
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        ws="none",
        limit_concurrency=_CONNECTIONS,
        h11_max_incomplete_event_size=_LONGEST_HEAD,
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=math.ceil(settings.grace_s) + _LAST_FRAMES_S,
    )
    server = _Server(config, lambda: backend.drain(settings.grace_s))
    loading = asyncio.create_task(backend.start())
    serving = asyncio.create_task(server.serve(sockets=[on]))
    await asyncio.wait({loading, serving}, return_when=asyncio.FIRST_COMPLETED)
    if loading.done():
        failure = loading.exception()
        if failure is not None:
            server.should_exit = True
            await serving
            raise failure
        names = ", ".join(dialect.name for dialect in dialects)
        announce(f"codecria serves {backend.info.name} at {address(on)} ({names})")
    await serving
    if loading.done():
        await backend.stop()
    else:
        loading.cancel()


class _Server(uvicorn.Server):
    """Ends with status 0 when it is asked to end, where uvicorn would raise the signal again."""

    def __init__(self, config: uvicorn.Config, ending: Callable[[], None]) -> None:
        super().__init__(config)
        self._ending = ending

    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None]:
        """Take the signals as long as the server runs."""
        loop = asyncio.get_running_loop()
        signals = (signal.SIGTERM, signal.SIGINT)
        for each in signals:
            loop.add_signal_handler(each, self._end)
        try:
            yield
        finally:
            for each in signals:
                loop.remove_signal_handler(each)

    def _end(self) -> None:
        if self.should_exit:
            self.force_exit = True
        self.should_exit = True
        self._ending()


def address(listener: socket.socket) -> str:
    """Where a socket listens, as a URL."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _listen(host: str, port: int) -> socket.socket:
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=2048)
        # Connections inherit it; asyncio would not set it for them. Without, an answer's body waits 40 ms for the
        # acknowledgement of its head.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return listener
    except socket.gaierror as error:
        raise CodecriaError(f"no such host: {error.strerror}", where="--host") from error
    except OSError as error:
        told = explain_os_error(error, f"{host}:{port}")
        raise CodecriaError(told.what, where=told.where, mend="give another --port") from error

"""How a server is set up."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """What a server allows.

    Attributes:
        host: the address to listen at; loopback unless told otherwise.
        port: 8012 is where llama.vim and llama.vscode look for a server; 0 takes a free one.
        api_key: what a request must bring; None asks for none.
        origins: web origins whose pages may ask (CORS).
        hosts: further names by which this server may be asked, besides its own address.
        body_bytes: longest body.
        body_s: a body must have come within so many seconds.
        send_s: a piece of an answer must have been taken within so many seconds.
        text_s: a text ends after so many seconds with what it has.
        waiting_texts: so many texts may wait for those that the engine writes together; beyond them a request is
            refused.
        texts_per_request: prompts times samples.
        grace_s: after SIGTERM running texts have so many seconds to end.
        markers_in_text: whether infill markers spelt in a raw prompt are understood.
        log_prompts: whether the log holds what was asked; it never does by default.
    """

    host: str = "127.0.0.1"
    port: int = 8012
    api_key: str | None = None
    origins: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    body_bytes: int = 4 * 2**20
    body_s: float = 30.0
    send_s: float = 60.0
    text_s: float = 300.0
    waiting_texts: int = 64
    texts_per_request: int = 64
    grace_s: float = 10.0
    markers_in_text: bool = True
    log_prompts: bool = False

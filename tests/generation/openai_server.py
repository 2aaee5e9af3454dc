"""A real HTTP server with OpenAI's API, as vLLM speaks it, over a real small model in a thread of the test."""

from __future__ import annotations

import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from codecria.generation.sampling import SamplingOptions
from codecria.generation.stopping import TextPlan
from codecria.tokenizer.stream import StreamDecoder


class OpenAIServer:
    """Answers from `model`. What `refuse(body)` returns, as (status, headers, text), is answered instead.

    Attributes:
        url: what a client is given.
        bodies: every request, those refused too, in the order of their arrival.
        answered: those that a model answered.
        keys: the Authorization headers.
        connections: how many were opened.
        told: of each stream, the events that were sent before it ended or the client left.
        breaks_off_after: events of a stream, after which the connection is closed.
    """

    def __init__(self, model=None, refuse=lambda _body: None):
        # An engine of its own: a stream that a client leaves goes on in its thread, and a test asks `model` meanwhile.
        self.model = None if model is None else model.fresh()
        self.refuse = refuse
        self.bodies, self.answered, self.keys = [], [], []
        self.connections = 0
        self.told, self.breaks_off_after = [], -1
        self.lock = threading.Lock()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                with outer.lock:
                    outer.connections += 1
                super().setup()

            def do_GET(self):
                self.answer(200, {}, json.dumps({"data": [{"id": "tiny", "max_model_len": outer.model.max_positions}]}))

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                with outer.lock:
                    outer.bodies.append(body)
                    outer.keys.append(self.headers["Authorization"])
                refused = outer.refuse(body)
                if refused == "drop":
                    self.close_connection = True
                    return
                if refused is not None:
                    self.answer(*refused)
                    return
                if body.get("stream"):
                    self.stream(body)
                    return
                with outer.lock:
                    answer = outer.generate(self.path, body)
                    outer.answered.append(body)
                self.answer(200, {}, json.dumps(answer))

            def stream(self, body):
                self.send_response(200)
                self.send_header("Content-Type", "text/event-stream")
                self.send_header("Transfer-Encoding", "chunked")
                self.end_headers()
                told = 0
                try:
                    with outer.lock, contextlib.closing(outer.events(self.path, body)) as events:
                        for event in events:
                            if told == outer.breaks_off_after:
                                self.close_connection = True
                                return
                            self.chunk(f": a comment\n\ndata: {json.dumps(event)}\n\n")
                            told += 1
                    self.chunk("data: [DONE]\n\n")
                    self.chunk("")
                    outer.answered.append(body)
                except OSError:
                    self.close_connection = True
                outer.told.append(told)

            def chunk(self, text):
                data = text.encode()
                self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")

            def answer(self, status, headers, text):
                data = text.encode()
                self.send_response(status)
                for name, value in {**headers, "Content-Length": len(data)}.items():
                    self.send_header(name, str(value))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.http.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1"
        self.thread = threading.Thread(target=self.http.serve_forever, args=(0.05,))

    def prepare(self, path, body):
        model = self.model
        options = {name: body.get(name) for name in ("max_tokens", "temperature", "seed", "n")}
        if path.endswith("/chat/completions"):
            prepared = model.prepare_chat(body["messages"], **options)
        elif isinstance(body["prompt"], str) and "suffix" in body:
            options["stop"] = tuple(body.get("stop", ()))
            prepared = model.prepare_infill(body["prompt"], body["suffix"], heal=False, trim=False, **options)
        elif isinstance(body["prompt"], str):
            options["stop"] = tuple(body.get("stop", ()))
            prepared = model.prepare_completion(body["prompt"], heal=False, **options)
        else:
            sampling = SamplingOptions(
                **options,
                stop=tuple(body.get("stop", ())),
                stop_ids=tuple(body["stop_token_ids"]),
                forbidden_ids=model.prepare_completion("x").options.forbidden_ids,
                logprobs="logprobs" in body,
            )
            plan = TextPlan(lambda: StreamDecoder(model.tokenizer, infilling=True))
            prepared = type(model.prepare_completion("x"))(body["prompt"], sampling, plan)
        return prepared

    def events(self, path, body):
        """One for each token, as vLLM streams; chat begins with one that tells the role."""
        chat, prepared = path.endswith("/chat/completions"), self.prepare(path, body)
        if chat:
            yield {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}
        for step in self.model.engine.stream([prepared.ids], prepared.options, [prepared.text]):
            told = {"delta": {"content": step.text}} if chat else {"text": step.text, "token_ids": [step.id]}
            reason = step.finish_reason and ("length" if step.finish_reason == "length" else "stop")
            yield {"choices": [{"index": 0, **told, "finish_reason": reason}]}
        yield {"choices": [], "usage": {"prompt_tokens": len(prepared.ids)}}

    def generate(self, path, body):
        model, chat = self.model, path.endswith("/chat/completions")
        prepared = self.prepare(path, body)
        choices = [
            {"index": n, "text": "", "token_ids": [], "logprobs": {"token_logprobs": []}} for n in range(body["n"])
        ]
        for step in model.engine.stream([prepared.ids], prepared.options, [prepared.text]):
            choice = choices[step.sample]
            choice["text"] += step.text
            choice["token_ids"].append(step.id)  # the end id too, as vLLM has it
            choice["logprobs"]["token_logprobs"].append(step.log_probability)
            if step.finish_reason:
                choice["finish_reason"] = "length" if step.finish_reason == "length" else "stop"
                choice["stop_reason"] = body["stop"][0] if step.finish_reason == "stop-string" else None
        if chat:
            choices = [{**each, "message": {"role": "assistant", "content": each["text"]}} for each in choices]
        return {"choices": choices[::-1], "usage": {"prompt_tokens": len(prepared.ids)}}

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.http.shutdown()
        self.thread.join()
        self.http.server_close()

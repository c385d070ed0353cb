"""A provider on a loopback port: OpenAI chat and Anthropic messages, whole and streamed, with fixed usage."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from typing import Any, ClassVar

OPENAI_USAGE: dict[str, Any] = {
    "prompt_tokens": 1200,
    "completion_tokens": 300,
    "total_tokens": 1500,
    "prompt_tokens_details": {"cached_tokens": 1000, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 120, "audio_tokens": 0},
}
RESPONSES_USAGE: dict[str, Any] = {
    "input_tokens": 1200,
    "input_tokens_details": {"cached_tokens": 1000},
    "output_tokens": 300,
    "output_tokens_details": {"reasoning_tokens": 120},
    "total_tokens": 1500,
}
ANTHROPIC_USAGE: dict[str, Any] = {
    "input_tokens": 100,
    "cache_read_input_tokens": 1000,
    "cache_creation_input_tokens": 400,
    "cache_creation": {"ephemeral_5m_input_tokens": 100, "ephemeral_1h_input_tokens": 300},
    "output_tokens": 50,
}
_numbers = count(1)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    chunk_delay_s: ClassVar[float] = 0.0

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Silence."""

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        text = str(body.get("messages"))
        if "fail" in text:
            return self._json({"error": {"message": "no", "type": "invalid_request_error"}}, status=400)
        slow_s = 0.05 if "slowly" in text else 0.0
        words = 200 if slow_s else 5
        number = f"{next(_numbers):024d}"
        if self.path.endswith("/messages"):
            return self._anthropic(body, number)
        if self.path.endswith("/responses"):
            return self._responses(body, number)
        if self.path.endswith("/embeddings"):
            vector = {"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}
            usage = {"prompt_tokens": 7, "total_tokens": 7}
            return self._json({"object": "list", "model": body["model"], "data": [vector], "usage": usage})
        if body.get("stream"):
            return self._stream(self._openai_chunks(body, number, words, slow_s))
        message = {"role": "assistant", "content": "hello there"}
        whole = {"choices": [{"index": 0, "message": message, "finish_reason": "stop"}], "usage": OPENAI_USAGE}
        return self._json(self._openai_head(body, number, "chat.completion") | whole)

    @staticmethod
    def _openai_head(body: dict[str, Any], number: str, kind: str) -> dict[str, Any]:
        return {"id": f"chatcmpl-{number}", "object": kind, "created": 1_790_000_000, "model": body["model"]}

    def _openai_chunks(self, body: dict[str, Any], number: str, words: int, slow_s: float) -> Iterator[str]:
        head = self._openai_head(body, number, "chat.completion.chunk")
        for index in range(words):
            time.sleep(slow_s)
            delta = {"role": "assistant", "content": f"word{index} "}
            yield f"data: {json.dumps(head | {'choices': [{'index': 0, 'delta': delta, 'finish_reason': None}]})}\n\n"
        yield f"data: {json.dumps(head | {'choices': [{'index': 0, 'delta': {}, 'finish_reason': 'stop'}]})}\n\n"
        if (body.get("stream_options") or {}).get("include_usage"):
            yield f"data: {json.dumps(head | {'choices': [], 'usage': OPENAI_USAGE})}\n\n"
        yield "data: [DONE]\n\n"

    def _responses(self, body: dict[str, Any], number: str) -> None:
        text = {"type": "output_text", "text": "hello there", "annotations": []}
        message = {
            "id": f"msg_{number}",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [text],
        }
        whole = {
            "id": f"resp_{number}",
            "object": "response",
            "created_at": 1_790_000_000,
            "status": "completed",
            "model": body["model"],
            "output": [message],
            "parallel_tool_calls": True,
            "tool_choice": "auto",
            "tools": [],
            "usage": RESPONSES_USAGE,
        }
        if not body.get("stream"):
            return self._json(whole)
        events: list[dict[str, Any]] = [
            {"type": "response.created", "response": whole | {"status": "in_progress", "output": [], "usage": None}},
            {"type": "response.output_text.delta", "item_id": message["id"], "output_index": 0, "delta": "hello there"}
            | {"content_index": 0},
            {"type": "response.completed", "response": whole},
        ]
        return self._stream(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)

    def _anthropic(self, body: dict[str, Any], number: str) -> None:
        head = {"id": f"msg_{number}", "type": "message", "role": "assistant", "model": body["model"]}
        if not body.get("stream"):
            content = [{"type": "text", "text": "hello there"}]
            ended = {"content": content, "stop_reason": "end_turn", "stop_sequence": None, "usage": ANTHROPIC_USAGE}
            return self._json(head | ended)
        start = head | {"content": [], "stop_reason": None, "usage": ANTHROPIC_USAGE | {"output_tokens": 1}}
        events: list[dict[str, Any]] = [
            {"type": "message_start", "message": start},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "hello"}},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 50}},
            {"type": "message_stop"},
        ]
        return self._stream(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in events)

    def _json(self, value: dict[str, Any], status: int = 200) -> None:
        content = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _stream(self, parts: Iterator[str]) -> None:
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("connection", "close")
        self.end_headers()
        self.close_connection = True
        try:
            for part in parts:
                self.wfile.write(part.encode())
                self.wfile.flush()
        except OSError:
            return  # the client went away


@contextmanager
def upstream() -> Iterator[str]:
    """The base address, without a path."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()

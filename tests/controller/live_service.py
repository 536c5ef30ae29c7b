"""A managed service with stand-in engines and a real HAProxy, and clients that count every failed or cut answer."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import httpx
from loop_world import interpreter
from tiny_target import write_target

from draftsmith.engines.base import ServerSpec, free_port
from draftsmith.engines.vllm.engine import VllmEngine
from draftsmith.serving.managed.fleet import Fleet
from draftsmith.serving.managed.options import ManagedOptions
from draftsmith.serving.managed.proxy import Proxy

NGRAM: dict[str, Any] = {"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_max": 3}
OTHER: dict[str, Any] = {"method": "ngram", "num_speculative_tokens": 2, "prompt_lookup_max": 3}
FAKE = {"step_ms": 10, "first_ms": 20, "start_ms": 100, "acceptance": {"ngram": 0.7}}


class Service:
    def __init__(self, base: Path, **options: Any) -> None:
        self.base = base
        self.target = write_target(base / "target")
        self.python = interpreter(base, "fake_engine_python")
        self.port = free_port()
        self.options = ManagedOptions(**{"drain_s": 30.0, "warm_requests": 2, **options})

    def fleet(self) -> Fleet:
        """As a new controller has it."""
        engine = VllmEngine(self.base / "managed" / "engines")
        engine.detached = True
        proxy = Proxy(self.base / "managed", "haproxy", "127.0.0.1", self.port)
        return Fleet(self.base / "managed", proxy, engine, self.spec, self.options, ready_s=60.0)

    def spec(self, config: Any) -> ServerSpec:
        return ServerSpec(
            model=str(self.target), python=self.python, spec_config=config, max_model_len=512, max_num_seqs=16,
            env={"FAKE_VLLM": json.dumps(FAKE)}, cpu_kv_gib=0.1,
        )  # fmt: skip

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


class Clients:
    """Requests without a pause, streams among them, over connections that are kept: each answer must be whole."""

    def __init__(self, url: str, count: int = 4, pause_s: float = 0.0) -> None:
        self.url, self.done, self.wrong, self.pause_s = url, 0, [], pause_s  # type: ignore[var-annotated]
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._work, args=(n,), daemon=True) for n in range(count)]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def wait(self, more: int) -> None:
        wanted = self.done + more
        deadline = time.monotonic() + 30
        while self.done < wanted and time.monotonic() < deadline:
            time.sleep(0.02)

    def _work(self, number: int) -> None:
        with httpx.Client(timeout=30, trust_env=False) as client:
            while not self._stop.is_set():
                self._ask(client, stream=number % 2 == 0)
                self._stop.wait(self.pause_s)

    def _ask(self, client: httpx.Client, stream: bool) -> None:
        body = {
            "model": "target",
            "messages": [{"role": "user", "content": "count"}],
            "max_tokens": 24,
            "stream": stream,
        }
        try:
            if stream:
                with client.stream("POST", f"{self.url}/v1/chat/completions", json=body) as answer:
                    text = "".join(answer.iter_text())
                whole = answer.status_code == 200 and text.rstrip().endswith("[DONE]")
            else:
                answer = client.post(f"{self.url}/v1/chat/completions", json=body)
                whole = answer.status_code == 200 and bool(answer.json()["choices"])
            if not whole:
                self.wrong.append(str(answer.status_code))
        except httpx.HTTPError as error:
            self.wrong.append(type(error).__name__)
        self.done += 1

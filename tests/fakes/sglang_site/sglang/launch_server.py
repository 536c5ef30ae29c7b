"""`python -m sglang.launch_server`, as far as Draftsmith can tell: flags, log, wire and counters of 0.5.17.

Tokens come at fixed times as in the stand-in for vLLM, whose model and decoding it shares; FAKE_VLLM in the environment
has the same keys, with SGLang's names of methods in small letters. What it prints and publishes has the form of the
recordings of a real server; tests/engines/test_sglang_fake.py holds it to them.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import sys
import threading
import time
import uuid
from http.server import ThreadingHTTPServer
from pathlib import Path
from typing import Any

from vllm.answers import Decoding, Model, say
from vllm.entrypoints.openai import api_server as shared

KV_TOKENS = 91024
CANDIDATES = (1, 3, 7)  # steps between which an adaptive server moves
VERSION = "0.5.17"
SWITCHES = ("disable-radix-cache", "disable-cuda-graph", "disable-overlap-schedule", "enable-metrics",
            "enable-cache-report", "speculative-adaptive", "disable-prefill-cuda-graph")  # fmt: skip
TEXTS = ("api-key", "model-path", "served-model-name", "host", "speculative-algorithm", "speculative-draft-model-path",
         "speculative-ngram-external-corpus-path", "mem-fraction-static", "max-total-tokens", "dtype",
         "attention-backend", "sampling-backend")  # fmt: skip
NUMBERS = ("port", "context-length", "max-running-requests", "chunked-prefill-size", "speculative-num-steps",
           "speculative-eagle-topk", "speculative-num-draft-tokens", "speculative-ngram-external-sam-budget",
           "cuda-graph-max-bs-decode")  # fmt: skip


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="launch_server.py")
    for name in TEXTS:
        parser.add_argument(f"--{name}")
    for name in NUMBERS:
        parser.add_argument(f"--{name}", type=int)
    for name in SWITCHES:
        parser.add_argument(f"--{name}", action="store_true")
    return parser.parse_args()


class Settings:
    def __init__(self, options: argparse.Namespace) -> None:
        given: dict[str, Any] = json.loads(os.environ.get("FAKE_VLLM") or "{}")
        self.method = (options.speculative_algorithm or "").lower() or None
        self.k = (options.speculative_num_draft_tokens or 4) - 1 if self.method else 0
        self.role = self.method or "plain"
        cost = given.get("step_cost", {}).get(self.method, 1.2) if self.method else 1
        cost *= 1 + self.k * given.get("token_cost", {}).get(self.method, 0)
        self.step_s = given.get("step_ms", 8) / 1000 * cost
        self.first_s = given.get("first_ms", 25) / 1000
        self.acceptance = given.get("acceptance", {}).get(self.method, 0.2 if self.method == "ngram" else 0.9)
        if self.method and (length := os.environ.get("SGLANG_SIMULATE_ACC_LEN")):
            self.acceptance = shared._chance(float(length), self.k)
        self.fail: str | None = given.get("fail", {}).get(self.role)
        self.adapts = options.speculative_adaptive and self.method in ("eagle", "eagle3")
        self.version: str = given.get("version", VERSION)
        self.silent = bool(given.get("no_metrics")) or not options.enable_metrics


class Counters:
    """SGLang's counters as Prometheus text. Tokens of a request count when it ends."""

    def __init__(self, name: str, settings: Settings) -> None:
        self.lock = threading.Lock()
        self.name, self.settings = name, settings
        self.load_s = 0.2 + random.random() / 1000
        self.prompt = self.generated = self.requests = self.verified = self.steps = 0
        self.decode_s = 0.0

    def count(self, prompt: int, steps: list[int], finish: str, decode_s: float) -> None:
        with self.lock:
            self.prompt += prompt
            self.generated += sum(steps)
            self.requests += 1
            self.steps += sum(steps) - 1
            self.decode_s += decode_s
            self.verified += len(steps) - 1 if self.settings.k else 0
            if self.settings.adapts:
                self.settings.k = CANDIDATES[self.requests % len(CANDIDATES)]

    def text(self) -> str:
        base = f'engine_type="unified",model_name="{self.name}"'
        rank = f'{base},moe_ep_rank="0",pp_rank="0",tp_rank="0"'
        wire = f'engine_type="unified",is_streaming="true",model_name="{self.name}"'
        k = self.settings.k
        drawn = k and self.verified
        with self.lock:
            rows = [
                (
                    f'startup_time_seconds{{engine_type="unified",model_name="{self.name}",phase="load_weight"}}',
                    self.load_s,
                ),
                (f"max_total_num_tokens{{{rank}}}", KV_TOKENS),
                (f"context_len{{{rank}}}", 512),
                (f"spec_accept_length{{{rank}}}", 1 + (self.generated - self.requests) / drawn if drawn else 0.0),
                (f"spec_num_steps{{{rank}}}", k if drawn else 0),
                (f"spec_num_draft_tokens{{{rank}}}", k + 1 if drawn else 0),
                (f"prompt_tokens_total{{{wire}}}", self.prompt),
                (f"generation_tokens_total{{{wire}}}", self.generated),
                (f"num_requests_total{{{wire}}}", self.requests),
                (f"inter_token_latency_seconds_sum{{{base}}}", self.decode_s),
                (f"inter_token_latency_seconds_count{{{base}}}", self.steps),
            ]
            if k:
                rows.append((f"spec_verify_calls_total{{{base}}}", self.verified))
            return "".join(f"sglang:{name} {value}\n" for name, value in rows)


class Api(shared.Api):
    def _is_let_in(self) -> bool:
        key = self.server.options.api_key
        open_to_all = self.path.startswith(("/health", "/metrics"))
        if not key or open_to_all or self.headers.get("authorization") == f"Bearer {key}":
            return True
        self._answer({"error": "Unauthorized"}, 401)
        return False

    def do_GET(self) -> None:  # noqa: N802 - named by the base class
        if not self._is_let_in():
            return
        options, settings = self.server.options, self.server.settings
        model = {"id": options.served_model_name, "object": "model", "max_model_len": options.context_length}
        answers: dict[str, Any] = {
            "/health": "",
            "/flush_cache?timeout=5": "Cache flushed.\n",
            "/v1/models": {"object": "list", "data": [model]},
        }
        answers["/server_info"] = {
            **arguments(options, settings),
            "version": self.server.settings.version,
            "max_total_num_tokens": KV_TOKENS,
        }
        if not settings.silent:
            answers["/metrics"] = self.server.counters.text()
        self._answer(answers.get(self.path, "not found"), 200 if self.path in answers else 404)

    def do_POST(self) -> None:  # noqa: N802 - named by the base class
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if not self._is_let_in():
            return None
        if self.path == "/add_external_corpus":
            known = self.server.settings.method == "ngram"
            tokens = sum(len(text.split()) for text in body.get("documents", ()))
            told = {"success": known, "corpus_id": body.get("corpus_id"), "message": "", "loaded_token_count": tokens}
            return self._answer(told, 200 if known else 400)
        if "messages" in body and body.get("stream") and body.get("return_token_ids"):
            text = "return_token_ids is not supported with streaming on /v1/chat/completions."
            return self._answer(
                {"object": "error", "message": text, "type": "BadRequest", "param": None, "code": 400}, 400
            )
        prompt = self.server.model.prompt(body)
        limit = body.get("max_tokens") or 16
        if len(prompt) + limit > self.server.options.context_length:
            return self._answer({"object": "error", "message": "longer than the context", "code": 400}, 400)
        self.chat = "messages" in body
        self._generate(body, Decoding(self.server.model, prompt, limit, self.server.model.remembered(prompt, limit)))
        return None

    def _end(self, body: dict[str, Any], decoding: Decoding, steps: list[int]) -> dict[str, Any]:
        usage = {"prompt_tokens": len(decoding.prompt), "completion_tokens": len(decoding.output)}
        if self.server.options.enable_cache_report:
            usage["prompt_tokens_details"] = {"cached_tokens": 0}  # type: ignore[assignment]
        return {"id": uuid.uuid4().hex, "object": "chat.completion.chunk", "model": body["model"], "usage": usage}

    def _chunk(self, body: dict[str, Any], decoding: Decoding, ids: list[int], first: bool) -> None:
        """As the real one: no token ids, and the words `reasoning_content` and `tool_calls` always there."""
        delta = {"role": None, "content": self.server.model.text(ids), "reasoning_content": None, "tool_calls": None}
        choice = {"index": 0, "delta": delta, "finish_reason": decoding.finish, "matched_stop": None}
        if not self.chat:
            choice = {"index": 0, "text": delta["content"], "finish_reason": decoding.finish}
        self._event({"id": "c", "object": "chat.completion.chunk", "model": body["model"], "choices": [choice]})


def arguments(options: argparse.Namespace, settings: Settings) -> dict[str, Any]:
    """The server's arguments, with the defaults that the real one fills in."""
    algorithm = options.speculative_algorithm
    return {
        "model_path": options.model_path, "dtype": "float32", "device": "cpu", "kv_cache_dtype": "auto",
        "context_length": options.context_length, "max_running_requests": options.max_running_requests,
        "chunked_prefill_size": options.chunked_prefill_size or 8192, "page_size": 1, "tp_size": 1, "dp_size": 1,
        "attention_backend": "torch_native", "sampling_backend": "pytorch", "schedule_policy": "fcfs",
        "disable_radix_cache": options.disable_radix_cache, "disable_cuda_graph": options.disable_cuda_graph,
        "disable_overlap_schedule": options.disable_overlap_schedule, "enable_torch_compile": False,
        "speculative_algorithm": "EAGLE" if algorithm == "NEXTN" else algorithm,
        "speculative_draft_model_path": options.speculative_draft_model_path,
        "speculative_num_steps": options.speculative_num_steps,
        "speculative_num_draft_tokens": settings.k + 1 if settings.k else None,
        "cuda_graph_config": {"decode": {"backend": "full"}, "prefill": {"backend": "disabled"}},
    }  # fmt: skip


def announce(options: argparse.Namespace, settings: Settings) -> None:
    """The lines of a start that Draftsmith reads, in their order."""
    said = {name: value for name, value in arguments(options, settings).items() if name != "cuda_graph_config"}
    graphs = "CudaGraphConfig(decode=PhaseConfig(backend='full'), prefill=PhaseConfig(backend='disabled'))"
    printed = ", ".join(f"{name}={value!r}" for name, value in said.items())
    for line in (
        f"server_args=ServerArgs({printed}, cuda_graph_config={graphs})",
        "Init torch distributed begin.",
        "Load weight begin. avail mem=139.09 GB",
        "Load weight end. elapsed=0.20 s, type=LlamaForCausalLM, avail mem=138.83 GB, mem usage=0.27 GB.",
        f"KV Cache is allocated. dtype: torch.float32, #tokens: {KV_TOKENS}, K size: 0.46 GB, V size: 0.46 GB",
        "Capture target verify CUDA graph begin. backend=full, num_tokens_per_req=4, bs=[1, 2], avail mem=69.28 GB",
        "Capture target verify CUDA graph end. elapsed=0.52 s, mem usage=0.11 GB, avail mem=69.17 GB.",
        f"max_total_num_tokens={KV_TOKENS}, chunked_prefill_size=8192, max_prefill_tokens=16384, "
        f"max_running_requests={options.max_running_requests}, context_len={options.context_length}, "
        "available_gpu_mem=69.10 GB",
        f"INFO:     Started server process [{os.getpid()}]",
    ):
        say(f"[{time.strftime('%Y-%m-%d %H:%M:%S')}] {line}")


def main() -> None:
    options = parse()
    settings = Settings(options)
    announce(options, settings)
    if settings.fail:
        say(Path(settings.fail).read_text(encoding="utf-8"))
        sys.exit(1)
    server = ThreadingHTTPServer((options.host, options.port), Api)
    server.daemon_threads = True
    server.options, server.settings = options, settings  # type: ignore[attr-defined]
    server.model = Model(Path(options.model_path))  # type: ignore[attr-defined]
    server.counters = Counters(options.served_model_name, settings)  # type: ignore[attr-defined]
    server.busy = threading.Semaphore(options.max_running_requests)  # type: ignore[attr-defined]
    stamp = time.strftime("%Y-%m-%d %H:%M:%S")
    say(f"[{stamp}] INFO:     Uvicorn running on http://{options.host}:{options.port} (Press CTRL+C to quit)")
    say(f"[{stamp}] The server is fired up and ready to roll!")
    server.serve_forever(0.05)


if __name__ == "__main__":
    main()

"""`python -m vllm.entrypoints.openai.api_server`, as far as Draftsmith can tell: flags, log, wire, counters, states.

Tokens come at fixed times whatever the machine does meanwhile. FAKE_VLLM in the environment is a JSON object:

    step_ms          time of one engine step (8)
    first_ms         time to the first token (25)
    acceptance       {method: chance that a drafted token is accepted} (0.9; ngram 0.2)
    step_cost        {method: how much longer a step takes with this draft} (1.2)
    token_cost       {method: how much longer for each drafted token} (0)
    fail             {role: log file to print and exit 1 with}; role: capture, plain or the method
    says             {role: a line of the log}
    state_shift      hidden states are those of the layer so many above (0)
    start_ms         time before the port opens (0)
    pause_file       while this file exists no request is answered
    no_metrics       true: a server that only answers, without /metrics and /version
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import sys
import threading
import time
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from vllm.answers import Decoding, Model, say

KV_TOKENS = 93184


class Settings:
    def __init__(self, options: argparse.Namespace) -> None:
        given: dict[str, Any] = json.loads(os.environ.get("FAKE_VLLM") or "{}")
        self.spec: dict[str, Any] = json.loads(options.speculative_config or "{}")
        transfer = json.loads(options.kv_transfer_config or "{}")
        self.storage = transfer.get("kv_connector_extra_config", {}).get("shared_storage_path")
        capture = self.spec.get("draft_model_config", {}).get("hf_config", {})
        self.layers: list[int] = capture.get("eagle_aux_hidden_state_layer_ids", [])
        self.method = None if self.storage else self.spec.get("method")
        self.k = int(self.spec.get("num_speculative_tokens", 0)) if self.method else 0
        self.role = "capture" if self.storage else self.method or "plain"
        self.step_s = (
            given.get("step_ms", 8) / 1000 * (given.get("step_cost", {}).get(self.method, 1.2) if self.method else 1)
        )
        self.step_s *= 1 + self.k * given.get("token_cost", {}).get(self.method, 0)
        self.first_s = given.get("first_ms", 25) / 1000
        self.start_s = given.get("start_ms", 0) / 1000
        self.acceptance = given.get("acceptance", {}).get(self.method, 0.2 if self.method == "ngram" else 0.9)
        self.fail: str | None = given.get("fail", {}).get(self.role)
        self.says: str | None = given.get("says", {}).get(self.role)
        self.layers = [layer + given.get("state_shift", 0) * (layer != max(self.layers)) for layer in self.layers]
        self.pause = Path(given["pause_file"]) if "pause_file" in given else None
        self.silent = bool(given.get("no_metrics"))
        if self.spec.get("rejection_sample_method") == "synthetic":
            self.acceptance = _chance(self.spec["synthetic_acceptance_length"], self.k)
        elif self.method == "eagle3" and not _map_is_sound(Path(self.spec["model"])):
            self.acceptance = 0.01


def _chance(length: float, k: int) -> float:
    """Of each next token, so that a step gives `length` tokens."""
    low, high = 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        low, high = (middle, high) if sum(middle**i for i in range(k + 1)) < length else (low, middle)
    return high


def _map_is_sound(draft: Path) -> bool:
    with safe_open(draft / "model.safetensors", "numpy") as tensors:
        offsets, marks = tensors.get_tensor("d2t"), tensors.get_tensor("t2d")
    return bool(np.array_equal(np.flatnonzero(marks), np.arange(len(offsets)) + offsets))


class Counters:
    """The engine's own counters, in the text that Prometheus reads."""

    def __init__(self, name: str, k: int) -> None:
        self.lock = threading.Lock()
        self.name, self.k, self.started = name, k, time.time()
        self.values = dict.fromkeys(
            [
                "prompt_tokens",
                "generation_tokens",
                "num_preemptions",
                "tpot_sum",
                "tpot_count",
                "steps",
                "drafts",
                "drafted",
            ],
            0.0,
        )
        self.accepted = [0] * k
        self.finished = dict.fromkeys(["stop", "length", "abort"], 0)

    def count(self, prompt: int, steps: list[int], finish: str, decode_s: float) -> None:
        with self.lock:
            output = sum(steps)
            v = self.values
            v["prompt_tokens"] += prompt
            v["generation_tokens"] += output
            v["steps"] += len(steps) - 1
            if output > 1:
                v["tpot_sum"] += decode_s / (output - 1)
                v["tpot_count"] += 1
            self.finished[finish] += 1
            if self.k:
                v["drafts"] += len(steps) - 1
                v["drafted"] += (len(steps) - 1) * self.k
                for tokens in steps[1:]:
                    for position in range(tokens - 1):
                        self.accepted[position] += 1

    def text(self) -> str:
        with self.lock:
            label, v = f'engine="0",model_name="{self.name}"', self.values
            lines = [f"process_start_time_seconds {self.started:.2f}"]
            if self.k:
                lines += [
                    f"vllm:spec_decode_num_drafts_total{{{label}}} {v['drafts']}",
                    f"vllm:spec_decode_num_drafts_created{{{label}}} {self.started}",
                    f"vllm:spec_decode_num_draft_tokens_total{{{label}}} {v['drafted']}",
                    f"vllm:spec_decode_num_accepted_tokens_total{{{label}}} {sum(self.accepted)}",
                ]
                lines += [
                    f'vllm:spec_decode_num_accepted_tokens_per_pos_total{{{label},position="{i}"}} {n}'
                    for i, n in enumerate(self.accepted)
                ]
            lines += [
                f"vllm:{name}_total{{{label}}} {v[name]}"
                for name in ("num_preemptions", "prompt_tokens", "generation_tokens")
            ]
            lines += [
                f'vllm:request_success_total{{engine="0",finished_reason="{why}",model_name="{self.name}"}} {n}'
                for why, n in self.finished.items()
            ]
            lines += [
                f"vllm:inter_token_latency_seconds_count{{{label}}} {v['steps']}",
                f"vllm:request_time_per_output_token_seconds_sum{{{label}}} {v['tpot_sum']}",
                f"vllm:request_time_per_output_token_seconds_count{{{label}}} {v['tpot_count']}",
            ]
            return "\n".join(lines) + "\n"


class Api(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # as in the engine: a chunk leaves when it is written
    server: Any

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_GET(self) -> None:
        options, counters = self.server.options, self.server.counters
        model = {"id": options.served_model_name, "object": "model", "max_model_len": options.max_model_len}
        answers: dict[str, Any] = {
            "/health": "",
            "/version": {"version": "0.32.0"},
            "/v1/models": {"object": "list", "data": [model]},
            "/metrics": counters.text(),
        }
        if self.server.settings.silent:
            answers = {path: answers[path] for path in ("/health", "/v1/models")}
        self._answer(answers.get(self.path, "not found"), 200 if self.path in answers else 404)

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path == "/v1/draft":
            return self._swap(body)
        settings: Settings = self.server.settings
        while settings.pause and settings.pause.exists():
            time.sleep(0.01)
        greedy = body.get("temperature") == 0  # the engine forgets min_p of a greedy request, and then refuses nothing
        if settings.k and ("logit_bias" in body or ("min_p" in body and not greedy)):
            return self._answer({"error": {"message": "not supported with speculative decoding", "code": 400}}, 400)
        if body["model"] != self.server.options.served_model_name:
            return self._answer({"error": {"message": "the model does not exist", "code": 404}}, 404)
        prompt = self.server.model.prompt(body)
        limit = body.get("max_tokens") or 16
        if len(prompt) + limit > self.server.options.max_model_len:
            return self._answer({"error": {"message": "longer than the context", "code": 400}}, 400)
        self.chat = "messages" in body
        known = None if settings.storage else self.server.model.remembered(prompt, limit)
        self._generate(body, Decoding(self.server.model, prompt, limit, known))
        return None

    def _swap(self, body: dict[str, Any]) -> None:
        """The hot swap's endpoint: it checks the digest and serves on; FAKE_VLLM's `refuse_swap` refuses."""
        found = hashlib.sha256(Path(body["path"], "model.safetensors").read_bytes()).hexdigest()
        if found != body["sha256"] or json.loads(os.environ.get("FAKE_VLLM") or "{}").get("refuse_swap"):
            return self._answer({"error": "RefusedDraftError: not this one"}, 422)
        self.server.swaps = getattr(self.server, "swaps", 0) + 1
        report = {"file_sha256": found, "live_sha256": found, "expected_live_sha256": found, "tainted": ""}
        return self._answer(report | {"swaps": self.server.swaps}, 200)

    def _generate(self, body: dict[str, Any], decoding: Decoding) -> None:
        """Tokens at their times: a step emits one token, or with a draft as many as were accepted and one more."""
        settings: Settings = self.server.settings
        stream = bool(body.get("stream"))
        if stream:
            self.send_response(200)
            self.send_header("content-type", "text/event-stream")
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            if self.chat:  # its first event names the role and the prompt, and carries no token
                opening: dict[str, Any] = {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]}
                ids = {"prompt_token_ids": decoding.prompt} if body.get("return_token_ids") else {}
                self._event({"id": "c", "model": body["model"], **opening, **ids})
        chance = random.Random(json.dumps(decoding.prompt))
        began, steps, wanted, held = time.monotonic(), [], 1, []
        first_at = last_at = began
        tokens = decoding.tokens()
        with self.server.busy:
            for token in tokens:
                held.append(token)
                if len(held) < wanted and decoding.finish is None:
                    continue
                due = first_at + len(steps) * settings.step_s if steps else began + settings.first_s
                time.sleep(max(0.0, due - time.monotonic()))
                last_at = time.monotonic()
                first_at = first_at if steps else last_at
                if stream:
                    self._chunk(body, decoding, held, first=not steps)
                steps.append(len(held))
                held, wanted = [], 1
                while wanted <= settings.k and chance.random() < settings.acceptance:
                    wanted += 1
        self.server.counters.count(len(decoding.prompt), steps, decoding.finish or "stop", last_at - first_at)
        end = self._end(body, decoding, steps)
        if stream:
            self._event({**end, "choices": []})
            self._write(b"data: [DONE]\n\n")
            self._write(b"")
        else:
            choice = {"index": 0, "finish_reason": decoding.finish, "token_ids": decoding.output}
            text = self.server.model.text(decoding.output)
            choice |= {"message": {"role": "assistant", "content": text}} if self.chat else {"text": text}
            if self.chat:
                end["prompt_token_ids"] = decoding.prompt
            else:
                choice["prompt_token_ids"] = decoding.prompt
                if body.get("prompt_logprobs") is not None:
                    choice["prompt_logprobs"] = self._logprobs(decoding, int(body["prompt_logprobs"]))
            self._answer({**end, "choices": [choice]}, 200)

    def _logprobs(self, decoding: Decoding, top: int) -> list[Any]:
        llama = self.server.model.llama
        states = decoding.streams[0][:, -1]
        logits = llama._norm(states, "model.norm") @ llama.weights["lm_head.weight"].T
        logs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        found: list[Any] = [None]
        for place, token in enumerate(decoding.prompt[1:]):
            best = {int(token), *map(int, np.argsort(-logs[place])[:top])}
            found.append({str(t): {"logprob": float(logs[place, t]), "decoded_token": "x"} for t in sorted(best)})
        return found

    def _end(self, body: dict[str, Any], decoding: Decoding, steps: list[int]) -> dict[str, Any]:
        settings: Settings = self.server.settings
        end: dict[str, Any] = {
            "id": f"cmpl-{uuid.uuid4().hex}",
            "model": body["model"],
            "usage": {
                "prompt_tokens": len(decoding.prompt),
                "completion_tokens": len(decoding.output),
                "total_tokens": len(decoding.prompt) + len(decoding.output),
            },
        }
        if settings.k and self.server.options.per_request_spec_decode_metrics:
            end["metrics"] = {
                "speculative_decoding": {
                    "num_spec_steps": len(steps) - 1,
                    "num_draft_tokens": (len(steps) - 1) * settings.k,
                    "num_accepted_draft_tokens": sum(steps[1:]) - len(steps) + 1,
                }
            }
        if settings.storage:
            end["kv_transfer_params"] = {"hidden_states_path": self._save(body, decoding)}
        return end

    def _save(self, body: dict[str, Any], decoding: Decoding) -> str:
        ids, states = decoding.fed()
        if not (body.get("kv_transfer_params") or {}).get("include_output_tokens"):
            ids, states = ids[: len(decoding.prompt)], states[: len(decoding.prompt)]
        path = Path(self.server.settings.storage) / f"{uuid.uuid4().hex}.safetensors"
        chosen = np.ascontiguousarray(states[:, self.server.settings.layers])
        part = path.with_suffix(".part")
        save_file({"hidden_states": chosen, "token_ids": np.array(ids, np.int64)}, part)
        try:
            with part.open("rb+") as written:
                os.fsync(written.fileno())
        except OSError as error:  # as in the engine: a connector that cannot write takes the engine along
            say(f"OSError: {error}")
            os._exit(1)
        part.rename(path)
        return str(path)

    def _chunk(self, body: dict[str, Any], decoding: Decoding, ids: list[int], first: bool) -> None:
        choice: dict[str, Any] = {"index": 0, "finish_reason": decoding.finish}
        text = self.server.model.text(ids)
        choice |= {"delta": {"content": text}} if self.chat else {"text": text}
        if body.get("return_token_ids"):
            choice["token_ids"] = ids
        event: dict[str, Any] = {"id": "c", "model": body["model"], "choices": [choice]}
        if first and not self.chat and body.get("return_token_ids"):
            choice["prompt_token_ids"] = decoding.prompt
        self._event(event)

    def _event(self, event: dict[str, Any]) -> None:
        self._write(f"data: {json.dumps(event, ensure_ascii=False)}\n\n".encode())

    def _write(self, data: bytes) -> None:
        self.wfile.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
        self.wfile.flush()

    def _answer(self, value: Any, status: int) -> None:
        data = value.encode() if isinstance(value, str) else json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


class Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    for name in ("--model", "--served-model-name", "--host", "--speculative-config", "--kv-transfer-config",
                 "--worker-extension-cls", "--weight-transfer-config"):  # fmt: skip
        parser.add_argument(name)
    for name in ("--port", "--max-model-len", "--max-num-seqs", "--max-num-batched-tokens"):
        parser.add_argument(name, type=int)
    for name in ("--enable-prefix-caching", "--enforce-eager", "--enable-chunked-prefill", "--async-scheduling"):
        parser.add_argument(name, action=argparse.BooleanOptionalAction, default=None)
    parser.add_argument("--per-request-spec-decode-metrics")
    return parser.parse_args()


def announce(options: argparse.Namespace, settings: Settings) -> None:
    """The lines of a start that Draftsmith reads, in their order."""
    pid, stamp = os.getpid(), time.strftime("%m-%d %H:%M:%S")
    told = {"host": options.host, "port": options.port, "model": options.model, "max_num_seqs": options.max_num_seqs}
    spec = "None"
    if settings.spec:
        count = settings.spec.get("num_speculative_tokens")
        spec = f"SpeculativeConfig(method='{settings.spec['method']}', model=None, num_spec_tokens={count})"
    config = (
        f"model='{options.model}', speculative_config={spec}, dtype=torch.float32, max_seq_len={options.max_model_len}, "
        f"enforce_eager={bool(options.enforce_eager)}, kv_cache_dtype=auto, device_config=cpu, "
        f"enable_prefix_caching={options.enable_prefix_caching is not False}, "
        "compilation_config={'mode': <CompilationMode.DYNAMO_TRACE_ONCE: 2>, 'cudagraph_mode': <CUDAGraphMode.NONE: 0>}"
    )
    say(f"(APIServer pid={pid}) INFO {stamp} [api_utils.py:286] non-default args: {told}")
    say(
        f"(EngineCore pid={pid}) INFO {stamp} [core.py:133] Initializing a V1 LLM engine (v0.32.0) with config: {config}"
    )
    say(f"(Worker pid={pid}) INFO {stamp} [cpu_model_runner.py:68] Starting to load model {options.model}...")
    say(
        f"(EngineCore pid={pid}) INFO {stamp} [kv_cache_utils.py:2327] CPU KV cache size: {KV_TOKENS:,} tokens, Maximum"
    )
    say(
        f"(EngineCore pid={pid}) INFO {stamp} [core.py:402] init engine (profile, create kv cache, warmup model) took 1 s"
    )
    if settings.says:
        say(f"(EngineCore pid={pid}) INFO {stamp} [llm_base_proposer.py:1350] {settings.says}")
    say(f"INFO:     Started server process [{pid}]")


def main() -> None:
    options = parse()
    settings = Settings(options)
    if settings.fail:
        say(Path(settings.fail).read_text(encoding="utf-8"))
        sys.exit(1)
    announce(options, settings)
    time.sleep(settings.start_s)
    server = Server((options.host, options.port), Api)
    server.options, server.settings = options, settings  # type: ignore[attr-defined]
    server.model = Model(Path(options.model))  # type: ignore[attr-defined]
    server.counters = Counters(options.served_model_name, settings.k)  # type: ignore[attr-defined]
    server.busy = threading.Semaphore(options.max_num_seqs)  # type: ignore[attr-defined]
    say("INFO:     Application startup complete.")
    server.serve_forever(0.05)


if __name__ == "__main__":
    main()

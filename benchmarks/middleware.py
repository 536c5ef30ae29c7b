"""What recording costs a served model: time per output token with the capture middleware against without, as a ratio.

    python benchmarks/middleware.py --target FOLDER [--blocks 8] [--out DIR]
    python benchmarks/middleware.py --alone

Two real servers stay up side by side, one with the middleware, one without, and are asked in turn, the same prompts in
every trial, the order turned from block to block. The server with the middleware is also asked with a key that its policy
refuses: it then copies nothing, so the ratio of those two is free of what differs between two starts. A block gives one
ratio of TPOT (median over prompts of the log ratio); shown is the mean of the blocks with its 95 % interval (t).

`--alone` needs no engine: an application that streams as fast as it can, with and without the middleware in turn. It shows
the processor time of a streamed chunk, in the server's event loop and in the writer thread, whatever else the machine does.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import math
import signal
import statistics
import sys
import tempfile
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

from scipy import stats

from draftsmith import wiring
from draftsmith.client.replay import Pacing, Reply, Request, Target, replay
from draftsmith.contract.config import Config
from draftsmith.corpus.general import GENERAL_PROMPTS
from draftsmith.engines.base import Server
from draftsmith.engines.vllm.engine import VllmEngine
from draftsmith.kit.files import private_dir, read_json, read_lines
from draftsmith.kit.hardware import describe
from draftsmith.recorder.middleware import CaptureMiddleware
from draftsmith.recorder.settings import CaptureSettings

MIDDLEWARE = "draftsmith.recorder.middleware.CaptureMiddleware"
ARMS = ("without", "recorded", "refused")
KEYS = {"recorded": "benchmark-yes", "refused": "benchmark-no", "without": "benchmark-yes"}
Times = dict[str, tuple[float, float]]


def requests(count: int, tokens: int) -> list[Request]:
    """The same requests in every trial; answers have a fixed length, so that every trial is the same work."""
    params = {"temperature": 0, "ignore_eos": True}
    return [
        Request(f"p{n}", messages=[{"role": "user", "content": text}], params=params, max_tokens=tokens)
        for n, (_, text) in enumerate(GENERAL_PROMPTS[:count])
    ]


def trial(server: Server, arm: str, request: list[Request], concurrency: int) -> Times:
    """(TPOT, TTFT) in seconds by prompt."""
    times: Times = {}

    def keep(reply: Reply) -> None:
        record = reply.record
        if record.error or not record.timing or not record.timing.latency_s or not record.timing.ttft_s:
            raise SystemExit(f"a request of arm {arm} failed: {record.error}")
        rest = (record.usage.completion_tokens or 0) - 1
        times[record.id] = ((record.timing.latency_s - record.timing.ttft_s) / rest, record.timing.ttft_s)

    replay(request, Target(server.url, server.spec.served_name, api_key=KEYS[arm]), Pacing(concurrency), keep)
    return times


def measure(servers: dict[str, Server], options: argparse.Namespace, blocks: list[dict[str, Times]]) -> None:
    """Warm both servers up, then add the blocks one by one."""
    request = requests(options.prompts, options.tokens)
    for arm in ("without", "recorded"):
        trial(servers[arm], arm, request, options.concurrency)
    for number in range(options.blocks):
        turn = [*ARMS[number % 3 :], *ARMS[: number % 3]]
        order = turn if number % 2 else turn[::-1]
        blocks.append({arm: trial(servers[arm], arm, request, options.concurrency) for arm in order})
        shown = ", ".join(
            f"{arm} {statistics.median(t for t, _ in blocks[-1][arm].values()) * 1e3:.1f}" for arm in ARMS
        )
        print(f"block {number + 1}: median ms per token: {shown}", flush=True)


def ratio(blocks: list[dict[str, Times]], slow: str, fast: str, which: int) -> str:
    """Mean ratio over blocks with its interval, as text."""
    logs = [
        statistics.median(math.log(block[slow][name][which] / block[fast][name][which]) for name in block[fast])
        for block in blocks
    ]
    mean = statistics.fmean(logs)
    half = stats.t.ppf(0.975, len(logs) - 1) * statistics.stdev(logs) / math.sqrt(len(logs))
    return f"{math.exp(mean):.4f} [{math.exp(mean - half):.4f}, {math.exp(mean + half):.4f}]"


def alone(rounds: int, streams: int, chunks: int) -> None:
    """Print microseconds of processor time a streamed chunk, medians over rounds."""
    event = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "target"}
    event |= {"choices": [{"index": 0, "delta": {"content": " word"}, "finish_reason": None, "token_ids": [17]}]}
    piece = b"data: " + json.dumps(event).encode() + b"\n\n"
    last = piece.replace(b"null", b'"stop"') + b"data: [DONE]\n\n"
    body = json.dumps({"stream": True, "messages": [{"role": "user", "content": "word " * 200}]}).encode()

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        headers = [(b"content-type", b"text/event-stream")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        for _ in range(chunks):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
            await asyncio.sleep(0)
        await send({"type": "http.response.body", "body": last, "more_body": False})

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        del message

    async def load(server: Any) -> float:
        scope = {"type": "http", "method": "POST", "path": "/v1/chat/completions", "headers": []}
        began = time.thread_time()
        await asyncio.gather(*(server(scope, receive, send) for _ in range(streams)))
        return (time.thread_time() - began) / (streams * chunks) * 1e6

    with tempfile.TemporaryDirectory() as folder:
        settings = CaptureSettings(Path(folder) / "traffic", min_free_bytes=0, queue=streams * rounds)
        tapped = CaptureMiddleware(app, settings)
        costs: dict[str, list[float]] = {"without": [], "with": []}
        whole, own = time.process_time(), time.thread_time()
        for _ in range(rounds):
            costs["without"].append(asyncio.run(load(app)))
            costs["with"].append(asyncio.run(load(tapped)))
        assert tapped.recorder is not None
        tapped.recorder.close()
        writer = (time.process_time() - whole - time.thread_time() + own) / (rounds * streams * chunks) * 1e6
        added = [b - a for a, b in zip(costs["without"], costs["with"], strict=True)]
        print(f"on {describe()}: a chunk takes {statistics.median(added):.2f} microseconds more in the event loop "
              f"({min(added):.2f} to {max(added):.2f} over {rounds} rounds of {streams} streams of {chunks} chunks), "
              f"and {writer:.1f} in the writer thread; {tapped.recorder.counts()}")  # fmt: skip


def recorded(folder: Path) -> str:
    """What the middleware says of its own work, and what lies in its folder."""
    counts = [read_json(path) for path in folder.glob(".counts-*.json")]
    lines = sum(sum(1 for _ in read_lines(path)) for path in folder.glob("access-*.jsonl"))
    return f"{lines} records in the folder; the middleware counted {counts}"


def main() -> None:
    """Start, measure, print, stop."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", type=Path)
    parser.add_argument("--alone", action="store_true", help="without an engine: the cost of a chunk")
    parser.add_argument("--blocks", type=int, default=8)
    parser.add_argument("--prompts", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--concurrency", type=int, default=4)
    parser.add_argument("--out", type=Path, help="folder for logs and records; default: a temporary one")
    options = parser.parse_args()
    if options.alone:
        alone(rounds=9, streams=32, chunks=256)
        return
    if options.target is None:
        parser.error("--target is needed, or --alone")
    with tempfile.TemporaryDirectory() as temporary:
        out = private_dir(options.out or Path(temporary))
        policy = out / "policy"
        policy.write_text(f"{sha256(KEYS['recorded'].encode()).hexdigest()} yes\n")
        variables = {"DIR": str(out / "traffic"), "KEYS": str(policy), "MIN_FREE_MB": "0"}
        engine = VllmEngine(out / "processes")
        plain = wiring.server_spec(Config(target=str(options.target)), str(options.target)).model_copy(
            update={"max_model_len": 1024, "cpu_kv_gib": 1.0}
        )
        env = plain.env | {f"DRAFTSMITH_CAPTURE_{name}": value for name, value in variables.items()}
        specs = {"without": plain, "recorded": plain.model_copy(update={"middleware": (MIDDLEWARE,), "env": env})}
        servers: dict[str, Server] = {}
        blocks: list[dict[str, Times]] = []
        signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped: the blocks so far"))
        try:
            for arm, spec in specs.items():
                servers[arm] = engine.start(spec, out / "servers")
                engine.wait_ready(servers[arm], 900)
            servers["refused"] = servers["recorded"]
            measure(servers, options, blocks)
        finally:
            for arm in specs:
                if arm in servers:
                    engine.stop(servers[arm])
            if len(blocks) > 1:
                show(blocks, options, out / "traffic")


def show(blocks: list[dict[str, Times]], options: argparse.Namespace, traffic: Path) -> None:
    """The ratios, and what was recorded meanwhile."""
    print(f"\n{len(blocks)} blocks of {options.prompts} prompts, {options.tokens} tokens each, at concurrency "
          f"{options.concurrency}, on {describe()}")  # fmt: skip
    for slow, fast, label in (
        ("recorded", "without", "with the middleware, recording / without it"),
        ("recorded", "refused", "recording / not recording, same server"),
    ):
        print(f"{label}: TPOT {ratio(blocks, slow, fast, 0)}, TTFT {ratio(blocks, slow, fast, 1)}")
    print(recorded(traffic))


if __name__ == "__main__":
    main()

"""Our client against an independent one, `vllm bench serve`, on one server and the same prompts.

    python benchmarks/independent_client.py --target FOLDER --prompts LOG --out DIR [--draft FOLDER] [--rounds 3]

One server with speculation (the draft, else n-gram) answers the same prompts greedily, one request at a time from each
client. Both statistics are the same: a request's TPOT is (latency - TTFT) / (output tokens - 1), the figure is the median
over requests, the acceptance length is from the server's counters before and after.

By turns (ours, theirs, theirs, ours) compares acceptance lengths, and times on a quiet machine. On a busy one two passes
differ by what else ran meanwhile, so the clients then also run side by side, and what falls into the same window of time
is compared. Exit code 1 if the acceptance length or the TPOT side by side differ by more than 3 %.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from draftsmith import wiring
from draftsmith.client.log import read_requests
from draftsmith.client.replay import Pacing, Reply, Request, Target, replay
from draftsmith.contract.config import Config
from draftsmith.contract.measure import OperatingPoint
from draftsmith.corpus.prompts import Prompt
from draftsmith.engines.base import Server
from draftsmith.engines.vllm.engine import VllmEngine
from draftsmith.kit import processes
from draftsmith.kit.files import private_dir, read_json, write_atomic, write_json
from draftsmith.work.compare.trial import Endpoint, Slot, measure, sample

ALLOWED = 0.03
NGRAM = {"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_max": 4, "prompt_lookup_min": 2}

# What the command `vllm bench serve` does; the command itself does not start with the CPU build.
THEIR_CLIENT = """
from vllm.benchmarks.serve import add_cli_args, main
from vllm.utils.argparse_utils import FlexibleArgumentParser
parser = FlexibleArgumentParser()
add_cli_args(parser)
main(parser.parse_args())
"""


@dataclass(frozen=True)
class Figures:
    """One pass of the prompts. `tpot_s`: median over requests, seconds; `tokens`: of all answers."""

    tpot_s: float
    acceptance_length: float
    ttft_s: float
    tokens: int
    failed: int


@dataclass(frozen=True)
class SideBySide:
    """TPOT of each request, seconds, of both clients in the same window of time."""

    ours: list[float]
    theirs: list[float]


def choose(log: Path, count: int, tokens: int) -> list[Prompt]:
    """The first different prompts of a log, each as a single user message: what both clients can send alike."""
    texts: dict[str, str] = {}
    for request in read_requests(log, None, tokens):
        text = "\n\n".join(str(message.get("content")) for message in request.messages or [])
        if text:
            texts.setdefault(text, request.id)
        if len(texts) == count:
            break
    return [
        Prompt(
            prompt_id=name,
            content_class="all",
            messages=[{"role": "user", "content": text}],
            params={"temperature": 0},
            max_tokens=tokens,
        )
        for text, name in texts.items()
    ]


def ours(engine: VllmEngine, server: Server, prompts: Sequence[Prompt], number: int) -> Figures:
    """One trial, as a comparison runs it."""
    endpoint = Endpoint(server.url, server.spec.served_name, server.start_id)
    point = OperatingPoint(name="c1", concurrency=1, sampling={"temperature": 0})
    trial = measure(engine, endpoint, prompts, point, Slot("independent", number, 0, "ours"))
    return Figures(
        tpot_s=statistics.median(s.tpot_s for s in trial.samples if s.tpot_s is not None),
        acceptance_length=trial.counters.acceptance_length or math.nan,
        ttft_s=statistics.median(s.ttft_s for s in trial.samples if s.ttft_s is not None),
        tokens=sum(s.output_tokens or 0 for s in trial.samples),
        failed=sum(1 for s in trial.samples if s.error),
    )


def theirs(server: Server, target: Path, dataset: Path, count: int, out: Path) -> dict[str, Any]:
    """One run of the independent client: its own result file."""
    flags = {
        "--backend": "openai-chat",
        "--endpoint": "/v1/chat/completions",
        "--base-url": server.url,
        "--model": str(target),
        "--served-model-name": server.spec.served_name,
        "--dataset-name": "custom",
        "--dataset-path": str(dataset),
        "--custom-output-len": "-1",
        "--num-prompts": str(count),
        "--max-concurrency": "1",
        "--temperature": "0",
        "--result-dir": str(out.parent),
        "--result-filename": out.name,
    }
    command = [sys.executable, "-c", THEIR_CLIENT, *(word for item in flags.items() for word in item)]
    command += ["--disable-shuffle", "--skip-chat-template", "--save-result", "--save-detailed", "--disable-tqdm"]
    with out.with_suffix(".log").open("w") as log:
        subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT)
    result: dict[str, Any] = read_json(out)
    return result


def told(result: dict[str, Any], count: int) -> Figures:
    """What the independent client says of itself."""
    return Figures(
        tpot_s=result["median_tpot_ms"] / 1000,
        acceptance_length=result.get("spec_decode_acceptance_length", math.nan),
        ttft_s=result["median_ttft_ms"] / 1000,
        tokens=result["total_output_tokens"],
        failed=result.get("failed", count - result["completed"]),
    )


def alongside(server: Server, prompts: Sequence[Prompt], stop: threading.Event) -> list[tuple[float, float, float]]:
    """Our client, pass after pass until told to stop: (begin, end, TPOT) of each request, by the monotonic clock."""
    offset = time.perf_counter() - time.time()
    result: list[tuple[float, float, float]] = []

    def requests() -> Iterator[Request]:
        for number in itertools.count():
            for prompt in prompts:
                if stop.is_set():
                    return
                name = f"{prompt.prompt_id}/{number}"
                yield Request(name, messages=prompt.messages, params=prompt.params, max_tokens=prompt.max_tokens)

    def keep(reply: Reply) -> None:
        measured, timing = sample(reply, "all"), reply.record.timing
        if measured.tpot_s is not None and timing is not None and timing.start_unix_s is not None:
            begin = timing.start_unix_s + offset
            result.append((begin, begin + (measured.latency_s or 0.0), measured.tpot_s))

    replay(requests(), Target(server.url, server.spec.served_name), Pacing(1), keep)
    return result


def side_by_side(server: Server, prompts: Sequence[Prompt], their_run: Callable[[], dict[str, Any]]) -> SideBySide:
    """Both clients at once; of ours, the requests that lie within the time of theirs."""
    stop = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        our_run = pool.submit(alongside, server, prompts, stop)
        try:
            result = their_run()
        finally:
            stop.set()
        own_figures = our_run.result()
    # Its clock is the same one: time.perf_counter is the system's monotonic clock, across processes.
    spans = [sum(gaps) for gaps in result["itls"]]
    begin = min(result["start_times"])
    end = max(
        start + ttft + span for start, ttft, span in zip(result["start_times"], result["ttfts"], spans, strict=True)
    )
    their = [span / (n - 1) for span, n in zip(spans, result["output_lens"], strict=True) if n > 1]
    return SideBySide([tpot for first, last, tpot in own_figures if begin <= first and last <= end], their)


def compare(options: argparse.Namespace) -> int:
    """Start the server, take turns, print both and the difference."""
    out = private_dir(options.out.resolve())
    config = Config(target=str(options.target.resolve()))
    spec_config = NGRAM
    if options.draft:
        spec_config = {"method": "eagle3", "model": str(options.draft.resolve()), "num_speculative_tokens": 3}
    prompts = choose(options.prompts, options.count, options.tokens)
    rows = [{"prompt": (p.messages or [{}])[0]["content"], "output_tokens": p.max_tokens} for p in prompts]
    dataset = write_atomic(out / "prompts.jsonl", "".join(json.dumps(row) + "\n" for row in rows))
    processes.sweep(out / "processes")
    engine = VllmEngine(private_dir(out / "processes"))
    server = engine.start(wiring.server_spec(config, str(config.target), spec_config=spec_config), out / "servers")
    rounds: list[tuple[Figures, Figures]] = []
    sides: list[SideBySide] = []

    def their_run(name: str) -> dict[str, Any]:
        return theirs(server, options.target.resolve(), dataset, len(prompts), out / f"theirs-{name}.json")

    try:
        engine.wait_ready(server, config.engine.start_timeout_s)
        ours(engine, server, prompts, -1)  # warm-up, not kept
        for number in range(options.rounds):
            first = None if number % 2 else ours(engine, server, prompts, number)
            other = told(their_run(str(number)), len(prompts))
            rounds.append((first or ours(engine, server, prompts, number), other))
            print(line(number, *rounds[-1]), flush=True)
        for number in range(options.side_by_side):
            sides.append(side_by_side(server, prompts, lambda number=number: their_run(f"beside-{number}")))  # type: ignore[misc]
            print(f"side by side, {number + 1}: {beside(sides[-1:])}", flush=True)
    finally:
        engine.stop(server)
    return report(rounds, sides, out)


def line(number: int, our: Figures, their: Figures) -> str:
    """One round in words."""
    return (
        f"round {number + 1}: TPOT {1000 * our.tpot_s:.2f} ms ours, {1000 * their.tpot_s:.2f} ms theirs "
        f"({100 * (our.tpot_s / their.tpot_s - 1):+.1f} %); AL {our.acceptance_length:.3f}, {their.acceptance_length:.3f}; "
        f"TTFT {1000 * our.ttft_s:.0f}, {1000 * their.ttft_s:.0f} ms; tokens {our.tokens}, {their.tokens}; "
        f"load {psutil.getloadavg()[0]:.1f}"
    )


def beside(sides: Sequence[SideBySide]) -> str:
    """Rounds side by side in words, all their requests together."""
    our, their = ([tpot for side in sides for tpot in getattr(side, name)] for name in ("ours", "theirs"))
    if not our:
        return "no request of ours lies within the time of theirs"
    medians = statistics.median(our), statistics.median(their)
    means = statistics.fmean(our), statistics.fmean(their)
    return (
        f"median TPOT {1000 * medians[0]:.2f} ms over {len(our)} requests ours, {1000 * medians[1]:.2f} ms over "
        f"{len(their)} theirs ({100 * (medians[0] / medians[1] - 1):+.1f} %); mean {1000 * means[0]:.2f}, "
        f"{1000 * means[1]:.2f} ms ({100 * (means[0] / means[1] - 1):+.1f} %)"
    )


def report(rounds: Sequence[tuple[Figures, Figures]], sides: Sequence[SideBySide], out: Path) -> int:
    """Print and keep the summary; 1 if acceptance length or TPOT differ by more than allowed."""
    write_json(
        out / "summary.json", {"rounds": [[vars(a), vars(b)] for a, b in rounds], "sides": [vars(s) for s in sides]}
    )
    differences = {
        f"{title}, by turns": statistics.median(getattr(a, name) / getattr(b, name) - 1 for a, b in rounds)
        for title, name in (("TPOT", "tpot_s"), ("acceptance length", "acceptance_length"))
    }
    deciding = ["acceptance length, by turns", "TPOT, by turns"]
    our, their = ([tpot for side in sides for tpot in getattr(side, name)] for name in ("ours", "theirs"))
    if our:
        print(f"side by side, all {len(sides)} rounds: {beside(sides)}")
        differences["TPOT, side by side"] = statistics.median(our) / statistics.median(their) - 1
        deciding[1] = "TPOT, side by side"
    for name, value in differences.items():
        print(f"{name}: {100 * value:+.2f} %")
    agree = all(abs(differences[name]) <= ALLOWED for name in deciding)
    print(f"agree within {100 * ALLOWED:.0f} %" if agree else f"differ by more than {100 * ALLOWED:.0f} %")
    return 0 if agree else 1


def main() -> int:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", type=Path, required=True)
    parser.add_argument("--prompts", type=Path, required=True, help="access log or prompts file")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--draft", type=Path, help="EAGLE-3 draft to serve; default: n-gram")
    parser.add_argument("--rounds", type=int, default=3, help="rounds by turns")
    parser.add_argument("--side-by-side", type=int, default=3, help="rounds with both clients at once")
    parser.add_argument("--count", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=48)
    return compare(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())

"""Our client against an independent one, `vllm bench serve`, on one server and the same prompts.

    python benchmarks/independent_client.py --target FOLDER --prompts LOG --out DIR [--draft FOLDER] [--rounds 5]

One server with speculation (the draft, else n-gram) answers the same prompts greedily at concurrency 1, by turns: ours,
theirs, theirs, ours. Both statistics are the same: a request's TPOT is (latency - TTFT) / (output tokens - 1), the figure
of a round is the median over its requests, the acceptance length is from the server's counters before and after. What
is shown is the median over rounds, and of the ratios within rounds. Exit code 1 if they differ by more than 3 %.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from draftsmith import wiring
from draftsmith.contract.config import Config
from draftsmith.contract.measure import OperatingPoint
from draftsmith.engines.base import Server
from draftsmith.engines.vllm import VllmEngine
from draftsmith.kit import processes
from draftsmith.kit.files import private_dir, read_json, write_atomic, write_json
from draftsmith.traffic.prompts import Prompt
from draftsmith.traffic.recording import read_requests
from draftsmith.work.measure import Endpoint, Slot, measure

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


def theirs(server: Server, target: Path, dataset: Path, count: int, out: Path) -> Figures:
    """One run of the independent client; its own figures, from its own result file."""
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
    command += ["--disable-shuffle", "--skip-chat-template", "--save-result", "--disable-tqdm"]
    with out.with_suffix(".log").open("w") as log:
        subprocess.run(command, check=True, stdout=log, stderr=subprocess.STDOUT)
    found: dict[str, Any] = read_json(out)
    return Figures(
        tpot_s=found["median_tpot_ms"] / 1000,
        acceptance_length=found.get("spec_decode_acceptance_length", math.nan),
        ttft_s=found["median_ttft_ms"] / 1000,
        tokens=found["total_output_tokens"],
        failed=found.get("failed", count - found["completed"]),
    )


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
    try:
        engine.wait_ready(server, config.engine.start_timeout_s)
        for number in (-2, -1):  # warm-up: no figure of these is kept
            ours(engine, server, prompts, number)
        for number in range(options.rounds):
            first = None if number % 2 else ours(engine, server, prompts, number)
            other = theirs(server, options.target.resolve(), dataset, len(prompts), out / f"theirs-{number}.json")
            rounds.append((first or ours(engine, server, prompts, number), other))
            print(line(number, *rounds[-1]), flush=True)
    finally:
        engine.stop(server)
    return report(rounds, out, len(prompts))


def line(number: int, our: Figures, their: Figures) -> str:
    """One round in words."""
    return (
        f"round {number + 1}: TPOT {1000 * our.tpot_s:.2f} ms ours, {1000 * their.tpot_s:.2f} ms theirs "
        f"({100 * (our.tpot_s / their.tpot_s - 1):+.1f} %); AL {our.acceptance_length:.3f}, {their.acceptance_length:.3f}; "
        f"TTFT {1000 * our.ttft_s:.0f}, {1000 * their.ttft_s:.0f} ms; tokens {our.tokens}, {their.tokens}; "
        f"load {psutil.getloadavg()[0]:.1f}"
    )


def report(rounds: Sequence[tuple[Figures, Figures]], out: Path, count: int) -> int:
    """Print and keep the summary; 1 if TPOT or acceptance length differ by more than allowed."""
    differences = {}
    for name in ("tpot_s", "acceptance_length"):
        pairs = [(getattr(our, name), getattr(their, name)) for our, their in rounds]
        medians = [statistics.median(side) for side in zip(*pairs, strict=True)]
        within = statistics.median(a / b - 1 for a, b in pairs)
        across = medians[0] / medians[1] - 1
        differences[name] = {"ours": medians[0], "theirs": medians[1], "of_medians": across, "within_rounds": within}
        print(
            f"{name}: {medians[0]:.5f} ours, {medians[1]:.5f} theirs, {100 * across:+.2f} % between the medians of "
            f"{len(rounds)} rounds of {count} prompts, {100 * within:+.2f} % within rounds"
        )
    write_json(out / "summary.json", {"rounds": [[vars(a), vars(b)] for a, b in rounds], **differences})
    agree = all(abs(d["within_rounds"]) <= ALLOWED for d in differences.values())
    print(f"agree within {100 * ALLOWED:.0f} %" if agree else f"differ by more than {100 * ALLOWED:.0f} %")
    return 0 if agree else 1


def main() -> int:
    """Parse and run."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", type=Path, required=True)
    parser.add_argument("--prompts", type=Path, required=True, help="access log or prompts file")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--draft", type=Path, help="EAGLE-3 draft to serve; default: n-gram")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--count", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=48)
    return compare(parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())

"""Answering and capturing in one pass against answering first and capturing after it, as a ratio of wall times.

    python benchmarks/one_pass.py --target FOLDER --out DIR [--requests 96] [--rounds 2]

One pass: a capture server answers the prompts and writes the states of prompt and answer. Two passes (the baseline): a
plain server answers, then a capture server is given the finished token ids. Server starts are counted apart, since
they do not grow with the traffic. The prompts are the demo's; both ways answer all of them, greedily, in turn.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from draftsmith import wiring
from draftsmith.client.replay import Pacing, Reply, Request, Target, replay
from draftsmith.contract.access import AccessRecord
from draftsmith.contract.config import Config
from draftsmith.engines.base import CaptureSpec, Server
from draftsmith.engines.vllm.engine import VllmEngine
from draftsmith.kit.files import private_dir
from draftsmith.kit.hardware import describe
from draftsmith.traffic.demo import demo_prompts
from draftsmith.trainers.target import read_target
from draftsmith.work import states

CONCURRENCY = 32
ANSWER_TOKENS = 128


class Way:
    """Seconds that one way needed: server starts, and the work between them."""

    def __init__(self, options: argparse.Namespace, folder: Path) -> None:
        self.options, self.folder = options, private_dir(folder)
        self.starts_s = self.work_s = 0.0
        self.config = Config(target=str(options.target))
        self.engine = VllmEngine(private_dir(folder / "processes"))

    @contextmanager
    def server(self, capture: CaptureSpec | None) -> Iterator[Server]:
        """One started server; its start is timed."""
        began = time.monotonic()
        spec = wiring.server_spec(
            self.config, str(self.options.target), capture=capture, eager=True if capture else None
        )
        server = self.engine.start(spec, self.folder / "servers")
        try:
            self.engine.wait_ready(server, 900)
            self.starts_s += time.monotonic() - began
            yield server
        finally:
            self.engine.stop(server)

    def spec(self) -> CaptureSpec:
        """Capture of the layers that an EAGLE3 draft reads, and the last one."""
        target = read_target(self.options.target)
        return CaptureSpec(
            layer_ids=(2, target.num_layers // 2, target.num_layers - 3, target.num_layers),
            storage=str(private_dir(self.folder / "incoming")),
        )

    def timed(self, work: Callable[[], object]) -> None:
        """Run and count as work."""
        began = time.monotonic()
        work()
        self.work_s += time.monotonic() - began


def prompts(count: int) -> list[Request]:
    """The demo's prompts as requests."""
    return [
        Request(str(n), messages=p["messages"], params={"temperature": 0.0}, max_tokens=ANSWER_TOKENS)
        for n, p in enumerate(demo_prompts(count))
    ]


def collect(result: list[AccessRecord]) -> Callable[[Reply], None]:
    """A callback that keeps records and fails on the first error."""

    def keep(reply: Reply) -> None:
        if reply.record.error:
            raise SystemExit(f"a request failed: {reply.record.error}")
        result.append(reply.record)

    return keep


def one_pass(way: Way) -> list[AccessRecord]:
    """Answers and states from one server."""
    access_records: list[AccessRecord] = []
    with way.server(way.spec()) as server:
        request = prompts(way.options.requests)
        way.timed(
            lambda: states.capture(
                request, server, private_dir(way.folder / "states"), CONCURRENCY, collect(access_records)
            )
        )
    return access_records


def two_passes(way: Way) -> list[AccessRecord]:
    """Answers from a plain server, states from a capture server."""
    access_records: list[AccessRecord] = []
    with way.server(None) as server:
        target = Target(server.url, server.spec.served_name)
        request = prompts(way.options.requests)
        way.timed(lambda: replay(request, target, Pacing(CONCURRENCY), collect(access_records)))
    with way.server(way.spec()) as server:
        rows = finished(access_records)
        way.timed(lambda: states.capture(rows, server, private_dir(way.folder / "states"), CONCURRENCY, collect([])))
    return access_records


def finished(records: Iterable[AccessRecord]) -> list[Request]:
    """The answered requests as token ids, as the capture job asks for them."""
    ids = [(r.id, [*(r.prompt_token_ids or []), *(r.output_token_ids or [])]) for r in records]
    return [Request(name, prompt_token_ids=row[:-1], max_tokens=1) for name, row in ids]


def main() -> None:
    """Measure both ways in turn and print the ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--requests", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=2)
    options = parser.parse_args()
    ratios, totals = [], []
    for number in range(options.rounds):
        ways = {}
        for name, run in (("two passes", two_passes), ("one pass", one_pass)):
            folder = options.out / f"{number}-{name.replace(' ', '-')}"
            way = ways[name] = Way(options, folder)
            records = run(way)
            answers = sum(len(r.output_token_ids or []) for r in records)
            print(
                f"round {number + 1}, {name}: {len(records)} answers, {answers:,} tokens, "
                f"work {way.work_s:.1f} s, server starts {way.starts_s:.1f} s",
                flush=True,
            )
            shutil.rmtree(folder)
        old, new = ways["two passes"], ways["one pass"]
        ratios.append(old.work_s / new.work_s)
        totals.append((old.work_s + old.starts_s) / (new.work_s + new.starts_s))
    print(
        f"one pass is {statistics.median(ratios):.2f}x as fast without starts ({min(ratios):.2f} to {max(ratios):.2f}), "
        f"{statistics.median(totals):.2f}x with them, on {describe()}"
    )


if __name__ == "__main__":
    main()

"""Fuzzing of every importer: no crash, no hang, nothing lost in silence.

    PYTHONPATH=src:tests:tests/fakes python -m traffic.fuzzing --seconds 3600 --out DIR

Two kinds of documents take turns. Faithful ones are generated talks, written as a format writes them and then disguised (other order
of keys, unknown fields, lists, wrappers, compression, line ends): what goes in must come out. Hostile ones are mutated from a corpus
that grows by every document with an outcome that was not seen before: every line must be a record or a counted skip. What was found,
and the smallest documents for all outcomes, are written to DIR.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .mutating import MAX_BYTES, disguised, mutated, talks_of
from .promises import FaultError, Outcome, check_faithful, check_hostile, outcome
from .written import FORMATS

SEEDS = Path(__file__).with_name("seeds.jsonl")
SLOW_S = 3.0
"""CPU seconds for a document of at most MAX_BYTES: far more than any honest one takes."""
HUNG_S = 30.0


def seeds() -> Iterator[bytes]:
    """The smallest documents of earlier runs for all outcomes that were seen."""
    for line in SEEDS.read_text(encoding="utf-8").splitlines() if SEEDS.exists() else ():
        yield json.loads(line).encode("latin-1")


@dataclass
class Run:
    """One run: its corpus, its figures and what it found. Reproducible from `seed` and the number of a document."""

    folder: Path
    seed: int
    corpus: list[bytes] = field(default_factory=list)
    best: dict[str, bytes] = field(default_factory=dict)
    seen: set[str] = field(default_factory=set)
    documents: Counter[str] = field(default_factory=Counter)
    faults: dict[str, str] = field(default_factory=dict)

    def start(self) -> None:
        """The first corpus: every format as it is written, and the seeds."""
        rng = random.Random(self.seed)
        for one in FORMATS.values():
            self.corpus.append(one.write(talks_of(rng, one)).encode("utf-8", "replace"))
        self.corpus += seeds()

    def step(self, number: int) -> None:
        """One document."""
        rng = random.Random(self.seed * 1_000_003 + number)
        path = self.folder / "log.jsonl"
        name = rng.choice(sorted(FORMATS)) if number % 2 else "hostile"
        self.documents["faithful" if number % 2 else "hostile"] += 1
        if name == "hostile":
            data = mutated(rng, self.corpus)
            path.write_bytes(data)
            self._try(name, data, path, lambda found: check_hostile(data, found))
            return
        talks = talks_of(rng, FORMATS[name])
        data = disguised(rng, FORMATS[name].write(talks), name)
        path.write_bytes(data)
        self._try(name, data, path, lambda found: check_faithful(FORMATS[name], talks, found))

    def _try(self, name: str, data: bytes, path: Path, check: Callable[[Outcome], None]) -> None:
        begin = time.process_time()
        signal.setitimer(signal.ITIMER_PROF, HUNG_S)
        try:
            found = outcome(path)
            signal.setitimer(signal.ITIMER_PROF, 0)
            check(found)
            if time.process_time() - begin > SLOW_S:
                raise FaultError("slow")
        except Exception as error:
            self._fault(name, data, error)
            return
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        fresh = found.marks - self.seen
        self.seen |= fresh
        for mark in found.marks:
            if len(data) < len(self.best.get(mark, b"x" * (MAX_BYTES + 1))) and not data.startswith(b"\x1f\x8b"):
                self.best[mark] = data
        if fresh and len(data) <= MAX_BYTES:
            self.corpus.append(data)

    def _fault(self, name: str, data: bytes, error: Exception) -> None:
        where = traceback.extract_tb(error.__traceback__)[-1]
        what = (
            str(error.args[0])
            if isinstance(error, FaultError)
            else f"{type(error).__name__} at {Path(where.filename).name}:{where.lineno}"
        )
        key = f"{name}: {what}"
        if key in self.faults:
            return
        self.faults[key] = "".join(traceback.format_exception_only(error))[:2000]
        (self.folder / f"fault-{len(self.faults):03}.bin").write_bytes(data)
        print(f"fault {len(self.faults)}: {key}: {self.faults[key][:300]}", flush=True)

    def write(self) -> None:
        """Leave the smallest documents for all outcomes."""
        kept = sorted(set(self.best.values()), key=lambda one: (len(one), one))
        (self.folder / "seeds.jsonl").write_text(
            "".join(json.dumps(one.decode("latin-1")) + "\n" for one in kept), encoding="utf-8"
        )


def _hung(number: int, frame: Any) -> None:
    raise FaultError("hung")


def main() -> None:
    """Run for some seconds, and tell once a minute how far it came."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, required=True)
    wanted = parser.parse_args()
    wanted.out.mkdir(parents=True, exist_ok=True)
    signal.signal(signal.SIGPROF, _hung)
    run = Run(wanted.out, wanted.seed)
    run.start()
    begin, told, number = time.monotonic(), 0.0, 0
    while (passed := time.monotonic() - begin) < wanted.seconds:
        run.step(number)
        number += 1
        if passed - told >= 60:
            told = passed
            run.write()
            print(_line(run, passed), flush=True)
    run.write()
    print("done: " + _line(run, time.monotonic() - begin), flush=True)


def _line(run: Run, passed: float) -> str:
    return (f"{passed:.0f} s, {run.documents.total()} documents ({run.documents['faithful']} faithful, {run.documents['hostile']} hostile), "
            f"{len(run.seen)} outcomes, corpus {len(run.corpus)}, {len(run.faults)} kinds of faults, CPU {time.process_time():.0f} s")  # fmt: skip


if __name__ == "__main__":
    main()

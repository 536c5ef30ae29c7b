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
import re
import signal
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from draftsmith.contract.access import AccessRecord
from draftsmith.contract.errors import InputError
from draftsmith.traffic.importers import detect, keeps_record, read_records
from draftsmith.traffic.importers.catalog import find
from draftsmith.traffic.importers.parameters import CHECKS
from draftsmith.traffic.importers.reading import shape_of

from .mutating import MAX_BYTES, disguised, mutated, talks_of
from .written import FORMATS, Format, Talk

SEEDS = Path(__file__).with_name("seeds.jsonl")
SLOW_S = 3.0
"""CPU seconds for a document of at most MAX_BYTES: far more than any honest one takes."""
HUNG_S = 30.0
NO_LOSS = frozenset({"session entry that is no message", "trace without a generation", "no model call among the spans"})
_REASON = re.compile(r"[A-Za-z0-9 ,.:'()/_-]{3,100}")


class FaultError(AssertionError):
    """A document that broke a promise. The first argument is the promise in a few words."""


@dataclass(frozen=True)
class Outcome:
    """What became of one document: records, and reasons with their counts. `format` is that of its first line that is known."""

    records: list[AccessRecord]
    reasons: Counter[str]
    format: str = ""

    @property
    def marks(self) -> frozenset[str]:
        """What is particular about it, for telling whether a document is worth keeping."""
        found = {f"{self.format}: {reason}" for reason in self.reasons}
        for one in self.records[:20]:
            roles = "".join(sorted({str(message["role"])[0] for message in one.messages or ()}))
            has = [key for key in ("completion", "timing", "prompt_token_ids", "output_token_ids", "adapter", "finish_reason", "spec", "conversation")
                   if getattr(one, key) is not None]  # fmt: skip
            parts = [key for key in ("reasoning", "calls", "refusal") if one.answer and getattr(one.answer, key)]
            found |= {f"roles {roles}", f"{self.format} has {' '.join(has)}", f"parts {' '.join(parts)}", *(f"param {key}" for key in one.params)}
        return frozenset(found)


def outcome(path: Path) -> Outcome:
    """Read one document. Whatever is raised but InputError is a fault."""
    reasons: Counter[str] = Counter()

    def skip(reason: str, where: str, raw: bytes) -> None:
        reasons[reason] += 1

    records: list[AccessRecord] = []
    try:
        for one in read_records([str(path)], on_skip=skip):
            records.append(one)
    except InputError:
        if records:
            raise FaultError("an error after records") from None
    return Outcome(records, reasons, _format(path.read_bytes()[:MAX_BYTES]))


def _format(data: bytes) -> str:
    try:
        return detect(data.decode("utf-8", "replace").split("\n"))
    except InputError:
        return shape_of(data)


def check_hostile(data: bytes, found: Outcome) -> None:
    """What holds for any bytes."""
    if data.strip() and not data.startswith(b"\x1f\x8b") and not found.records and not found.reasons and _says_something(data):
        raise FaultError("a document vanished")
    if "record does not fit the schema" in found.reasons:
        raise FaultError("a record that does not fit the schema")
    for reason in found.reasons:
        if not _REASON.fullmatch(reason):
            raise FaultError("a reason that may hold text of the log", reason[:80])
    for one in found.records:
        _check_record(one)
    kept = sum(times for reason, times in found.reasons.items() if not keeps_record(reason))
    if len(found.records) + kept < _values(data):
        raise FaultError("lines without a record or a reason")


def _check_record(one: AccessRecord) -> None:
    for message in one.messages or ():
        content = message.get("content")
        if not isinstance(message.get("role"), str) or not isinstance(content, str | list):
            raise FaultError("a message that no engine takes")
        if isinstance(content, list) and not all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in content):
            raise FaultError("a part of a message that is no text")
        for call in message.get("tool_calls") or ():
            inner = call.get("function") if isinstance(call, dict) else None
            if not isinstance(inner, dict) or not isinstance(inner.get("name"), str) or not isinstance(inner.get("arguments"), str):
                raise FaultError("a tool call that no engine takes")
    for key, value in one.params.items():
        try:
            same = key not in CHECKS or CHECKS[key](value) == value
        except (ValueError, TypeError):
            same = False
        if not same:
            raise FaultError("a parameter that no engine takes", key)
    try:
        AccessRecord.model_validate_json(one.model_dump_json())
    except ValueError:
        raise FaultError("a record that cannot be read again") from None


def _says_something(data: bytes) -> bool:
    """Whether there is more than empty lists and the frame of server-sent events."""
    if shape_of(data[: 1 << 16]) == "csv" and len(data.split(b"\n")) <= 2:
        return False  # a header says nothing
    return bool(re.sub(rb"(?m)^(?:data:\s*(?:\[DONE\])?|event:.*|id:.*|retry:.*|:.*)\s*$|[\[\],\s]|\xef\xbb\xbf", b"", data))


def _values(data: bytes) -> int:
    """Lines that must each give something: those of formats whose lines do not hang together."""
    if data.startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd")) or shape_of(data[: 1 << 16]) != "lines":
        return 0
    least = 0
    for line in data.removeprefix(b"\xef\xbb\xbf").split(b"\n"):
        if not line.strip() or line[:1] in b"deir:":
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            least += 1
            continue
        one = find("json", value) if isinstance(value, dict) else None
        least += one is None or one.session is None
    return least


def texts(record: AccessRecord) -> list[tuple[str, str]]:
    """(role, text) of the prompt, parts of a message joined."""
    made = []
    for message in record.messages or ():
        content = message["content"]
        said = content if isinstance(content, str) else "".join(part["text"] for part in content)
        made.append((message["role"], said))
    return made


def check_faithful(one: Format, talks: list[Talk], found: Outcome) -> None:
    """What went in came out: as many records, their text, reasoning and calls, and no loss of any name."""
    if len(found.records) != len(talks):
        raise FaultError("another number of records", len(talks), len(found.records), dict(found.reasons))
    lost = set(found.reasons) - NO_LOSS
    if lost:
        raise FaultError("a loss where nothing is lost", sorted(lost))
    left = {record.id: record for record in found.records}
    for place, talk in enumerate(talks):
        record = left.get(talk.id, found.records[place])
        if one.prompt and texts(record) != [(message["role"], message["content"]) for message in talk.messages()]:
            raise FaultError("another prompt", texts(record), talk.messages())
        if not one.answer:
            continue
        if record.completion != talk.completion():
            raise FaultError("another answer", record.completion, talk.completion())
        if record.answer is not None and (record.answer.reasoning or "") != talk.reasoning:
            raise FaultError("another reasoning", record.answer.reasoning, talk.reasoning)
        if record.answer is not None and [call.name for call in record.answer.calls] != ([talk.call[0]] if talk.call else []):
            raise FaultError("other calls")


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
        what = str(error.args[0]) if isinstance(error, FaultError) else f"{type(error).__name__} at {Path(where.filename).name}:{where.lineno}"
        key = f"{name}: {what}"
        if key in self.faults:
            return
        self.faults[key] = "".join(traceback.format_exception_only(error))[:2000]
        (self.folder / f"fault-{len(self.faults):03}.bin").write_bytes(data)
        print(f"fault {len(self.faults)}: {key}: {self.faults[key][:300]}", flush=True)

    def write(self) -> None:
        """Leave the smallest documents for all outcomes."""
        kept = sorted(set(self.best.values()), key=lambda one: (len(one), one))
        (self.folder / "seeds.jsonl").write_text("".join(json.dumps(one.decode("latin-1")) + "\n" for one in kept), encoding="utf-8")


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

"""Drives all sources through observers, on several processes where that pays, and folds the results in order.

Plain and compressed line files are cut into blocks that any process can read alone. Everything whose values hang together
(lists, indented documents, CSV with its header, text, streamed chunks, batch prompts with their answers) is read here.
"""

from __future__ import annotations

import os
import threading
from collections import Counter as Tally
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import dataclass, field
from itertools import chain
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any

from draftsmith.contract.errors import InputError
from draftsmith.contract.profile import Source
from draftsmith.profiling.gather import Gathered
from draftsmith.profiling.observe import Batch, Observer, Sampling
from draftsmith.traffic.importers.catalog import CATALOG
from draftsmith.traffic.importers.reading import FileReader, Rejected, named
from draftsmith.traffic.importers.sources import Block, blocks, read_range
from draftsmith.traffic.importers.stream import OpenFile, first_format, read_files
from draftsmith.traffic.tokens import load_counter

PARALLEL_FROM = 24 << 20
EARLY_BLOCKS = 2
_ROWS = 2048
_LINES_KEPT = 5
_TOGETHER = frozenset(
    {"openai-batch-input", "openai-batch-output", None}
    | {item.name for item in CATALOG.values() if item.session is not None}
)
MAX_IN_FLIGHT = 96 << 20
"""Bytes that are read by workers at one time: lines may be as long as 64 MiB, and a parsed one is many times larger."""

OnProgress = Callable[[int, int | None], None]


@dataclass
class Skips:
    """Rejections by reason, with the first few places, and the raw values written aside on request."""

    reasons: Tally[str] = field(default_factory=Tally)
    places: dict[str, list[str]] = field(default_factory=dict)
    aside: Any = None

    def __call__(self, reason: str, where: str, raw: bytes) -> None:
        """Count one."""
        self.reasons[reason] += 1
        places = self.places.setdefault(reason, [])
        if len(places) < _LINES_KEPT:
            places.append(where)
        if self.aside is not None:
            import orjson

            row = {"reason": reason, "where": where, "raw": raw[: 1 << 20].decode("utf-8", "replace")}
            self.aside.write(orjson.dumps(row) + b"\n")


@dataclass(frozen=True)
class Job:
    """What a scan does with every record. Picklable: it goes to the workers once."""

    tokenizer: Path | None
    sampling: Sampling
    keep_raw: bool = False
    format: str | None = None


@dataclass(frozen=True)
class _Task:
    file: int
    first_line: int
    early: bool
    data: bytes | None
    path: str = ""
    offset: int = 0
    length: int = 0

    @property
    def size(self) -> int:
        """Bytes of the block."""
        return self.length if self.data is None else len(self.data)


@dataclass
class _Done:
    batch: Batch
    rejected: list[tuple[str, int, bytes]]
    counts: dict[str, int]
    size: int
    strange: tuple[str, ...] = ()


def scan(
    files: Sequence[OpenFile],
    job: Job,
    gathered: Gathered,
    skips: Skips,
    *,
    limit: int | None = None,
    workers: int | None = None,
    on_progress: OnProgress | None = None,
) -> tuple[Source, ...]:
    """Read all files once. Returns what each gave. Raises InputError for unreadable files or a foreign tokenizer."""
    for file in files:
        file.reader.keep_raw = job.keep_raw
    known = [item.file.size for item in files]
    total = sum(size or 0 for size in known) if all(size is not None for size in known) else None
    report = _Progress(on_progress, total)
    formats = [first_format(item) for item in files]
    alone = [item.reader.shape == "lines" and name not in _TOGETHER for item, name in zip(files, formats, strict=True)]
    free = [at for at, ok in enumerate(alone) if ok and limit is None]
    rest = [at for at in range(len(files)) if at not in set(free)]
    big = sum(files[at].file.size or 0 for at in free) >= PARALLEL_FROM
    count = workers if workers is not None else min(8, os.cpu_count() or 1)
    if free:
        _scan_blocks(files, free, job, gathered, skips, report, count if big else 1)
    if rest:
        _scan_here([files[at] for at in rest], rest, job, gathered, skips, report, limit)
    gathered.finish()
    return tuple(_source(item) for item in files)


@dataclass
class _Progress:
    callback: OnProgress | None
    total: int | None
    done: int = 0

    def add(self, size: int) -> None:
        self.done += size
        if self.callback:
            self.callback(self.done, self.total)


def _source(file: OpenFile) -> Source:
    names = sorted(file.reader.counts, key=lambda name: -file.reader.counts[name])
    return Source(
        name=file.file.name,
        format="+".join(names) or "unknown",
        bytes=file.digest.size,
        sha256=file.digest.hash.hexdigest(),
        records=sum(file.reader.counts.values()),
    )


def _scan_here(
    files: list[OpenFile],
    places: list[int],
    job: Job,
    gathered: Gathered,
    skips: Skips,
    report: _Progress,
    limit: int | None,
) -> None:
    """In this process, value by value."""
    observer = Observer(load_counter(job.tokenizer) if job.tokenizer else None, job.sampling)
    rows = seen = reported = 0
    for item in read_files(files, skips):
        observer.add(item.fields, places[item.file], item.line, early=seen < EARLY_BLOCKS * _ROWS)
        rows, seen = rows + 1, seen + 1
        if rows >= _ROWS:
            gathered.fold(observer.take())
            rows, done = 0, sum(file.digest.size for file in files)
            report.add(done - reported)
            reported = done
        if limit is not None and seen >= limit:
            break
    gathered.fold(observer.take())


def _scan_blocks(
    files: Sequence[OpenFile],
    free: list[int],
    job: Job,
    gathered: Gathered,
    skips: Skips,
    report: _Progress,
    workers: int,
) -> None:
    """Block by block, on `workers` processes; results are folded in the order of the log."""
    tasks = _tasks(files, free, skips, send=workers > 1)
    for done, task in _run(tasks, job, workers):
        item = files[task.file]
        for reason, line, raw in done.rejected:
            skips(reason, f"{item.file.name}:{line}", raw)
        for name, count in done.counts.items():
            item.reader.counts[name] = item.reader.counts.get(name, 0) + count
        item.reader.strange = item.reader.strange or done.strange
        gathered.fold(done.batch)
        report.add(done.size)


def _tasks(files: Sequence[OpenFile], free: list[int], skips: Skips, *, send: bool) -> Iterator[_Task]:
    number = 0
    for at in free:
        for block in blocks(files[at].file, files[at].digest, skips):
            yield _task(files[at], at, block, number < EARLY_BLOCKS, send)
            number += 1


def _task(file: OpenFile, at: int, block: Block, early: bool, send: bool) -> _Task:
    if send and block.offset is not None:
        # A worker reads plain files itself: the bytes are in the page cache, a descriptor is cheaper than a copy.
        return _Task(at, block.first_line, early, None, file.file.path, block.offset, len(block.data))
    return _Task(at, block.first_line, early, block.data)


def _run(tasks: Iterator[_Task], job: Job, workers: int) -> Iterator[tuple[_Done, _Task]]:
    if workers <= 1:
        _start(job)
        for task in tasks:
            yield _work(task), task
        return
    # Spawned, not forked: threads of the libraries in use do not survive a fork.
    with ProcessPoolExecutor(workers, get_context("spawn"), _start_worker, (job,)) as pool:
        waiting: deque[tuple[Future[_Done], _Task]] = deque()
        held = 0
        try:
            for task in tasks:
                while waiting and (len(waiting) >= 3 * workers or held + task.size > MAX_IN_FLIGHT):
                    future, oldest = waiting.popleft()
                    held -= oldest.size
                    yield future.result(), oldest
                waiting.append((pool.submit(_work, task), task))
                held += task.size
            for future, task in waiting:
                yield future.result(), task
        except InputError:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


_observer: Observer | None = None
_job: Job | None = None


def _start_worker(job: Job) -> None:
    """`_start`, and a watch on the parent: if it is killed, nobody else would end this process."""

    def leave_with_parent() -> None:
        parent = parent_process()
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=leave_with_parent, daemon=True).start()
    _start(job)


def _start(job: Job) -> None:
    """Set up this process once: the tokenizer takes a while to load."""
    global _observer, _job
    # One process a core already: threads inside the tokenizer would only wait for each other.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    _observer = Observer(load_counter(job.tokenizer) if job.tokenizer else None, job.sampling)
    _job = job


def _work(task: _Task) -> _Done:
    assert _observer is not None and _job is not None  # noqa: S101, PT018  # the pool runs _start first
    data = task.data if task.data is not None else read_range(task.path, task.offset, task.length)
    reader = FileReader("lines", named(_job.format), keep_raw=_job.keep_raw)
    rejected: list[tuple[str, int, bytes]] = []
    # Streamed chunks in between other lines are joined within a block only.
    for number, fields in chain(reader.block(task.first_line, data), reader.end()):
        if isinstance(fields, Rejected):
            rejected.append((fields.reason, number, fields.raw if _job.keep_raw else b""))
        else:
            _observer.add(fields, task.file, number, early=task.early)
    return _Done(_observer.take(), rejected, reader.counts, len(data), reader.strange)

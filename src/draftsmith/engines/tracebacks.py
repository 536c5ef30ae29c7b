"""The errors in a server's log, told apart from what only follows from them. Pure.

A crash of an engine is logged by several processes: the one that failed, and those that noticed. Lines of processes are
mixed. The cause is the last error that is not itself a message about another process.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

# What collectors of logs put before a line: docker compose, the container runtime, journald, kubectl; and torchrun.
CARRIER = re.compile(
    r"[\w.-]+ *\| (?=\S)|\d{4}-\d\d-\d\dT[\d:.]+(?:Z|[+-]\d\d:?\d\d) (?:std(?:out|err) [FP] )?"
    r"|[A-Z][a-z]{2} [ \d]\d [\d:]{8} \S+ [\w.@-]+(?:\[\d+\])?: |\[pod/[^\]]+\] ?|\[(?P<rank>rank\d+)\]: ?"
)
PROCESS = re.compile(r"\((?P<name>[\w .:=/-]*\bpid=\d+(?:, ip=[\w.:]+)?)\)\s?")
LEVEL = re.compile(
    r"(?:\[\d{4}-[\d-]+ [\d:,.]+(?P<rank>[^\]]*)\]\s?)?"  # SGLang: `[2026-11-26 17:36:52 TP0] text`
    r"(?:(?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL)(?::\s+| \d\d-\d\d [\d:.]+ (?:\[[^\]]*\]|[\w./-]+:\d+\])\s?))?"
)
HARMLESS = frozenset({"DEBUG", "INFO", "WARNING"})
SURVIVED = re.compile(r"Ignore (?:import )?error")  # logged about failures that do not stop the engine
TRACEBACK = "Traceback (most recent call last):"
IGNORED = "Exception ignored in"  # of what ran while objects were thrown away
CHAIN = ("During handling of the above exception", "The above exception was the direct cause")
ERROR = re.compile(r"(?:[A-Za-z_]\w*\.)*[A-Z]\w*(?:Error|Exception)(?:: .*|:?$)")
LAST_FRAMES = 4  # lines
MESSAGE_LINES = 12  # of one error; a validation error is the longest that is met

# These tell that something else failed.
SECONDARY = re.compile(
    r"EngineDeadError|EngineCore encountered|Engine core (?:proc \S+ )?(?:initialization failed|died)|Failed core proc"
    r"|WorkerProc (?:initialization )?failed|Worker proc \S+ died unexpectedly|Engine process failed to start"
    r"|Engine background task failed|Background loop (?:has errored|is stopped)|Executor failed|MQEngineDeadError"
    r"|CancelledError|KeyboardInterrupt|SystemExit|BrokenPipeError|ConnectionResetError|EOFError|ContextTerminated"
    r"|Rank \d+ scheduler (?:is dead|died)|Initialization failed\. Please see the error messages above"
    r"|remote process exited|Connection (?:closed|reset) by (?:remote )?peer|recvValue failed|Broken pipe"
    r"|RuntimeError: cancelled$|Connection was likely closed|Failed to recv, got 0 bytes"
    r"|TP rank \d+ could finish the model loading|Server process exited with code"
    r"|cannot schedule new futures|Event loop is closed|I/O operation on closed file|leaked (?:shared_memory|semaphore)"
)


@dataclass(frozen=True)
class Line:
    """A line of a log. `level` None: it has none, as lines of a traceback. `text` keeps its indentation."""

    process: str
    level: str | None
    text: str


@dataclass(frozen=True)
class Failure:
    """One error. `error`: its first line. `message`: all its lines. `chain`: those of the errors it was raised from and its
    own. `frames`: the end of its traceback."""

    error: str
    message: str
    chain: str
    frames: str
    place: int

    @property
    def texts(self) -> tuple[str, ...]:
        """Where to look for what it means, the surest first. Code of frames says something only where the error says nothing."""
        silent = (self.frames,) if self.error == "AssertionError" else ()
        return (self.error, self.message, self.chain, *silent)

    @property
    def secondary(self) -> bool:
        """Whether it only says that another process failed."""
        return bool(SECONDARY.search(self.error))


def read_line(line: str) -> Line:
    """Take a line apart: process, level, text. Any of the prefixes may be missing; there may be several processes."""
    process, rest = "", line
    while match := CARRIER.match(rest):
        process, rest = match["rank"] or process, rest[match.end() :]
    while match := PROCESS.match(rest):
        process, rest = match["name"], rest[match.end() :]
    head = LEVEL.match(rest)
    if head is None:
        return Line(process, None, rest)
    return Line(process or (head["rank"] or "").strip(), head["level"], rest[head.end() :])


def read_lines(lines: Iterable[str]) -> list[Line]:
    """The lines that may speak of a failure: warnings and less are left out."""
    return [line for line in map(read_line, lines) if line.level not in HARMLESS and not SURVIVED.match(line.text)]


def failures(lines: Iterable[Line]) -> list[Failure]:
    """Every error in the order of the log, those of one process read together."""
    by_process: dict[str, list[tuple[int, str]]] = {}
    for place, line in enumerate(lines):
        by_process.setdefault(line.process, []).append((place, line.text))
    all_failures = [failure for own in by_process.values() for failure in _of_process(own)]
    return sorted(all_failures, key=lambda failure: failure.place)


def cause(lines: Iterable[Line]) -> Failure | None:
    """The last error that is no consequence of another."""
    return next((failure for failure in reversed(failures(lines)) if not failure.secondary), None)


def _of_process(lines: list[tuple[int, str]]) -> list[Failure]:
    failures: list[Failure] = []
    frames: list[str] | None = None  # of the traceback at hand, None outside of one
    before: list[str] = []  # the error that the next one may have been raised from
    chained = ignored = False
    for index, (place, text) in enumerate(lines):
        bare = text.strip()
        if bare.startswith(IGNORED):
            ignored = True
            continue
        if bare.endswith(TRACEBACK):
            frames = []
            before = before if chained else []
            continue
        if bare.startswith(CHAIN):
            chained = True
            continue
        if frames is not None and text.startswith((" ", "\t")):
            frames.append(bare)
            continue
        if frames is None and not ERROR.fullmatch(bare):
            continue
        message = _message([line for _, line in lines[index : index + MESSAGE_LINES]])
        before = [*before, *message] if chained else message
        if not ignored:
            last = "\n".join((frames or [])[-LAST_FRAMES:])
            failures.append(Failure(bare, "\n".join(message), "\n".join(before), last, place))
        frames, chained, ignored = None, False, False
    return failures


def _message(lines: list[str]) -> list[str]:
    """The error's line and what follows, up to the next traceback."""
    kept = [lines[0].strip()]
    for line in lines[1:]:
        if line.strip().endswith(TRACEBACK) or line.startswith((*CHAIN, IGNORED)) or ERROR.fullmatch(line.strip()):
            break
        kept.append(line.strip())
    return kept

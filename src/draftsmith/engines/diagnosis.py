"""Why a server did not start or went away: its log and exit code turned into one sentence and a next step.

What is common to engines is here; each engine adds the texts of its own (`Known`).
"""

from __future__ import annotations

import re
import signal
from collections.abc import Iterable
from dataclasses import dataclass

from draftsmith.engines import tracebacks
from draftsmith.engines.causes import CAUSES, Cause

ANSI = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")  # colours, and what moves a cursor
TAIL_LINES = 30
TAIL_WIDTH = 400

# Lines that may carry what a user wrote (--enable-log-requests, DEBUG): never shown.
PRIVATE = re.compile(
    r"Received request|Generated response|prompts?[\'\"]?[=:]|prompt_token_ids|messages[\'\"]?[=:]", re.IGNORECASE
)

NOISE = re.compile(r"it/s\]|s/it\]|nanobind|leaked|resource_tracker|^usage:|^\s+\[-")


@dataclass(frozen=True)
class Diagnosis:
    """`recognised` False: no known pattern matched, the cause is only the last error line."""

    cause: str
    next_step: str
    recognised: bool = True


KILLED = Diagnosis(
    "the engine's process was killed (signal 9), which the kernel does when memory runs out",
    "lower engine.cpu_kv_gib, engine.max_num_seqs or the number of servers kept up, or add memory",
)
WORKER_DIED = re.compile(
    r"Worker proc [\w-]+ died unexpectedly|WorkerProc (?:initialization )?failed|EngineDeadError|Failed core proc\(s\): \{[^}]"
)
CRASHES = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE})
CODE_OF_KILL = (-signal.SIGKILL, 128 + signal.SIGKILL)
KILLED_CHILD = re.compile(r"(?i)Failed core proc\(s\): \{[^}]*(?:-9|137)|exit(?:ed with)? ?code[:=]? ?(?:-9|137)\b")


def clean(text: str) -> list[str]:
    """Lines without colour codes; a progress bar's redrawn states count as lines. Split on line feeds and returns only."""
    return [line for line in re.split(r"[\r\n]", ANSI.sub("", text)) if line.strip()]


def diagnose(text: str, exit_code: int | None, own: Iterable[Cause] = (), last: Iterable[Cause] = ()) -> Diagnosis:
    """Name the cause from a server's log and its exit code (None = still running). `own`, `last`: causes of
    this engine, before and after those of every engine.

    Only errors and lines without a level (tracebacks) are looked at: warnings speak of things that went on working. Where
    the log has a true error, it alone decides; what another process says of it (EngineDeadError) does not.
    """
    lines = tracebacks.read_lines(clean(text))
    failure = tracebacks.cause(lines)
    plain = "\n".join(line.text.strip() for line in lines if not line.text.startswith("usage:"))
    for part in failure.texts if failure else (plain,):
        if diagnosis := _known(part, (*own, *CAUSES, *last)):
            return diagnosis
    # An engine that failed may kill its own processes (SGLang does): the error that it wrote before says more than the signal.
    if (failure is None and exit_code in CODE_OF_KILL) or KILLED_CHILD.search(plain):
        return KILLED
    if exit_code == 127 and "cannot run" in plain:
        return Diagnosis(
            "the engine's interpreter cannot be run", "set engine.python to a working Python that has the engine"
        )
    if failure is None and WORKER_DIED.search(plain):
        return Diagnosis(
            "a worker process of the engine died without a word",
            "look for the out-of-memory killer in the kernel's log",
        )
    if failure is None and exit_code is not None and exit_code < 0 and -exit_code not in CRASHES:
        name = signal.Signals(-exit_code).name if -exit_code in set(signal.Signals) else str(-exit_code)
        return Diagnosis(f"the engine's process was ended by {name}", "find out who sent the signal, and start again")
    if failure is None and (crash := _crash(plain, exit_code)):
        return crash
    reason = failure.error[:TAIL_WIDTH] if failure and not PRIVATE.search(failure.error) else None
    described = f"with code {exit_code}" if exit_code is not None else "(it still runs)"
    return Diagnosis(
        f"the engine failed {described}: {reason}" if reason else f"the engine stopped {described} and gave no reason",
        "read the end of its log"
        + ("; the kernel too kills when memory runs out" if exit_code in CODE_OF_KILL else ""),
        recognised=False,
    )


def _known(text: str, causes: Iterable[Cause]) -> Diagnosis | None:
    for pattern, cause, step in causes:
        if match := re.search(pattern, text):
            return Diagnosis(_fill(cause, match), step)
    return None


def _crash(text: str, exit_code: int | None) -> Diagnosis | None:
    """A crash in native code, which leaves no traceback."""
    match = re.search(r"!!!!!!! (Segfault) encountered|Fatal Python error: ([\w ]+)|(Bus error)", text)
    if not match and (exit_code is None or -exit_code not in CRASHES):
        return None
    signal_name = next(filter(None, match.groups())) if match else signal.Signals(-(exit_code or 0)).name
    return Diagnosis(
        f"the engine crashed in native code ({signal_name})",
        "read the end of its log; a bus error often means that /dev/shm is too small",
    )


def tail(text: str, lines: int = TAIL_LINES) -> str:
    """The last lines without stack frames, progress bars and anything that may be a prompt.

    The frames of three processes would push the root cause out of any short tail.
    """
    kept = [line for line in clean(text) if not PRIVATE.search(line) and not NOISE.search(line) and not _frame(line)]
    return "\n".join(line[:TAIL_WIDTH] for line in kept[-lines:])


def _fill(template: str, match: re.Match[str]) -> str:
    for number, group in enumerate(match.groups(), start=1):
        template = template.replace(f"{{{number}}}", (group or "").strip().rstrip("."))
    return " ".join(re.sub(r"\{\d\}", "", template).split())


def _frame(line: str) -> bool:
    text = tracebacks.read_line(line).text
    return text.startswith(("  File ", "    "))

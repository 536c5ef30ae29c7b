"""Log lines as JSON, one object a line, each with the run that it belongs to. No traffic ever comes here: callers say facts and counts."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

# Of a job's environment: how its log is written, and the run that it belongs to.
FORMAT, RUN_ID = "DRAFTSMITH_LOG_FORMAT", "DRAFTSMITH_RUN_ID"
_RUN: ContextVar[str | None] = ContextVar("run_id", default=None)


@contextlib.contextmanager
def of_run(run_id: str) -> Iterator[None]:
    """Whatever is logged inside belongs to this run."""
    token = _RUN.set(run_id)
    try:
        yield
    finally:
        _RUN.reset(token)


def line(event: str, message: str, *, level: str = "info", now: float | None = None, **fields: Any) -> str:
    """`{"time": ..., "level": ..., "run_id": ..., "event": ..., "message": ...}` and what else is given. Times are UTC."""
    moment = time.time() if now is None else now
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment)) + f".{int(moment % 1 * 1000):03d}Z"
    text = {
        "time": stamp,
        "level": level,
        "run_id": _RUN.get() or os.environ.get(RUN_ID),
        "event": event,
        "message": message,
        **fields,
    }
    return json.dumps(text, ensure_ascii=False, default=str)


def of_job(run_id: str) -> dict[str, str]:
    """What a job needs in its environment so that its log is as its command's is."""
    return {RUN_ID: run_id} | ({FORMAT: "json"} if os.environ.get(FORMAT) == "json" else {})


def tell(event: str, message: str, *, level: str = "info", **fields: Any) -> bool:
    """A line on standard error where log lines are JSON; False where they are not, and nothing was written."""
    if os.environ.get(FORMAT) != "json":
        return False
    print(line(event, message, level=level, **fields), file=sys.stderr, flush=True)
    return True

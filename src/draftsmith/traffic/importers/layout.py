"""Formats as data: where in a record the prompt, the answer, the counts and the times are. Also what `--map FILE.toml` reads.

A path is `a.b[0].c`; `["a.b"]` is a name with dots in it, `*` the first entry that leads on, `[-1]` the last. Paths go into JSON that
a log keeps inside strings. Of several paths the first that leads somewhere counts.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path as File
from typing import Any

from draftsmith.contract.errors import InputError
from draftsmith.traffic.importers import parts
from draftsmith.traffic.importers.base import Fields, Importer, SkipError, count, duration, each, embedded, seconds
from draftsmith.traffic.importers.bodies import FAILED, both, name_of
from draftsmith.traffic.importers.counts import or_else, usage_of
from draftsmith.traffic.importers.parameters import asked

Path = tuple[str | int, ...]
_STEP = re.compile(r"""\[(-?\d+)\]|\["([^"]*)"\]|\['([^']*)'\]|\.?([^.\[\]]+)""")
MISSING = object()


def path_of(text: str) -> Path:
    """A path from its text. Raises ValueError if it is none."""
    steps: list[str | int] = []
    at = 0
    while at < len(text):
        match = _STEP.match(text, at)
        if not match:
            raise ValueError(f"{text!r} is not a path")
        index, first, second, name = match.groups()
        steps.append(
            int(index) if index is not None else next(step for step in (first, second, name) if step is not None)
        )
        at = match.end()
    if not steps:
        raise ValueError("an empty path")
    return tuple(steps)


def look(value: Any, path: Path) -> Any:
    """What stands at a path; MISSING if it leads nowhere."""
    for place, step in enumerate(path):
        if isinstance(value, str) and value.lstrip()[:1] in ("{", "["):
            value = embedded(value)
        if step == "*":
            inside = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
            values = (look(item, path[place + 1 :]) for item in inside)
            return next((item for item in values if item is not MISSING), MISSING)
        if isinstance(step, int):
            if not isinstance(value, list) or not -len(value) <= step < len(value):
                return MISSING
            value = value[step]
        elif isinstance(value, dict) and step in value:
            value = value[step]
        else:
            return MISSING
    return value


def _paths(value: Any) -> tuple[Path, ...]:
    texts = [value] if isinstance(value, str) else value
    if not isinstance(texts, list | tuple) or not all(isinstance(text, str) for text in texts):
        raise ValueError("not a path, nor a list of paths")
    return tuple(path_of(text) for text in texts)


@dataclass(frozen=True)
class Layout:
    """Where a record's parts are: each is a path or several. `rows` leads to a list of records inside one value.

    `first` is the moment of the first token. `*_ms` and `*_ns` are in those units. A record is skipped as failed if something true
    stands at `failed`, something false at `succeeded`, or a status of 400 and more at `status`.
    """

    rows: str | tuple[str, ...] = ()
    prompt: str | tuple[str, ...] = ()
    answer: str | tuple[str, ...] = ()
    reasoning: str | tuple[str, ...] = ()
    tool_calls: str | tuple[str, ...] = ()
    params: str | tuple[str, ...] = ()
    usage: str | tuple[str, ...] = ()
    prompt_tokens: str | tuple[str, ...] = ()
    completion_tokens: str | tuple[str, ...] = ()
    cached_tokens: str | tuple[str, ...] = ()
    prompt_token_ids: str | tuple[str, ...] = ()
    output_token_ids: str | tuple[str, ...] = ()
    start: str | tuple[str, ...] = ()
    end: str | tuple[str, ...] = ()
    first: str | tuple[str, ...] = ()
    latency_s: str | tuple[str, ...] = ()
    latency_ms: str | tuple[str, ...] = ()
    latency_ns: str | tuple[str, ...] = ()
    ttft_s: str | tuple[str, ...] = ()
    ttft_ms: str | tuple[str, ...] = ()
    model: str | tuple[str, ...] = ()
    id: str | tuple[str, ...] = ()
    conversation: str | tuple[str, ...] = ()
    route: str | tuple[str, ...] = ()
    adapter: str | tuple[str, ...] = ()
    finish_reason: str | tuple[str, ...] = ()
    status: str | tuple[str, ...] = ()
    failed: str | tuple[str, ...] = ()
    succeeded: str | tuple[str, ...] = ()
    cached: str | tuple[str, ...] = ()
    _compiled: dict[str, tuple[Path, ...]] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        for name in NAMES:
            self._compiled[name] = _paths(getattr(self, name))

    def get(self, row: Any, name: str) -> Any:
        """The first value that stands at one of the paths of `name`, nulls and empty texts passed over; else None."""
        for path in self._compiled[name]:
            value = look(row, path)
            if value is not MISSING and value is not None and value != "":
                return value
        return None

    def records(self, value: Any) -> Iterator[Fields | SkipError]:
        """The requests of one value."""
        if not self.rows:
            yield self.record(value)
            return
        rows = self.get(value, "rows")
        if not isinstance(rows, list):
            raise SkipError("no list of records where it should be")
        if not rows:
            raise SkipError("a list without records")
        yield from each(rows, self.record)

    def record(self, row: Any) -> Fields:
        """One request."""
        self._check(row)
        lost: parts.Lost = parts.Lost()
        get = self.get
        answer, reasoning, calls = get(row, "answer"), get(row, "reasoning"), get(row, "tool_calls")
        if reasoning or calls:
            answer = {
                "role": "assistant",
                "content": answer or "",
                "reasoning": reasoning or "",
                "tool_calls": embedded(calls) or [],
            }
        prompt = get(row, "prompt")
        made = both(prompt, answer, lost)
        counted = {key: count(get(row, key)) for key in ("prompt_tokens", "completion_tokens", "cached_tokens")}
        logged = embedded(get(row, "usage"))
        usage = or_else(or_else(counted, usage_of(logged)), made.get("usage") or {})
        made["usage"] = usage
        params = embedded(get(row, "params"))
        if isinstance(params, dict):
            made["params"] = {**asked(params), **made["params"]}
        for key in ("model", "id", "conversation", "route", "adapter", "finish_reason"):
            name = name_of(get(row, key))
            if name:
                made[key] = name
        for key in ("prompt_token_ids", "output_token_ids"):
            name = embedded(get(row, key))
            if isinstance(name, list):
                made[key] = name
        made["timing"] = self._timing(row) or made.get("timing")
        return made

    def _check(self, row: Any) -> None:
        status = self.get(row, "status")
        status = int(status) if isinstance(status, str) and status.isdigit() else status
        if isinstance(status, int) and not isinstance(status, bool) and (status >= 400 or status < 0):
            raise SkipError(FAILED)
        failed = self.get(row, "failed")
        if failed and str(failed).lower() not in ("false", "null", "none", "0", "{}", "[]"):
            raise SkipError(FAILED)
        good = self.get(row, "succeeded")
        if good is False or str(good).lower() in ("false", "failure", "failed", "error"):
            raise SkipError(FAILED)
        if str(self.get(row, "cached")).lower() in ("true", "hit", "semantic hit"):
            raise SkipError("answered from the gateway's cache")

    def _timing(self, row: Any) -> Fields | None:
        from draftsmith.traffic.importers.base import timing

        latency = _scaled(self, row, "latency")
        start, end = self.get(row, "start"), self.get(row, "end")
        if start is None and end is not None and latency is not None:
            stop = seconds(end)
            start = stop - latency if stop is not None else end
        if latency is not None and latency < 0:
            latency = None
        made = timing(start, end=end, first=self.get(row, "first"), latency_s=latency)
        ttft = _scaled(self, row, "ttft")
        if made and ttft is not None and made.get("ttft_s") is None and ttft >= 0:
            made["ttft_s"] = ttft
        return made


NAMES = tuple(field.name for field in fields(Layout) if not field.name.startswith("_"))


def _scaled(layout: Layout, row: Any, name: str) -> float | None:
    for unit, divisor in (("s", 1.0), ("ms", 1e3), ("ns", 1e9)):
        key = f"{name}_{unit}"
        duration_s = duration(layout.get(row, key)) if key in layout._compiled else None
        if duration_s is not None:
            return duration_s / divisor
    return None


def mapped(file: File) -> Importer:
    """The importer that a mapping file describes; it reads every JSON object and CSV row. Raises InputError."""
    try:
        written = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read the mapping {file.name}: {error.strerror}", "check the path") from None
    except (ValueError, UnicodeDecodeError) as error:
        raise InputError(
            f"{file.name} is not TOML: {error}", 'write lines such as: prompt = "request.messages"'
        ) from None
    for key in written:
        if key not in NAMES:
            near = difflib.get_close_matches(key, NAMES, 1)
            raise InputError(
                f"{file.name}: a mapping has no {key!r}" + (f"; did you mean {near[0]!r}?" if near else ""),
                f"use some of: {', '.join(NAMES)}",
            )
    if not {"prompt", "answer", "prompt_tokens", "completion_tokens", "usage"} & written.keys():
        raise InputError(f"{file.name} says neither where text nor where counts are", "name at least prompt and answer")
    settled: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list) else value for key, value in written.items()
    }
    try:
        layout = Layout(**settled)
    except (ValueError, TypeError) as error:
        raise InputError(f"{file.name}: {error}", 'write paths such as "request.messages" or "a.b[0].text"') from None
    return Importer("map", lambda _: True, layout.records)

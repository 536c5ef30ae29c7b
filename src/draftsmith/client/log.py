"""From a prompts file to an access log, resumable."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson

from draftsmith.client.replay import Pacing, Reply, Request, Target, replay, served_model
from draftsmith.contract.errors import InputError, PrerequisiteError
from draftsmith.contract.job import JobProgress
from draftsmith.contract.wire import has_media
from draftsmith.kit.files import LineLog, cut_torn_line, read_lines

RECORD_START = b'{"schema":"draftsmith_access_v1"'
LONGEST_LINE = 1 << 28
DROPPED_PARAMS = ("stream", "stream_options", "n", "model", "messages")


def record(
    prompts: Path,
    out: Path,
    *,
    endpoint: str,
    model: str | None = None,
    concurrency: int = 8,
    open_loop: bool = False,
    speed: float = 1.0,
    limit: int | None = None,
    max_tokens: int | None = None,
    api_key_env: str | None = None,
    on_progress: Callable[[JobProgress], None] | None = None,
) -> dict[str, Any]:
    """Replay the prompts that `out` has no answer for; append each record as it comes. Returns figures.

    Prompts with media are left out and counted: an address in them would be fetched by the server.

    Raises InputError for an unreadable prompts file, EngineLostError if the server goes away: what was answered stays.
    """
    key = os.environ.get(api_key_env) if api_key_env else None
    if api_key_env and not key:
        raise PrerequisiteError(f"the environment has no {api_key_env}", "export it, or leave --api-key-env out")
    if out.exists() and prompts.exists() and out.samefile(prompts):
        raise InputError("--out is the prompts file itself", "name another file: answers are added to it")
    done = answered_ids(out)
    count = sum(1 for _ in read_requests(prompts, limit, max_tokens))
    target = Target(endpoint, model or served_model(endpoint, key), api_key=key)
    _mend_last_line(out)
    figures = {"answered": 0, "failed": 0, "skipped": 0, "media": 0, "prompt_tokens": 0, "output_tokens": 0}
    began = time.time()

    def pending() -> Iterator[Request]:
        for request in read_requests(prompts, limit, max_tokens):
            if request.id in done:
                figures["skipped"] += 1
            elif has_media(request.messages):
                figures["media"] += 1
            else:
                yield request

    def keep(reply: Reply) -> None:
        log.add(reply.record.model_dump_json(by_alias=True, exclude_none=True))
        figures["failed" if reply.record.error else "answered"] += 1
        figures["prompt_tokens"] += reply.record.usage.prompt_tokens or 0
        figures["output_tokens"] += reply.record.usage.completion_tokens or 0
        if on_progress:
            finished = figures["answered"] + figures["failed"] + figures["skipped"] + figures["media"]
            rate = figures["output_tokens"] / max(time.time() - began, 1e-9)
            on_progress(
                JobProgress(
                    stage="replaying",
                    done=finished,
                    total=count,
                    unit="prompts",
                    note=f"{rate:,.0f} output tokens/s",
                    started_unix_s=began,
                    updated_unix_s=time.time(),
                )
            )

    with LineLog(out) as log:
        wall_s, peak, _ = replay(pending(), target, Pacing(concurrency, open_loop, speed), keep)
    return {**figures, "wall_s": wall_s, "peak_concurrency": peak, "concurrency": concurrency, "log": str(out)}


def answered_ids(log: Path) -> set[str]:
    """Ids that an access log already answers. Raises InputError if it is another kind of file: nothing is changed in it.

    A last line without an end is the rest of an interrupted write only if it begins as our records do.
    """
    done: set[str] = set()
    if log.exists() and not log.is_file():
        raise InputError(f"{log.name} is no regular file", "name another file with --out")
    begins = _last_line(log)[:256].replace(b" ", b"")
    if not (begins.startswith(RECORD_START) or RECORD_START.startswith(begins)):
        raise InputError(
            f"{log.name} ends in a line that is no record of an access log", "name another file with --out"
        )
    for number, line in enumerate(read_lines(log), start=1):
        try:
            value = orjson.loads(line)
            if not value.get("error"):
                done.add(value["id"])
        except (ValueError, AttributeError, LookupError):
            raise InputError(
                f"{log.name} line {number} is no record of an access log",
                "remove that line, or name another file with --out",
            ) from None
    return done


def _last_line(log: Path) -> bytes:
    """What follows the last newline; empty if the file ends with one or is not there."""
    if not log.exists() or not log.stat().st_size:
        return b""
    with log.open("rb") as source:
        source.seek(max(0, log.stat().st_size - LONGEST_LINE))
        return source.read().rpartition(b"\n")[2]


def _mend_last_line(log: Path) -> None:
    """Finish a whole record that lacks its newline; remove the beginning of one that was interrupted."""
    torn = _last_line(log)
    if not torn:
        return
    try:
        orjson.loads(torn)
    except ValueError:
        cut_torn_line(log)
        return
    with log.open("ab") as out:
        out.write(b"\n")


def read_requests(prompts: Path, limit: int | None, max_tokens: int | None) -> Iterator[Request]:
    """The prompts of a JSON-lines file, in order. Raises InputError naming the line that is none."""
    if not prompts.exists():
        raise InputError(f"{prompts} does not exist", "give a JSON-lines file of prompts")
    for number, line in enumerate(read_lines(prompts), start=1):
        if limit is not None and number > limit:
            return
        try:
            value = orjson.loads(line)
            params = {k: v for k, v in (value.get("params") or {}).items() if k not in DROPPED_PARAMS}
            own_limit = params.pop("max_tokens", None) or value.get("max_tokens")
            yield Request(
                id=str(value.get("id") or f"line-{number}"),
                messages=value.get("messages"),
                prompt_token_ids=value.get("prompt_token_ids"),
                params=params,
                max_tokens=own_limit or max_tokens,
                arrival_s=value.get("arrival_s"),
                conversation=value.get("conversation"),
                route=value.get("route") or value.get("tenant"),
            )
        except (ValueError, AttributeError) as error:
            raise InputError(
                f"{prompts.name} line {number} is not a prompt ({type(error).__name__})",
                "each line is a JSON object with `messages` or `prompt_token_ids`",
            ) from None

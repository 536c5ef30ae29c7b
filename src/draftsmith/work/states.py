"""Asking a capture server for hidden states, row by row, into a private folder.

A captured file is `<key>.safetensors` with `hidden_states [T, layers, hidden]` and `token_ids [T]`. It appears under its
final name only when it is whole, so a restart asks for what is missing and nothing else.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from draftsmith.client.replay import Pacing, Reply, Request, Target, replay
from draftsmith.contract.errors import EngineError, PrerequisiteError
from draftsmith.engines.base import Server
from draftsmith.work.inside.state_names import key as key  # part of this module's interface
from draftsmith.work.inside.state_names import states_path as states_path

CAPTURE = {"kv_transfer_params": {"include_output_tokens": True}}
SPARE_BYTES = 2 * 2**30
WRITE_TIMEOUT_S = 180.0
LOOK_AGAIN_S = 0.005


def require_space(folder: Path, needed_bytes: int) -> None:
    """Raise PrerequisiteError if the disk cannot hold `needed_bytes` and a reserve."""
    free = shutil.disk_usage(folder).free
    if free < needed_bytes + SPARE_BYTES:
        raise PrerequisiteError(
            f"hidden states need {needed_bytes / 2**30:.1f} GiB, the disk of {folder.name} has {free / 2**30:.1f} GiB free",
            "free space, or lower corpus.max_rows",
        )


def _wait_for_file(reply: Reply) -> Path:
    """The file of an answer. The engine answers first and writes right after; the file appears whole, by rename."""
    named = (reply.transfer or {}).get("hidden_states_path")
    if not named:
        raise EngineError(
            "the capture server answered without naming hidden states", "see its log for the connector's error"
        )
    deadline = time.monotonic() + WRITE_TIMEOUT_S
    while not Path(named).is_file():
        if time.monotonic() > deadline:
            raise EngineError(
                f"hidden states of an answer did not appear within {WRITE_TIMEOUT_S:.0f} s",
                "see the capture server's log: the disk may be full",
            )
        time.sleep(LOOK_AGAIN_S)
    return Path(named)


def capture(
    requests: Iterable[Request],
    server: Server,
    folder: Path,
    concurrency: int,
    on_reply: Callable[[Reply], None],
) -> None:
    """Send requests to a capture server and put each answer's states in place before `on_reply` hears of it."""
    target = Target(server.url, server.spec.served_name, stream=False, extra=CAPTURE)

    def keep(reply: Reply) -> None:
        if reply.record.error is None:
            _wait_for_file(reply).rename(states_path(folder, reply.record.id))
        on_reply(reply)

    replay(requests, target, Pacing(concurrency), keep)


def logprobs(requests: Iterable[Request], server: Server, concurrency: int) -> dict[str, list[Any]]:
    """The engine's `prompt_logprobs` of each request's own tokens, by id. What the server captures meanwhile is deleted.

    Raises EngineError if the engine does not tell.
    """
    target = Target(server.url, server.spec.served_name, stream=False, extra=CAPTURE | {"prompt_logprobs": 0})
    found_logprobs: dict[str, list[Any]] = {}

    def keep(reply: Reply) -> None:
        if reply.record.error is not None or not reply.prompt_logprobs:
            raise EngineError(
                f"the engine did not tell its log probabilities ({reply.record.error or 'none in its answer'})",
                "run again; they prove states of answers that were not decoded greedily",
            )
        _wait_for_file(reply).unlink()
        found_logprobs[reply.record.id] = reply.prompt_logprobs

    replay(requests, target, Pacing(concurrency), keep)
    return found_logprobs

"""What an earlier run of the workspace made from the same inputs is taken over instead of made again.

Laws:
- The same inputs by digest: target, traffic, versions, and every setting that the phase looks at. What was copied is
  checked against its own digest before it is used.
- Only what is derived is taken over. A comparison is evidence of its own run, and is measured anew.
- A run owns what it uses: the files are copied (hidden states, which are only ever deleted, are linked), so either run
  may be purged or discarded without the other. Killed in between, the same copy is made again.
- What only feeds a phase that is taken over is not made: no hidden states are captured for a draft that exists.
- A phase that was begun, or that the operator asked for anew, is not taken over. Nor is anything by a run begun with `--new`.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from draftsmith.contract.base import digest
from draftsmith.contract.errors import DraftsmithError, InputError, RefusedError
from draftsmith.contract.job import JobResult
from draftsmith.kit.files import private_dir, read_json
from draftsmith.loop.advance import completed
from draftsmith.loop.lock import alone
from draftsmith.phases.base import PhaseContext
from draftsmith.store.runs import Event, Run, Store

DERIVED = ("profile", "corpus", "capture", "train")
FEEDS = {"capture": "train"}  # what a phase makes is used by this one alone


def take_over(run: Run, phase: str, inputs: str) -> JobResult | None:
    """The result of the same job in an earlier run, its files now in this one; None if there is none to be had."""
    if phase not in DERIVED or _wants_its_own(run.events(), phase):
        return None
    for other in reversed(Store(run.folder.parent.parent).runs()):
        event = _result_of(other, phase) if other.folder != run.folder else None
        if event is None or not event.data.get("passed") or event.data.get("inputs") != inputs:
            continue
        result = JobResult.model_validate(event.data["result"])
        with contextlib.suppress(OSError, ValueError, LookupError, DraftsmithError):  # gone, changed or in use
            return _copied(run, other, phase, result)
        _clear(run, phase)
    _clear(run, phase)
    return None


def spared(context: PhaseContext, phase: str) -> JobResult:
    """The result of a phase that is not needed: its outputs have names, and nothing is there."""
    outputs = {"states": str(context.folder / "phases" / phase / "states"), "layer_ids": list(context.layer_ids)}
    return JobResult(ok=True, outputs=outputs, figures={"spared": True})


def may_be_spared(run: Run, phase: str) -> bool:
    """Whether `phase` could be left out: it feeds one other phase, and neither begun nor asked for."""
    return phase in FEEDS and not _wants_its_own(run.events(), phase)


def _result_of(other: Run, phase: str) -> Event | None:
    try:
        return completed(other.events()).get(phase)
    except InputError:  # torn, or of a newer version: nothing to take over, and no reason to stop
        return None


def _clear(run: Run, phase: str) -> None:
    """Delete the leftovers of an interrupted or invalid copy. This is safe: the phase has not started in this run.

    States come with the corpus whose answers they were captured with; those of a capture's copy belong to the same rows.
    """
    for name in {"corpus": ("corpus", "capture"), "capture": ()}.get(phase, (phase,)):
        shutil.rmtree(run.folder / "phases" / name, ignore_errors=True)


def outputs_exist(result: JobResult) -> bool:
    """Whether every file and folder that a job says it made is still there."""
    return all(path.exists() for path in _paths(result))


def _wants_its_own(events: list[Event], phase: str) -> bool:
    begun = any(event.phase == phase and event.kind in ("submitted", "adopted", "cleared") for event in events)
    return begun or any(event.kind == "started" and event.data.get("new") for event in events)


def _copied(run: Run, other: Run, phase: str, result: JobResult) -> JobResult:
    """Copy and check. Raises OSError, ValueError or DraftsmithError if it is not what the result says."""
    with alone(other.folder):
        if not all(path.exists() for path in _paths(result) if path.is_relative_to(other.folder / "phases" / phase)):
            raise RefusedError(f"{other.folder.name} no longer has what {phase} made", "it is made again")
        for path in _paths(result):
            if path.exists():
                _replace(path, run.folder / path.relative_to(other.folder))
    origin = result.reused_from or other.record.run_id
    taken = result.model_copy(update={"outputs": _moved(result.outputs, other, run), "reused_from": origin})
    if _checksum(phase, taken) != result.outputs.get(_CHECKED.get(phase, ("", ""))[1]):
        raise RefusedError(f"{phase} of {other.folder.name} was changed since", "it is made again")
    return taken


# Phase -> (output that is checked, output that holds its digest). States are checked by the training that reads them.
_CHECKED = {
    "profile": ("profile", "profile_sha256"),
    "corpus": ("corpus", "rows_sha256"),
    "train": ("draft", "draft_sha256"),
}


def _checksum(phase: str, result: JobResult) -> str | None:
    if phase not in _CHECKED:
        return None
    path = Path(result.outputs[_CHECKED[phase][0]])
    if phase == "corpus":
        from draftsmith.corpus.reading import open_corpus

        return open_corpus(path).rows_sha256
    if phase == "train":
        from draftsmith.trainers.lint_files import weights_sha256

        return weights_sha256(path)
    return digest({key: value for key, value in read_json(path).items() if key not in ("sha256", "created_unix_s")})


def _paths(result: JobResult) -> Iterator[Path]:
    return (Path(value) for value in result.outputs.values() if isinstance(value, str) and value.startswith("/"))


def _moved(outputs: dict[str, Any], other: Run, run: Run) -> dict[str, Any]:
    before, now = f"{other.folder}/", f"{run.folder}/"
    return {
        name: now + value.removeprefix(before) if isinstance(value, str) and value.startswith(before) else value
        for name, value in outputs.items()
    }


def _replace(source: Path, target: Path) -> None:
    """Put a copy of `source` in place of whatever an interrupted copy left."""
    private_dir(target.parent)
    if not source.is_dir():
        shutil.copy2(source, target)
        return
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target, symlinks=True, copy_function=_linked if source.name == "states" else shutil.copy2)


def _linked(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # a file system without hard links
        shutil.copy2(source, target)

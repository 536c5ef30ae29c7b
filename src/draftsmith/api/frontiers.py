"""The frontier of a workspace, kept over runs in frontier.json and written for people as HANDOFF.md."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from draftsmith.contract.config import Config, parse_config
from draftsmith.contract.errors import DraftsmithError, InputError
from draftsmith.contract.frontier import Evidence, Frontier, FrontierLever
from draftsmith.contract.job import JobResult
from draftsmith.kit.files import read_json, write_atomic, write_json
from draftsmith.kit.lock import LockHeldError, held
from draftsmith.report.frontier import handoff, updated
from draftsmith.report.parts import ReportParts
from draftsmith.store.bundle_check import manifest_sha256_of
from draftsmith.store.runs import Run

FILE, PAGE, LOCK = "frontier.json", "HANDOFF.md", ".frontier.lock"
WAIT_S = 10.0


def frontier(config: Config) -> Frontier:
    """What to try next on this workspace, and what was refuted. Raises InputError if the file is torn or of another version."""
    return _read(Path(config.workspace).resolve())


def refute_lever(config: Config, key: str, because: str, evidence: str | None = None) -> Frontier:
    """Close an open lever with the reason, and the run that shows it. Raises InputError for a key that is not there."""
    if not because.strip():
        raise InputError("a lever is refuted with its reason", "give --because")

    def change(frontier: Frontier) -> Frontier:
        lever = _lever(frontier, key)
        by = Evidence(run_id=evidence or "an operator", at_unix_s=time.time())
        return _with(frontier, lever.model_copy(update={"state": "refuted", "because": because, "refuted_by": by}))

    return _change(Path(config.workspace).resolve(), change)


def reopen_lever(config: Config, key: str) -> Frontier:
    """Open a refuted or settled lever again. Raises InputError for a key that is not there."""

    def change(frontier: Frontier) -> Frontier:
        lever = _lever(frontier, key)
        return _with(frontier, lever.model_copy(update={"state": "open", "because": None, "refuted_by": None}))

    return _change(Path(config.workspace).resolve(), change)


def learn_from_run(run: Run) -> Frontier:
    """Take what a run measured into its workspace's frontier; returns it."""
    from draftsmith.api.runs import context_of
    from draftsmith.loop.driver import results
    from draftsmith.phases.pipeline import JOBS
    from draftsmith.work.publish import report_parts

    done: dict[str, JobResult] = results(run)
    plan = JOBS["publish"].plan(context_of(run, done)).plan
    parts = report_parts(plan, plan.target, done)
    sha256 = manifest_sha256_of(run.folder) if "publish" in done else None
    by = Evidence(run_id=run.record.run_id, manifest_sha256=sha256, at_unix_s=time.time())
    settings = parse_config(run.record.config, "run.json")
    return _change(run.folder.parent.parent, lambda frontier: updated(frontier, parts, by, settings))


def learn_from_comparison(config: Config, folder: Path) -> Frontier:
    """Take a comparison, or a cell, into the workspace's frontier. Without a workspace it is that of this evidence alone."""
    from draftsmith.work.compare.evidence import comparison_parts

    parts = comparison_parts(folder, read_json(folder / "plan.json") if (folder / "plan.json").is_file() else {})
    by = Evidence(run_id=parts.run_id, manifest_sha256=manifest_sha256_of(folder), at_unix_s=time.time())
    workspace = Path(config.workspace).resolve()
    if not workspace.is_dir():
        return updated(Frontier(), parts, by, config)
    return _change(workspace, lambda frontier: updated(frontier, parts, by, config))


def of_parts(parts: ReportParts, name: str) -> Frontier:
    """What evidence says that belongs to no workspace, such as a profile alone. Nothing is written."""
    return updated(Frontier(), parts, Evidence(run_id=name, at_unix_s=time.time()))


def quietly(learn: Callable[[], Frontier]) -> Frontier | None:
    """None where the frontier cannot be read or written: what was measured stands without it."""
    try:
        return learn()
    except (DraftsmithError, LockHeldError, OSError, ValueError, LookupError):
        return None


def _lever(frontier: Frontier, key: str) -> FrontierLever:
    lever = next((item for item in frontier.levers if item.key == key), None)
    if lever is None:
        raise InputError(
            f"no lever {key!r}", f"levers: {', '.join(item.key for item in frontier.levers) or 'none yet'}"
        )
    return lever


def _with(frontier: Frontier, lever: FrontierLever) -> Frontier:
    kept = [item for item in frontier.levers if item.key != lever.key]
    return frontier.model_copy(update={"levers": (*kept, lever)})


def _change(workspace: Path, change: Callable[[Frontier], Frontier]) -> Frontier:
    with held(workspace / LOCK, WAIT_S):
        after = change(_read(workspace))
        write_json(workspace / FILE, after)
        write_atomic(workspace / PAGE, handoff(after))
    return after


def _read(workspace: Path) -> Frontier:
    path = workspace / FILE
    if not path.is_file():
        return Frontier()
    try:
        return Frontier.model_validate(read_json(path))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{FILE} cannot be read ({type(error).__name__}): torn, or of another version",
            "use the version of draftsmith that wrote it, or move it away",
        ) from None

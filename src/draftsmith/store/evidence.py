"""An evidence bundle: everything a verdict rests on, in one folder that can be handed on and checked offline.

    <out>/<family>/<run-id>/
      SOURCE.md  summary.md  report.html  commands/NN-step.{cmd,plan.json,stdout,stderr,exit}
      plan.json  samples.jsonl  facts.json  verdict.json
      counters.json  workload-profile.json  corpus-manifest.json  draft-manifest.json  training.jsonl
      MANIFEST.json      sha256 and size of every other file, written last: without it a bundle is unfinished

Laws: a bundle appears whole or not at all. No prompt, answer, key or home folder goes in. Text is scrubbed; what hashes are
taken over is never changed, so a plan or trial that holds such a thing is refused (see `store.scrub`).
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from draftsmith.contract.base import digest
from draftsmith.contract.corpus import CorpusManifest
from draftsmith.contract.counters import GpuCounters
from draftsmith.contract.draft import DraftManifest
from draftsmith.contract.errors import EvidenceError
from draftsmith.contract.measure import ComparisonPlan, EngineFacts, Trial
from draftsmith.contract.profile import WorkloadProfile
from draftsmith.contract.verdict import Decision
from draftsmith.kit.files import (
    PRIVATE_FILE,
    private_dir,
    put_back,
    put_in_place,
    read_json,
    sha256_file,
    write_atomic,
    write_json,
)
from draftsmith.kit.lock import LockHeldError, held
from draftsmith.store.bundle_check import MANIFEST, Recompute, VerifyReport, read_manifest, recompute, verify_bundle
from draftsmith.store.campaigns import CAMPAIGNS
from draftsmith.store.scrub import Scrubber, without_places
from draftsmith.verdict.samples import bundle_digest

__all__ = [
    "BundleParts",
    "CommandRecord",
    "Recompute",
    "VerifyReport",
    "recompute",
    "require_portable",
    "verify_bundle",
    "write_bundle",
]

Line = str | bytes
LOCK = ".lock"
WAIT_S = 60.0


@dataclass(frozen=True)
class CommandRecord:
    """One command that was run. `stdout` and `stderr` are text, or files that are read line by line; nothing printed, no
    file. `plan`: the JSON file that told it what to do.
    """

    step: str
    argv: tuple[str, ...]
    stdout: str | Path = ""
    stderr: str | Path = ""
    exit_code: int | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    plan: Path | None = None


@dataclass(frozen=True)
class BundleParts:
    """What goes into a bundle. Only `family` and `run_id` are required: a run that ended early leaves evidence too.

    `source`: provenance for SOURCE.md (versions, model, hardware...). `names`: name -> path prefix, so that a path reads
    `{workspace}/runs/...` wherever the bundle is opened. `secrets`: further values to hide, beside the environment's.
    """

    family: str
    run_id: str
    source: Mapping[str, str] = field(default_factory=dict)
    summary_md: str | None = None
    report_html: str | None = None
    commands: Sequence[CommandRecord] = ()
    plan: ComparisonPlan | None = None
    trials: Iterable[Trial] = ()
    facts: Sequence[tuple[str, EngineFacts]] = ()
    decision: Decision | None = None
    campaigns: Path | None = None
    counters: GpuCounters | None = None
    profile: WorkloadProfile | None = None
    corpus: CorpusManifest | None = None
    draft: DraftManifest | None = None
    training: Iterable[Mapping[str, Any]] = ()
    names: Mapping[str, str] = field(default_factory=dict)
    secrets: tuple[str, ...] = ()


def write_bundle(out: Path, parts: BundleParts, *, replace_after: Callable[[Path], None] | None = None) -> Path:
    """Write `<out>/<family>/<run-id>/` and return it.

    Writing the same evidence again keeps what is there. Raises EvidenceError if other evidence has that name, if the
    parts contradict each other, or if one of them holds something that must not leave the workspace.

    `replace_after`: checks the finished bundle while it still lies beside an earlier one of that name; only if it raises
    nothing does the new one take the earlier one's place, whatever evidence that holds.
    """
    for word in (parts.family, parts.run_id):
        if not re.fullmatch(r"[A-Za-z0-9][\w.-]*", word):
            raise EvidenceError(
                f"{word!r} cannot name a folder of a bundle", "use letters, digits, dot, dash and underscore"
            )
    final = out / parts.family / parts.run_id
    partial = out / parts.family / f".{parts.run_id}.partial"
    scrubber = Scrubber.of(parts.names)
    scrubber = Scrubber(scrubber.names, (*parts.secrets, *scrubber.secrets))
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(held(private_dir(out) / LOCK, WAIT_S))
        except LockHeldError:
            raise EvidenceError(f"another command is writing {final}", "wait for its end, then run again") from None
        put_back(final)
        shutil.rmtree(partial, ignore_errors=True)
        try:
            _private(partial)
            _write_files(partial, parts, scrubber)
            write_manifest(partial)
            if replace_after is None:
                _commit(partial, final)
            else:
                replace_after(partial)
                put_in_place(partial, final)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return final


def require_portable(plan: ComparisonPlan, names: Mapping[str, str] | None = None) -> None:
    """Raise EvidenceError if `plan` holds a secret or a path of this machine. Call it before the plan is frozen.

    `store.scrub.to_names` turns paths into names; `from_names` turns them back when a server is started.
    """
    _refuse(Scrubber.of(names), "plan.json", _plain(plan))


def _write_files(folder: Path, parts: BundleParts, scrubber: Scrubber) -> None:
    trials = list(parts.trials)
    _consistent(parts, trials)
    if parts.plan is not None:
        _refuse(scrubber, "plan.json", _plain(parts.plan))
        write_json(folder / "plan.json", parts.plan)
    if parts.plan is not None or trials:
        _write_lines(folder / "samples.jsonl", (_trial_line(trial, scrubber) for trial in trials))
        facts = [[arm, scrubber.value(_plain(fact))] for arm, fact in parts.facts]
        write_json(folder / "facts.json", facts)
    if parts.campaigns is not None and parts.campaigns.is_file():
        write_atomic(folder / CAMPAIGNS, parts.campaigns.read_text())
    if parts.decision is not None:
        _refuse(scrubber, "verdict.json", _plain(parts.decision))
        write_json(folder / "verdict.json", parts.decision)
    named: tuple[tuple[str, BaseModel | None], ...] = (
        ("counters.json", parts.counters),
        ("workload-profile.json", parts.profile),
        ("corpus-manifest.json", parts.corpus),
        ("draft-manifest.json", parts.draft),
    )
    for name, value in named:
        if value is not None:
            write_json(folder / name, scrubber.value(_plain(value)))
    records = list(parts.training)
    if records:
        _write_lines(folder / "training.jsonl", (_line(scrubber.value(record)) for record in records))
    for number, command in enumerate(parts.commands, start=1):
        _write_command(folder / "commands", number, command, scrubber)
    if parts.report_html is not None:
        write_atomic(folder / "report.html", scrubber.text(parts.report_html))
    write_atomic(folder / "summary.md", scrubber.text(parts.summary_md or _short_summary(parts)))
    write_atomic(folder / "SOURCE.md", scrubber.text(_source_md(parts, trials)))


def _consistent(parts: BundleParts, trials: Sequence[Trial]) -> None:
    """A bundle that could never verify is not written."""
    if parts.plan is None:
        if trials or parts.decision is not None:
            raise EvidenceError("there are trials or a verdict but no plan", "hand over the plan they belong to")
        return
    plan_sha256 = digest(parts.plan)
    strays = [trial.trial_id for trial in trials if trial.plan_sha256 != plan_sha256]
    if strays:
        raise EvidenceError(
            f"samples.jsonl: {len(strays)} trials were measured under another plan, the first is {strays[0]}",
            "hand over the trials of this plan only",
        )
    if parts.decision is None:
        return
    for label, computed, recorded in (
        ("plan", plan_sha256, parts.decision.plan_sha256),
        ("trials", bundle_digest(trials), parts.decision.samples_sha256),
    ):
        if computed != recorded:
            raise EvidenceError(
                f"verdict.json was decided on another set of {label}", "decide again, then write the bundle"
            )


def _refuse(scrubber: Scrubber, name: str, value: Any) -> None:
    secrets_seen = scrubber.finds(value)
    if secrets_seen:
        raise EvidenceError(
            f"{name}: a secret or a path of this machine stands at {', '.join(secrets_seen[:5])}",
            "give paths as names (store.scrub.to_names) and keys by environment before the plan is frozen",
        )


def _trial_line(trial: Trial, scrubber: Scrubber) -> str:
    line = _line(_plain(trial))
    if scrubber.text(line) != line:
        places = ", ".join(scrubber.finds(json.loads(line))[:5]) or "an unknown place"
        raise EvidenceError(
            f"samples.jsonl: trial {trial.trial_id} holds a secret or a path of this machine at {places}",
            "record kinds of errors instead of their text",
        )
    return line


def _write_command(folder: Path, number: int, command: CommandRecord, scrubber: Scrubber) -> None:
    import shlex

    slug = re.sub(r"[^\w.-]+", "-", command.step).strip("-") or "step"
    stem = f"{number:02d}-{slug}"
    words = [f"{name}={shlex.quote(value)}" for name, value in scrubber.value(dict(command.env)).items()]
    words += [shlex.quote(word) for word in scrubber.argv(command.argv)]
    write_atomic(folder / f"{stem}.cmd", scrubber.text(" ".join(words)) + "\n")
    if command.plan is not None and command.plan.is_file():
        write_json(folder / f"{stem}.plan.json", without_places(scrubber.value(read_json(command.plan))))
    for suffix, content in (("stdout", command.stdout), ("stderr", command.stderr)):
        _write_output(folder / f"{stem}.{suffix}", _scrubbed_lines(content, scrubber))
    if command.exit_code is not None:
        write_atomic(folder / f"{stem}.exit", f"{command.exit_code}\n")


def _write_output(path: Path, lines: Iterator[str]) -> None:
    first = next(lines, None)
    if first is not None:
        _write_lines(path, itertools.chain([first], lines))


def _scrubbed_lines(content: str | Path, scrubber: Scrubber) -> Iterator[str]:
    """Line by line, so that a log of any size passes; a private key spans lines and is followed to its end."""
    inside_key = False
    for raw in _raw_lines(content):
        if "-----BEGIN" in raw and "PRIVATE KEY" in raw:
            inside_key = True
            yield scrubber.text(raw)
        if not inside_key:
            yield scrubber.text(raw)
        if "-----END" in raw:
            inside_key = False


def _raw_lines(content: str | Path) -> Iterator[str]:
    if isinstance(content, str):
        yield from (content[:-1] if content.endswith("\n") else content).split("\n") if content else ()
    elif content.exists():
        with content.open("rb") as source:
            for raw in source:
                yield raw.rstrip(b"\n").decode("utf-8", errors="replace")


def _write_lines(path: Path, lines: Iterable[str]) -> None:
    private_dir(path.parent)
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, PRIVATE_FILE)
    with os.fdopen(handle, "wb") as out:
        for line in lines:
            out.write(line.encode() + b"\n")
        out.flush()
        os.fsync(out.fileno())


def write_manifest(folder: Path) -> None:
    """List every file of a bundle with its sha256 and size. Written last: a bundle without it is not finished."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    listed = {
        path.relative_to(folder).as_posix(): {"sha256": sha256_file(path), "bytes": path.stat().st_size}
        for path in files
    }
    write_json(folder / MANIFEST, {"schema": "draftsmith_bundle_v1", "files": listed})


def _commit(partial: Path, final: Path) -> None:
    """Rename into place. The same evidence is kept as it was; a bundle without a manifest was never finished."""
    if (final / MANIFEST).exists():
        keep = ("plan.json", "samples.jsonl", "facts.json", "verdict.json", "draft-manifest.json")
        old, new = read_manifest(final), read_manifest(partial)
        if [old.get(name) for name in keep] == [new.get(name) for name in keep]:
            return
        raise EvidenceError(f"{final} already holds other evidence", "use another run id, or move that folder away")
    put_in_place(partial, final)


def _private(folder: Path) -> None:
    for part in (folder.parent.parent, folder.parent, folder):
        private_dir(part)


def _source_md(parts: BundleParts, trials: Sequence[Trial]) -> str:
    lines = [f"# Source of {parts.family}/{parts.run_id}", ""]
    lines += [f"- {key}: {value}" for key, value in parts.source.items()]
    if parts.plan is not None:
        lines.append(f"- plan, sha256: `{digest(parts.plan)}`")
        lines.append(f"- trials: {len(trials)}, sha256 over all of them: `{bundle_digest(trials)}`")
        lines += [f"- {name}: {version}" for name, version in sorted(parts.plan.versions.items())]
    lines += ["", "Check this folder, offline: `draftsmith verify <this folder>`.", ""]
    return "\n".join(lines)


def _short_summary(parts: BundleParts) -> str:
    if parts.decision is None:
        return f"# {parts.family}/{parts.run_id}\n\nNo verdict: the run ended before a comparison.\n"
    verdict = parts.decision
    return f"# {parts.family}/{parts.run_id}\n\n**{verdict.outcome}** at tier `{verdict.tier}`: {verdict.reason}\n"


def _plain(value: BaseModel) -> Any:
    return value.model_dump(mode="json", by_alias=True)


def _line(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

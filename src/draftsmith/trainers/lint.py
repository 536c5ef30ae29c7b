"""Everything that can be said about a draft folder without loading it, before it costs an engine start.

Most of what ruins acceptance leaves the server healthy: layers off by one, a vocabulary map that is no map, a dropped
RoPE setting. Each is a fact of the files, so each is read here. A foreign or broken folder gives findings, never a
traceback; a check that cannot be made is an error, not a pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from draftsmith.contract.config import EngineConfig
from draftsmith.contract.draft import DraftManifest, Finding, LintReport, TargetFacts
from draftsmith.contract.errors import InputError
from draftsmith.trainers import lint_config, lint_engine, lint_files, lint_filled, lint_weights
from draftsmith.trainers.convert import notation
from draftsmith.trainers.draft_folder import EngineName, read_draft
from draftsmith.trainers.findings import Case, error, warn

Check = Callable[[Case], Iterator[Finding]]

CHECKS: tuple[tuple[str, Check], ...] = (
    ("engine", lint_engine.check_engine),
    ("layers", lint_config.check_layers),
    ("sizes", lint_config.check_sizes),
    ("switches", lint_config.check_switches),
    ("rope", lint_config.check_rope),
    ("shapes", lint_weights.check_shapes),
    ("sharing", lint_weights.check_sharing),
    ("dtype", lint_weights.check_dtype),
    ("vocabulary map", lint_weights.check_vocabulary_map),
    ("finite", lint_filled.check_finite),
    ("filled", lint_filled.check_filled),
    ("manifest", lint_files.check_manifest),
    ("parent", lint_files.check_parent),
)


def lint_draft(
    folder: Path,
    target: TargetFacts,
    *,
    served_tokens: int | None = None,
    parent: Path | None = None,
    engine: EngineName = "vllm",
) -> LintReport:
    """All checks of the draft in `folder` against its target.

    `served_tokens` is the longest context it will serve (default: the target's own). `parent` is the draft that a warm
    start began from. `engine`: the one that will serve it; the two read layers differently. Never raises for what the folder holds.
    """
    findings = list(lint_files.check_files(folder))
    try:
        draft = read_draft(folder, engine)
        before = read_draft(parent, notation(parent)) if parent is not None else None
    except InputError as problem:
        return _report(folder, [*findings, error("readable", problem.message, problem.next_step)])
    except (OSError, ValueError, TypeError, KeyError, AttributeError) as problem:
        return _report(folder, [*findings, _malformed("readable", problem)])
    manifest = _manifest(folder, findings)
    case = Case(draft, target, manifest, served_tokens, before, engine)
    for name, check in CHECKS:
        try:
            findings.extend(check(case))
        except InputError as problem:
            findings.append(error(name, problem.message, problem.next_step))
        except (OSError, ValueError, TypeError, KeyError, AttributeError, ArithmeticError) as problem:
            findings.append(_malformed(name, problem))
    return _report(folder, findings)


def served_tokens(configured: int, target: TargetFacts) -> int:
    """The longest context that is served, in tokens: as configured; where nobody said so, no longer than the target reaches."""
    usual = EngineConfig.model_fields["max_model_len"].default
    return configured if configured != usual else min(configured, target.max_position_embeddings)


def _manifest(folder: Path, findings: list[Finding]) -> DraftManifest | None:
    path = folder / lint_files.MANIFEST
    if not path.is_file():
        findings.append(
            warn(
                "manifest",
                f"no {lint_files.MANIFEST}: what this draft was trained for is not recorded",
                "package it with Draftsmith, or accept that its target cannot be checked",
            )
        )
        return None
    try:
        return DraftManifest.model_validate_json(path.read_bytes())
    except (ValueError, OSError):
        findings.append(
            error("manifest", f"{lint_files.MANIFEST} does not follow its schema", "package the checkpoint again")
        )
        return None


def _malformed(name: str, problem: Exception) -> Finding:
    return error(
        name,
        f"the check of {name} could not be made: config.json or the weights have an unexpected form "
        f"({type(problem).__name__})",
        "compare config.json with that of a draft that serves, or package the checkpoint again",
    )


def _report(folder: Path, findings: list[Finding]) -> LintReport:
    return LintReport(folder=str(folder), findings=tuple(findings))

"""Zero retention: after a run nothing but aggregates and the trained draft remains.

Law: a file that is not listed as an aggregate is deleted. New kinds of files are deleted until they are listed here.
Deleting unlinks; what a disk, a snapshot or a backup keeps of deleted blocks is outside a program's reach.
"""

from __future__ import annotations

import fnmatch
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from draftsmith.contract.errors import PrerequisiteError, RefusedError

PHASES = ("profile", "corpus", "capture", "train", "compare", "publish")  # those that run as jobs

# Whole paths in the folder of a run. `*` stands for one name (a number of the journal, a shard), `**` at the end for all
# below. Each holds counts, times, hashes, command lines or weights, never ids or text of a request. A file is named with
# its folder: the same name elsewhere may hold anything.
AGGREGATES = (
    "run.json",
    "lock",
    "journal/*.json",
    "processes/commands.jsonl",
    *(f"phases/{phase}/{name}.json" for phase in PHASES for name in ("plan", "result")),
    *(f"phases/{phase}/shard-*/result.json" for phase in PHASES),
    "phases/profile/workload-profile.json",
    "phases/corpus/corpus/manifest.json",
    "phases/train/draft/**",
    "phases/compare/plan-frozen.json",
    "phases/compare/samples.jsonl",
    "phases/compare/facts.json",
    "phases/compare/verdict.json",
    "bundle/**",  # scrubbed when it is written, and without logs under zero retention
)


@dataclass(frozen=True)
class Purged:
    """What `purge` did: names relative to the run folder."""

    removed: tuple[str, ...]
    removed_bytes: int
    kept: tuple[str, ...]


def purge(run_dir: Path, keep: Collection[str] = AGGREGATES) -> Purged:
    """Delete rows, prompts, answers, hidden states and logs of a run; keep the files that `keep` names.

    Links are removed, never followed. A second call finds nothing to do. Raises RefusedError for a folder that cannot
    be a run (the root, a home folder, a link), PrerequisiteError when something could not be deleted.
    """
    _plausible(run_dir)
    removed, kept, failed, size = [], [], [], 0
    for path in _leaves(run_dir):
        name = path.relative_to(run_dir).as_posix()
        if not path.is_symlink() and path.is_file() and any(_is(name, pattern) for pattern in keep):
            kept.append(name)
            continue
        try:
            bytes_held = path.lstat().st_size
            path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
        except OSError:
            failed.append(name)
            continue
        removed.append(name)
        size += bytes_held
    if failed:
        raise PrerequisiteError(
            f"{len(failed)} files of {run_dir.name} could not be deleted, the first is {failed[0]}",
            "make the folder writable and purge again; until then the run still holds traffic",
        )
    return Purged(tuple(sorted(removed)), size, tuple(sorted(kept)))


def _is(name: str, pattern: str) -> bool:
    parts, wanted = name.split("/"), pattern.split("/")
    if wanted[-1] == "**":
        parts, wanted = parts[: len(wanted) - 1], wanted[:-1]
    return len(parts) == len(wanted) and all(map(fnmatch.fnmatchcase, parts, wanted))


def _leaves(folder: Path) -> Iterator[Path]:
    """Files, links and, after their contents, folders that are empty by then."""
    for parent, folders, files in os.walk(folder, topdown=False, followlinks=False):
        for name in files:
            yield Path(parent, name)
        for name in folders:
            path = Path(parent, name)
            if path.is_symlink() or not any(path.iterdir()):
                yield path


def _plausible(folder: Path) -> None:
    real = folder.resolve()
    if folder.is_symlink() or real == Path(real.anchor) or real == Path.home() or real in Path.cwd().parents:
        raise RefusedError(f"{folder} is not the folder of one run", "give the run's own folder inside the workspace")
    if not folder.is_dir():
        raise RefusedError(f"{folder} is not a folder", "give the run's own folder inside the workspace")

"""Taking one node out of service and giving it back. Never done unless asked for by name and acknowledged.

The intent is on disk before the node is touched; whatever ends the work, an error or a crash, the node comes back:
at once by `drained`, or at the next start by `give_back`. A node that someone else drained is never resumed.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from draftsmith.backends.slurm_commands import SlurmCommands
from draftsmith.contract.base import Frozen
from draftsmith.contract.errors import BackendError, RefusedError
from draftsmith.kit.files import private_dir, read_json, write_json

REASON = "draftsmith:"


class DrainNote(Frozen):
    """A node that is drained, or is about to be, and why."""

    node: str
    reason: str


@contextmanager
def drained(commands: SlurmCommands, root: Path, node: str, why: str, *, acknowledged: bool) -> Iterator[None]:
    """Keep new jobs off `node` while the block runs, then resume it, also when the block fails.

    Jobs that run there go on. Raises RefusedError without the acknowledgement, or if the node is drained already.
    """
    if not acknowledged:
        raise RefusedError(
            f"draining node {node} keeps other people's jobs off it",
            "ask the operator of the cluster, then acknowledge the drain of this node",
        )
    if _reason(commands, node):
        raise RefusedError(f"node {node} is drained or down already", "choose another node; this one is not touched")
    note = DrainNote(node=node, reason=REASON + why.replace('"', "'"))
    path = write_json(private_dir(root / "drained") / f"{node}.json", note)
    try:
        commands.run(("scontrol", "update", f"NodeName={node}", "State=DRAIN", f"Reason={note.reason}"))
        yield
    finally:
        _resume(commands, path, note)


def give_back(commands: SlurmCommands, root: Path) -> list[str]:
    """Resume what an interrupted Draftsmith left drained. Returns the nodes; raises BackendError if one stays."""
    nodes = []
    for path in sorted((root / "drained").glob("*.json")):
        note = DrainNote.model_validate(read_json(path))
        _resume(commands, path, note)
        nodes.append(note.node)
    return nodes


def _resume(commands: SlurmCommands, path: Path, note: DrainNote) -> None:
    if _reason(commands, note.node).startswith(note.reason):  # else it was never drained, or is someone else's now
        commands.run(("scontrol", "update", f"NodeName={note.node}", "State=RESUME"))
        if _reason(commands, note.node):
            raise BackendError(
                f"node {note.node} stays drained", f"run: scontrol update NodeName={note.node} State=RESUME"
            )
    path.unlink(missing_ok=True)


def _reason(commands: SlurmCommands, node: str) -> str:
    """Why a node is out of service; empty while it is in service."""
    lines = commands.run(("scontrol", "show", "node", node)).split("\n")
    return next((line.strip().removeprefix("Reason=") for line in lines if line.strip().startswith("Reason=")), "")

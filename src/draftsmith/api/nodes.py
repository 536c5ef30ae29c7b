"""A Slurm node taken out of service for a quiet window, and given back."""

from __future__ import annotations

import re

from draftsmith.backends.slurm_commands import SlurmCommands
from draftsmith.contract.errors import InputError, RefusedError

NODE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
MARK = "draftsmith: "


def drain_node(node: str, reason: str, *, allow_cluster: bool = False, commands: SlurmCommands | None = None) -> str:
    """Keep new jobs off one node; what runs there ends by itself. Returns a sentence.

    Raises RefusedError unless allowed, or where somebody else drained it; InputError for what names no single node.
    """
    slurm, shown = commands or SlurmCommands(), f"scontrol update NodeName={node} State=DRAIN"
    _require(node, allow_cluster, shown)
    words = "".join(letter for letter in reason if letter.isalnum() or letter in " .,:-_").strip()[:80]
    if not words:
        raise InputError("a drained node needs a reason", "say for what window it is")
    if result := _reason(slurm, node):
        raise RefusedError(f"{node} is out of service already: {result}", "leave it to whoever took it out")
    slurm.run(("scontrol", "update", f"NodeName={node}", "State=DRAIN", f"Reason={MARK}{words}"))
    return f"{node} takes no new jobs; give it back with slurm_resume"


def resume_node(node: str, *, allow_cluster: bool = False, commands: SlurmCommands | None = None) -> str:
    """Give back a node that drain_node took. Raises RefusedError unless allowed, or where somebody else drained it."""
    slurm, shown = commands or SlurmCommands(), f"scontrol update NodeName={node} State=RESUME"
    _require(node, allow_cluster, shown)
    reason = _reason(slurm, node)
    if not reason:
        return f"{node} is in service"
    if not reason.startswith(MARK):
        raise RefusedError(f"{node} was drained by somebody else: {reason}", "leave it to whoever took it out")
    slurm.run(("scontrol", "update", f"NodeName={node}", "State=RESUME"))
    return f"{node} is in service again"


def _require(node: str, allowed: bool, shown: str) -> None:
    if not NODE.fullmatch(node):
        raise InputError("that names no single node", "give one name as `sinfo -N` shows it")
    if not allowed:
        raise RefusedError(f"this uses the cluster: it would run `{shown}`", "acknowledge that the cluster is used")


def _reason(commands: SlurmCommands, node: str) -> str:
    lines = commands.run(("scontrol", "show", "node", node)).split("\n")
    return next((line.strip().removeprefix("Reason=") for line in lines if line.strip().startswith("Reason=")), "")

"""Keeping other jobs off a node while a comparison runs there. Only nodes that `backend.options.quiet_nodes` names.

The job itself drains the node it landed on, and resumes it however its program ends. Which node that is lies in the job's
folder before the node is touched, so that a job whose shell was killed is cleared up after: at the next look at it, or
before the next submission. A node that someone else drained is left as it is.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path

from draftsmith.backends.slurm_commands import SlurmCommands
from draftsmith.contract.errors import BackendError

DRAINED = "drained_node"
PHASE = "compare"  # training never drains a node: it may wait, a measurement may not be shared

# `Reason=` is shown with who and when behind it, hence the patterns.
_LINES = """\
quiet=$SLURMD_NODENAME reason={reason}
reason_of() {{ scontrol show node "$1" | sed -n 's/^ *Reason=//p'; }}
give_back() {{
  [ -f {file} ] || return 0
  node=$(cat {file})
  case "$(reason_of "$node")" in "$reason"*) scontrol update NodeName="$node" State=RESUME || return 0;; esac
  rm -f {file}
}}
give_back  # after a requeue: an earlier start may have been killed
case " {nodes} " in
  *" $quiet "*)
    if [ -z "$(reason_of "$quiet")" ]; then
      trap give_back EXIT
      printf '%s\\n' "$quiet" > {file}
      scontrol update NodeName="$quiet" State=DRAIN Reason="$reason" || {{ echo "node $quiet may not be drained: see quiet_nodes" >&2; exit 1; }}
    fi;;
  *) echo "node $quiet is not among quiet_nodes: other jobs may come to it meanwhile" >&2;;
esac"""


def quiet_lines(nodes: Sequence[str], reason: str) -> list[str]:
    """Shell lines that drain the node they run on, if it is one of `nodes`, until the shell ends."""
    return [_LINES.format(nodes=" ".join(nodes), reason=shlex.quote(reason), file=DRAINED)]


def give_back(commands: SlurmCommands, folder: Path, reason: str) -> str | None:
    """Resume the node that a killed job left drained, if it is drained for that reason. Returns its name.

    Raises BackendError if it stays drained, or its state is unknown.
    """
    try:
        node = (folder / DRAINED).read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        return None
    if node and _reason(commands, node).startswith(reason):
        commands.run(("scontrol", "update", f"NodeName={node}", "State=RESUME"))
        if _reason(commands, node):
            raise BackendError(f"node {node} stays drained", f"run: scontrol update NodeName={node} State=RESUME")
    (folder / DRAINED).unlink(missing_ok=True)
    return node


def _reason(commands: SlurmCommands, node: str) -> str:
    """Why a node is out of service; empty while it is in service."""
    lines = commands.run(("scontrol", "show", "node", node)).split("\n")
    return next((line.strip().removeprefix("Reason=") for line in lines if line.strip().startswith("Reason=")), "")

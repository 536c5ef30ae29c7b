"""The shell text that keeps a node quiet, run with a scontrol that only remembers; the real one is in test_slurm_real.py."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from draftsmith.backends.slurm_commands import SlurmCommands
from draftsmith.backends.slurm_nodes import DRAINED, give_back, quiet_lines
from draftsmith.backends.slurm_options import parse_options
from draftsmith.backends.slurm_text import batch_script
from draftsmith.contract.errors import BackendError, ConfigError
from draftsmith.contract.job import JobSpec

REASON = "draftsmith:r1.compare"

# Keeps the reason of each node in a file of its name; `refuse` there makes it answer as to somebody without the right.
SCONTROL = """\
#!/bin/sh
cd "$(dirname "$0")"
case "$1 $2" in
  "show node") echo "NodeName=$3"; [ ! -s "node-$3" ] || echo "   Reason=$(cat "node-$3") [op@2026-11-22T05:00:00]";;
  update*) [ ! -e refuse ] || { echo "slurm_update error: Invalid user id" >&2; exit 1; }
    node=${2#NodeName=}
    case "$3" in State=RESUME) rm -f "node-$node";; *) echo "${4#Reason=}" > "node-$node";; esac;;
esac
"""


class Node:
    """One node, and a job on it."""

    def __init__(self, base: Path) -> None:
        self.bin, self.folder = base / "bin", base / "job"
        self.bin.mkdir()
        self.folder.mkdir()
        (self.bin / "scontrol").write_text(SCONTROL)
        (self.bin / "scontrol").chmod(0o755)
        self.commands = SlurmCommands(path=str(self.bin))

    def reason(self, node: str = "gpu-1") -> str:
        path = self.bin / f"node-{node}"
        return path.read_text().strip() if path.exists() else ""

    def run(self, then: str, *, node: str = "gpu-1", nodes: tuple[str, ...] = ("gpu-1", "gpu-2")) -> int:
        text = "\n".join([*quiet_lines(nodes, REASON), f"cat {self.bin}/node-{node} > seen 2>/dev/null", then])
        env = {"PATH": f"{self.bin}:{os.environ['PATH']}", "SLURMD_NODENAME": node}
        return subprocess.run(
            ["bash", "-c", text], cwd=self.folder, env=env, capture_output=True, check=False
        ).returncode

    def seen(self) -> str:
        """The reason while the program ran."""
        return (self.folder / "seen").read_text().strip()


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path)


@pytest.mark.parametrize(("then", "code"), [("exit 0", 0), ("exit 3", 3)])
def test_it_is_drained_while_the_program_runs_and_resumed_however_it_ends(node: Node, then: str, code: int) -> None:
    assert node.run(then) == code
    assert node.seen() == REASON
    assert node.reason() == ""
    assert not (node.folder / DRAINED).exists()


def test_a_node_that_is_not_named_is_not_touched(node: Node) -> None:
    assert node.run("exit 0", node="gpu-7") == 0
    assert node.seen() == ""


def test_without_the_right_to_drain_nothing_is_measured(node: Node) -> None:
    (node.bin / "refuse").touch()
    assert node.run("touch measured") == 1
    assert not (node.folder / "measured").exists()
    assert not (node.folder / DRAINED).exists()


def test_a_killed_shell_is_cleared_up_after_by_the_next_start_or_the_next_look(node: Node) -> None:
    assert node.run("kill -9 $$") == -signal.SIGKILL
    assert node.reason() == REASON
    assert node.run("exit 0", node="gpu-2") == 0, "requeued to another node"
    assert (node.reason(), node.reason("gpu-2")) == ("", "")

    node.run("kill -9 $$")
    (node.bin / "refuse").touch()
    with pytest.raises(BackendError):
        give_back(node.commands, node.folder, REASON)
    (node.bin / "refuse").unlink()
    assert give_back(node.commands, node.folder, REASON) == "gpu-1"
    assert node.reason() == ""
    assert give_back(node.commands, node.folder, REASON) is None


def test_what_somebody_else_drained_stays_drained(node: Node) -> None:
    (node.bin / "node-gpu-1").write_text("maintenance")
    assert node.run("exit 0") == 0
    assert node.seen() == node.reason() == "maintenance"

    (node.bin / "node-gpu-1").unlink()
    assert node.run(f"echo maintenance > {node.bin}/node-gpu-1") == 0
    assert node.reason() == "maintenance"

    (node.folder / DRAINED).write_text("gpu-1\n")
    assert give_back(node.commands, node.folder, REASON) == "gpu-1"
    assert node.reason() == "maintenance"


def test_only_a_comparison_drains_and_only_if_nodes_are_named() -> None:
    def text(phase: str, **options: object) -> str:
        spec = JobSpec(name=f"r1.{phase}", argv=("python", "-m", "x"), workdir="/shared/r1")
        return batch_script(spec, parse_options(dict(options)))

    assert "State=DRAIN" in text("compare", quiet_nodes=["gpu-1"])
    assert "State=DRAIN" not in text("compare")
    assert "State=DRAIN" not in text("train", quiet_nodes=["gpu-1"])
    with pytest.raises(ConfigError, match="quiet_nodes"):
        text("compare", quiet_nodes=["gpu-1; rm -r /"])

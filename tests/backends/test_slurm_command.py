"""`draftsmith run` on a cluster: shown first, done when told, and the same end as on one machine."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from loop_world import World
from places import until

pytestmark = pytest.mark.story

FLAG = "--i-understand-this-uses-the-cluster"
OPTIONS = {
    "poll_s": 0.2, "poll_max_s": 1, "settle_s": 5,
    "export": "PATH,PYTHONPATH,FAKE_PROBE,FAKE_VLLM,FAKE_TRAINER",
    "phases": {"capture": {"shards": 2}},
}  # fmt: skip
PHASES = ("profile", "corpus", "capture", "train", "compare", "publish")
# A cluster without a scheduler behind it: sinfo shows one idle node, the other commands do as the test says.
SINFO = (
    '#!/bin/sh\ncase "$*" in *--Node*) echo "main*|up|infinite|idle|64|500000|gpu:4|n1" ;; *) echo "main*" ;; esac\n'
)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path / "world", requests=40)


class PaperCluster:
    """Commands named as Slurm's that note what they are asked."""

    def __init__(self, world: World, **answers: str) -> None:
        self.world, self.base = world, world.base / "bin"
        self.base.mkdir()
        for name, script in {
            "sinfo": SINFO, "squeue": "#!/bin/sh\n", "scancel": "#!/bin/sh\n",
            "sbatch": "#!/bin/sh\necho sbatch $* >> " + str(self.base / "asked") + "\n", **answers,
        }.items():  # fmt: skip
            (self.base / name).write_text(script)
            (self.base / name).chmod(0o755)

    def run(self, *arguments: str, code: int) -> subprocess.CompletedProcess[str]:
        path = f"{self.base}:{os.environ['PATH']}"
        return self.world.call("run", "--yes", "--backend", "slurm", *arguments, code=code, PATH=path)

    def asked(self) -> list[str]:
        return (self.base / "asked").read_text().split("\n")[:-1] if (self.base / "asked").exists() else []


def test_dry_by_default_shows_every_script_word_for_word(world: World) -> None:
    world.configure(backend={"options": {"partition": "main", "account": "lab", **OPTIONS}})
    cluster = PaperCluster(world)
    said = cluster.run(code=0).stdout

    for phase in PHASES:
        assert f"\n----- {phase}\n#!/bin/bash\n#SBATCH --job-name=" in said
    assert said.count("#SBATCH --account=lab") == len(PHASES)
    assert "nothing was submitted" in said
    assert FLAG in said
    assert cluster.asked() == []
    assert not list(world.workspace.glob("runs/*/phases/*"))
    value = json.loads(cluster.run("--json", code=0).stdout)
    assert value["backend"] == value["scheduler"] == "slurm"
    assert list(value["would_submit"]) == list(PHASES)
    assert all(text in said for text in value["would_submit"].values()), "the same run, the same words"


@pytest.mark.parametrize(
    ("options", "answers", "said", "code"),
    [
        ({"partition": "nosuch"}, {}, "partition 'nosuch' does not exist", 3),
        ({}, {"sinfo": SINFO.replace("idle", "allocated")}, "0 idle nodes", 3),
        (
            {},
            {"sbatch": "#!/bin/sh\necho 'sbatch: error: AssocMaxSubmitJobLimit' >&2\necho 'allocation failure: Job violates"
             " accounting/QOS policy (job submit limit, user size and/or time limits)' >&2\nexit 1\n"},
            "a quota or limit of your account or QOS is used up", 3,
        ),
        ({}, {"sbatch": "#!/bin/sh\necho 'sbatch: error: Disk quota exceeded' >&2\nexit 1\n"}, "quota is full", 3),
        ({"phases": {"train": {"cpus": 9999}}}, {}, "0 nodes as large as", 3),
        ({"acount": "lab"}, {}, "acount", 2),
        ({"phases": {"train": {"shards": 2}}}, {}, "train cannot run in shards", 2),
        ({"account": "my lab"}, {}, "account", 2),
    ],
)  # fmt: skip
def test_what_cannot_work_is_said_before_anything_starts(
    world: World, options: dict[str, object], answers: dict[str, str], said: str, code: int
) -> None:
    world.configure(backend={"options": options})
    cluster = PaperCluster(world, **answers)
    done = cluster.run(FLAG, code=code)

    assert said in done.stderr
    assert "next:" in done.stderr
    assert [line for line in cluster.asked() if "--test-only" not in line] == []
    assert not list(world.workspace.glob("runs/*/phases/*/job.json"))


def test_a_machine_without_slurm_is_told_apart_from_a_cluster_that_refuses(world: World) -> None:
    tools = world.base / "tools"
    tools.mkdir()
    done = world.call("run", "--yes", "--backend", "slurm", FLAG, code=3, PATH=str(tools))

    assert "sbatch, squeue, scancel, sinfo" in done.stderr
    assert "login node" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--backend", "slrum"), "one of: local, slurm, kubernetes"),
        (("--scheduler", "pbs"), "one of: auto, slurm"),
        (("--backend", "local", "--scheduler", "slurm"), "leave one of the two out"),
    ],
)
def test_words_that_do_not_go_together_are_refused(world: World, arguments: tuple[str, ...], said: str) -> None:
    done = world.call("run", "--yes", *arguments, code=2)

    assert said in done.stderr
    assert not world.workspace.exists()


def test_without_a_scheduler_auto_stays_on_this_machine_and_says_so(world: World) -> None:
    tools = world.base / "tools"
    tools.mkdir()
    env = {"PATH": str(tools), "HOME": str(world.base), "KUBECONFIG": "", "KUBERNETES_SERVICE_HOST": ""}
    done = world.call("run", "--yes", "--scheduler", "auto", "--start-phase", "nosuch", code=2, **env)
    assert "jobs     local: no scheduler was found" in done.stdout
    assert "Slurm: not installed" in done.stdout


@pytest.fixture
def on_slurm(world: World, slurm_dir: Path) -> Iterator[World]:
    world.configure(backend={"kind": "slurm", "options": OPTIONS})
    yield world
    subprocess.run(["scancel", "--quiet", "--user=root"], check=True)
    until(lambda: not subprocess.run(["squeue", "-h"], capture_output=True, text=True, check=True).stdout)


@pytest.mark.slurm
def test_the_loop_on_slurm_ends_as_it_does_on_this_machine(on_slurm: World, tmp_path: Path) -> None:
    on_slurm.run("--backend", "slurm", "--scheduler", "slurm", FLAG)
    here = World(tmp_path / "here", requests=40)
    here.call("train")

    for phase, name in (("profile", "profile_sha256"), ("corpus", "rows_sha256"), ("train", "draft_sha256")):
        assert on_slurm.done(phase)["result"]["outputs"][name] == here.done(phase)["result"]["outputs"][name]
    mine, theirs = (w.done("capture")["result"]["figures"] for w in (on_slurm, here))
    assert mine["shards"] == 2
    for name in ("rows", "captured_rows", "captured_tokens", "bytes"):
        assert mine[name] == theirs[name], "two shards make what one program makes"
    assert on_slurm.done("compare")["result"]["figures"]["outcome"] == "INCONCLUSIVE"
    assert on_slurm.counted()["finished", "publish"] == 1
    assert on_slurm.state()["history"][-1]["event"] == "kept"
    assert on_slurm.alive() == []


@pytest.mark.slurm
def test_teardown_cancels_what_the_run_has_in_the_cluster_when_told(on_slurm: World) -> None:
    driver = on_slurm.start("train", FLAG, FAKE_TRAINER='{"epoch_s": 60}')
    until(lambda: on_slurm.stage("train") or driver.poll() is not None, 120)
    on_slurm.kill(driver) if driver.poll() is None else None
    queued = ["squeue", "-h", "--format=%j %t"]
    assert re.search(r"\.train R", subprocess.run(queued, capture_output=True, text=True, check=True).stdout)

    refused = on_slurm.call("teardown", code=4)
    assert FLAG in refused.stderr
    on_slurm.call("teardown", FLAG)
    until(lambda: not subprocess.run(queued, capture_output=True, text=True, check=True).stdout)

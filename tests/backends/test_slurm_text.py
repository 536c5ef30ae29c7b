"""The scripts, word for word: what an operator reads is what runs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from draftsmith.backends.shell import environment_file
from draftsmith.backends.slurm_options import SlurmOptions, parse_options, with_folders
from draftsmith.backends.slurm_text import batch_script, slurm_time
from draftsmith.contract.errors import ConfigError, InputError
from draftsmith.contract.job import JobSpec

GOLDEN = Path(__file__).parent / "golden"
SITE = {
    "account": "lab",
    "partition": "gpu",
    "qos": "normal",
    "phases": {
        "corpus": {"partition": "cpu", "memory_gib": 16},
        "capture": {"shards": 8, "shards_at_once": 4, "gpus": 1, "time_limit_s": 14400},
        "train": {"nodes": 2, "gpus": 4, "cpus": 32, "launcher": "torchrun", "time_limit_s": 86400},
        "compare": {"gpus": 2, "qos": "high"},
    },
}


def spec(phase: str, *argv: str, **more: object) -> JobSpec:
    return JobSpec.model_validate(
        {"name": f"r7.{phase}", "argv": argv, "workdir": f"/share/ws/runs/r7/{phase}", **more}
    )


CASES = {
    "data-preparation": (spec("corpus", "python", "-m", "draftsmith.work.corpus", "--job", "plan.json"), SITE),
    "capture-array": (
        spec("capture", "/opt/vllm/bin/python", "-m", "draftsmith.work.capture", env={"HF_HUB_OFFLINE": "1"}),
        {**SITE, "gpu_type": "h100", "setup_lines": ["module load cuda/12.8"]},
    ),
    "training-nodes": (
        spec("train", "/opt/train/bin/python", "-m", "draftsmith.work.train", "--lr", "1e-3", gpus=1),
        {**SITE, "extra_lines": ["#SBATCH --exclusive"]},
    ),
    "training-container": (
        spec("train", "python", "-m", "draftsmith.work.train"),
        {**SITE, "container_image": "/images/train.sqsh", "container_mounts": ["/models:/models"]},
    ),
    "evaluation": (spec("compare", "python", "-m", "draftsmith.work.compare", "it's", memory_gib=100, cpus=16), SITE),
    "evaluation-apptainer": (
        spec("compare", "python", "-m", "draftsmith.work.compare", time_limit_s=600),
        {"container_image": "/images/vllm.sif", "container_runtime": "apptainer", "requeue": False},
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_script_is_the_golden_one_and_the_shell_can_read_it(name: str) -> None:
    job, options = CASES[name]
    text = batch_script(job, parse_options(options))

    assert text == (GOLDEN / f"{name}.sbatch").read_text()
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)


def test_the_interpreter_and_the_folders_of_jobs_in_an_image() -> None:
    image = {"container_image": "/images/x.sqsh", "python": "/opt/bin/python", "container_mounts": ["/extra:/extra"]}
    folders = [Path("/share/ws"), Path("/models/m"), Path("/share/ws/logs"), Path("/share/ws")]
    text = batch_script(
        spec("train", "/home/me/.venv/bin/python", "-m", "draftsmith.work.train"),
        with_folders(parse_options(image), folders),
    )

    assert "/opt/bin/python -m draftsmith.work.train" in text
    assert "/home/me" not in text
    assert "/share/ws:/share/ws,/models/m:/models/m,/extra:/extra" in text
    assert with_folders(SlurmOptions(), folders) == SlurmOptions(), "without an image there is nothing to mount"


def test_sizes_of_the_site_hold_where_a_phase_states_none() -> None:
    options = parse_options({"cpus": 8, "memory_gib": 64, "phases": {"train": {"cpus": 32}}})

    assert "--cpus-per-task=8\n#SBATCH --mem=65536M" in batch_script(spec("compare", "x"), options)
    assert "--cpus-per-task=32\n#SBATCH --mem=65536M" in batch_script(spec("train", "x"), options)


def test_no_value_of_a_variable_is_in_the_script() -> None:
    job = spec("train", "python", "x.py", env={"WANDB_API_KEY": "sesame"})

    assert "sesame" not in batch_script(job, SlurmOptions())
    assert "WANDB_API_KEY" in batch_script(job, SlurmOptions())
    assert environment_file(job) == "export WANDB_API_KEY=sesame\n"


def test_an_argument_cannot_become_a_command() -> None:
    text = batch_script(spec("train", "echo", "$(touch /tmp/x); `id` & \n#SBATCH --qos=root"), SlurmOptions())
    done = subprocess.run(["bash", "-c", text.split("child=\n")[1].split("child=$!")[0] + "wait"], capture_output=True)

    assert done.stdout.decode() == "$(touch /tmp/x); `id` & \n#SBATCH --qos=root\n"


@pytest.mark.parametrize("name", ["A B", "1X", "X;id", "É", ""])
def test_a_variable_name_the_shell_cannot_hold_is_refused(name: str) -> None:
    with pytest.raises(InputError):
        environment_file(spec("train", "x", env={name: "1"}))


@pytest.mark.parametrize("workdir", ["relative", "/a\n#SBATCH --uid=0", "/a%j", '/a"b', "/a\\b"])
def test_a_folder_slurm_would_rewrite_is_refused(workdir: str) -> None:
    with pytest.raises(InputError):
        batch_script(spec("train", "x").model_copy(update={"workdir": workdir}), SlurmOptions())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"acount": "x"}, "acount"),
        ({"phases": {"trian": {}}}, "trian"),
        ({"phases": {"train": {"node": 2}}}, "node"),
        ({"partition": "a b"}, "partition"),
        ({"extra_lines": ["module load x"]}, "setup_lines"),
        ({"extra_lines": ["#SBATCH --comment=x"]}, "relies on"),
        ({"extra_lines": ["#SBATCH --qos=a\nrm -r x"]}, "extra_lines"),
        ({"poll_s": 0}, "poll_s"),
    ],
)
def test_a_wrong_option_is_named(options: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        parse_options(options)


@pytest.mark.parametrize(
    ("options", "argv"),
    [
        ({"nodes": 2}, ("python", "x.py")),
        ({"launcher": "torchrun"}, ("python",)),
        ({"launcher": "torchrun"}, ("python", "-m")),
        ({"launcher": "torchrun", "shards": 2}, ("python", "x.py")),
    ],
)
def test_what_cannot_be_launched_is_refused(options: dict[str, object], argv: tuple[str, ...]) -> None:
    with pytest.raises(ConfigError):
        batch_script(spec("train", *argv), parse_options({"phases": {"train": options}}))


def test_a_phase_is_the_last_part_of_the_name() -> None:
    options = parse_options(SITE)

    assert options.phase("2026-11-21.x.train").nodes == 2
    assert options.phase("r7.trainer").nodes is None


def test_times_are_written_as_slurm_reads_them() -> None:
    assert slurm_time(90061) == "1-01:01:01"


def test_every_option_is_described_and_in_the_manual() -> None:
    manual = (Path(__file__).parents[2] / "docs" / "slurm.md").read_text()
    for model in (SlurmOptions, type(SlurmOptions().phase("x.train"))):
        for name, field in model.model_fields.items():
            assert field.description or name == "phases"
            assert f"`{name}`" in manual, name


def test_phases_may_want_other_nodes_than_the_site() -> None:
    options = parse_options({
        "gpu_type": "a100", "constraint": "nvme", "exclude": ["n7", "n8"], "container_image": "/i/a.sqsh",
        "phases": {"compare": {"gpu_type": "h100", "constraint": "h100&nvme", "exclusive": True, "account": "bench",
                               "extra_lines": ["#SBATCH --mem-bind=local"], "container_image": "/i/b.sqsh"}},
    })  # fmt: skip
    there = batch_script(spec("compare", "python", "-m", "x", gpus=2), options)
    for line in (
        "--gres=gpu:h100:2",
        "--constraint=h100&nvme",
        "--exclude=n7,n8",
        "--exclusive",
        "--account=bench",
        "--mem-bind=local",
    ):
        assert f"#SBATCH {line}\n" in there
    assert "/i/b.sqsh" in there
    here = batch_script(spec("train", "python", "-m", "x", gpus=2), options)
    assert "--gres=gpu:a100:2" in here
    assert "--exclusive" not in here
    for phases in ({}, {"train": {"extra_lines": ["#SBATCH --clusters=other"]}}):
        with pytest.raises(ConfigError, match="relies on"):
            parse_options({"extra_lines": ["#SBATCH --clusters=other"] if not phases else [], "phases": phases})

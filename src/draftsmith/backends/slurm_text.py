"""The batch script of a job: text from pure functions, nothing is run or read here.

The script is the whole truth of what a job asks for. It never holds the job's variables, only their names.
"""

from __future__ import annotations

import math
import shlex
from pathlib import Path

from draftsmith.backends.base import RESULT, STDERR, STDOUT
from draftsmith.backends.shell import ENVIRONMENT, EXIT_CODE, TO_CHILD, run_child
from draftsmith.backends.slurm_nodes import PHASE, quiet_lines
from draftsmith.backends.slurm_options import PhaseOptions, SlurmOptions
from draftsmith.contract.errors import ConfigError, InputError
from draftsmith.contract.job import JobSpec

SCRIPT = "job.sbatch"
JOB_ID = "slurm_job_id"
COMMENT = "draftsmith:"

# srun answers SIGTERM by killing its tasks at once; asked this way, they receive the SIGTERM themselves.
_TO_STEPS = 'scancel --quiet --signal=TERM "$SLURM_JOB_ID"'


def comment_of(name: str) -> str:
    """The comment that distinguishes a job of Draftsmith from another job of the same name."""
    return COMMENT + name


def shard_dir(workdir: Path, shard: int) -> Path:
    """Folder of one task of a job array; it holds that task's logs and result.json."""
    return workdir / f"shard-{shard:04d}"


def batch_script(spec: JobSpec, options: SlurmOptions) -> str:
    """The exact text given to sbatch. Raises ConfigError or InputError for what cannot be expressed."""
    phase = options.phase(spec.name)
    _check(spec, phase)
    parts = ["#!/bin/bash", *_directives(spec, options, phase), "", *_preamble(spec, options, phase)]
    command = _command(spec, options, phase)
    hand_on = _TO_STEPS if command.startswith("srun ") else TO_CHILD
    return "\n".join(parts) + "\n" + run_child(command, hand_on)


def slurm_time(seconds: int) -> str:
    """Seconds as `days-hours:minutes:seconds`."""
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    return f"{days}-{hours:02d}:{minutes:02d}:{rest:02d}"


def _check(spec: JobSpec, phase: PhaseOptions) -> None:
    if any(ord(character) < 32 for character in spec.workdir) or not Path(spec.workdir).is_absolute():
        raise InputError(
            f"workdir {spec.workdir!r} must be an absolute path without control characters", "move the workspace"
        )
    if "%" in spec.workdir or "\\" in spec.workdir or '"' in spec.workdir:
        raise InputError(f"workdir {spec.workdir!r} holds a character that Slurm rewrites", "move the workspace")
    if phase.launcher == "torchrun" and len(spec.argv) < (3 if spec.argv[1:2] == ("-m",) else 2):
        raise ConfigError(
            f"job {spec.name} is not a Python program, so launcher = 'torchrun' cannot start it",
            "use launcher = 'plain'",
        )
    if (phase.nodes or 1) > 1 and phase.launcher != "torchrun":
        raise ConfigError("more than one node needs launcher = 'torchrun'", "set it for this phase, or nodes = 1")
    if phase.shards > 1 and phase.launcher == "torchrun":
        raise ConfigError("a job array cannot use launcher = 'torchrun'", "set shards = 1, or launcher = 'plain'")


def _directives(spec: JobSpec, options: SlurmOptions, phase: PhaseOptions) -> list[str]:
    gpus = spec.gpus if phase.gpus is None else phase.gpus
    memory = phase.memory_gib or spec.memory_gib or options.memory_gib
    limit = phase.time_limit_s or spec.time_limit_s or options.time_limit_s
    kind = phase.gpu_type or options.gpu_type
    wanted: list[tuple[str, str | int | None]] = [
        ("job-name", spec.name),
        ("comment", comment_of(spec.name)),
        ("chdir", _quoted(spec.workdir)),
        ("output", "/dev/null" if phase.shards > 1 else STDOUT),
        ("error", "/dev/null" if phase.shards > 1 else STDERR),
        ("open-mode", "append"),
        ("account", phase.account or options.account),
        ("partition", phase.partition or options.partition),
        ("qos", phase.qos or options.qos),
        ("reservation", options.reservation),
        ("constraint", phase.constraint or options.constraint),
        ("exclude", ",".join(options.exclude) or None),
        ("nodes", phase.nodes or 1),
        ("ntasks-per-node", 1),
        ("cpus-per-task", phase.cpus or options.cpus or spec.cpus),
        ("mem", f"{math.ceil(memory * 1024)}M" if memory else None),
        ("gres", ":".join(("gpu", *([kind] if kind else []), str(gpus))) if gpus else None),
        ("time", slurm_time(limit) if limit else None),
        # Also without a limit: where preemption sends this signal (send_user_signal), the job writes down where it is.
        ("signal", f"B:TERM@{options.warn_s}" if options.warn_s else None),
        ("array", _array(phase) if phase.shards > 1 else None),
        ("dependency", "singleton"),
        ("export", options.export),
    ]
    lines = [f"#SBATCH --{key}={value}" for key, value in wanted if value is not None]
    lines += ["#SBATCH --exclusive"] if phase.exclusive else []
    requeue = "#SBATCH --requeue" if options.requeue else "#SBATCH --no-requeue"
    return [*lines, requeue, *options.extra_lines, *phase.extra_lines]


def _array(phase: PhaseOptions) -> str:
    at_once = f"%{phase.shards_at_once}" if phase.shards_at_once else ""
    return f"0-{phase.shards - 1}{at_once}"


def _preamble(spec: JobSpec, options: SlurmOptions, phase: PhaseOptions) -> list[str]:
    lines = ["umask 077", "export SLURM_EXPORT_ENV=ALL SRUN_CPUS_PER_TASK=$SLURM_CPUS_PER_TASK"]
    lines += ["export DRAFTSMITH_JOB_DIR=" + shlex.quote(spec.workdir)]
    lines += ['cd "$DRAFTSMITH_JOB_DIR" || exit 1  # Slurm goes on in /tmp where a folder is missing']
    if spec.env:
        lines += [f"# {ENVIRONMENT} sets {', '.join(sorted(spec.env))}", f". ./{ENVIRONMENT} || exit 1"]
    if phase.shards > 1:
        lines += [
            f"export DRAFTSMITH_SHARD=$SLURM_ARRAY_TASK_ID DRAFTSMITH_SHARDS={phase.shards}",
            'DRAFTSMITH_JOB_DIR="$DRAFTSMITH_JOB_DIR/$(printf \'shard-%04d\' "$DRAFTSMITH_SHARD")"',
            'mkdir -p "$DRAFTSMITH_JOB_DIR" && cd "$DRAFTSMITH_JOB_DIR" || exit 1',
            f"exec >> {STDOUT} 2>> {STDERR}",
        ]
    lines += [f"rm -f {RESULT} {EXIT_CODE}", f"printf '%s\\n' \"${{SLURM_ARRAY_JOB_ID:-$SLURM_JOB_ID}}\" > {JOB_ID}"]
    if options.quiet_nodes and spec.name.endswith(f".{PHASE}"):
        lines += quiet_lines(options.quiet_nodes, comment_of(spec.name))
    if phase.launcher == "torchrun":
        lines += ['head=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)']
    return [*lines, *options.setup_lines]


def _command(spec: JobSpec, options: SlurmOptions, phase: PhaseOptions) -> str:
    argv = spec.argv
    if options.python and argv[1:2] == ("-m",):
        argv = (options.python, *argv[1:])
    program = shlex.join(argv)
    if phase.launcher == "torchrun":
        gpus = spec.gpus if phase.gpus is None else phase.gpus
        program = _torchrun(argv, max(gpus, 1))
    image_name = phase.container_image or options.container_image
    if image_name is None:
        return f"srun --kill-on-bad-exit=1 {program}" if phase.launcher == "torchrun" else program
    mounts = ",".join((f"{spec.workdir}:{spec.workdir}", *options.container_mounts))
    image = shlex.quote(image_name)
    if options.container_runtime == "pyxis":
        flags = f'--container-image={image} --container-mounts={shlex.quote(mounts)} --container-workdir="$PWD"'
        return f"srun --kill-on-bad-exit=1 {flags} {program}"
    inside = f'apptainer exec --nv --bind {shlex.quote(mounts)} --pwd "$PWD" {image} {program}'
    return f"srun --kill-on-bad-exit=1 {inside}" if phase.launcher == "torchrun" else inside


def _torchrun(argv: tuple[str, ...], per_node: int) -> str:
    """The program under torch.distributed.run; the port follows from the job id, so two jobs on a node do not meet."""
    return " ".join(
        (
            shlex.quote(argv[0]),
            "-m torch.distributed.run",
            '--nnodes="$SLURM_NNODES"',
            f"--nproc-per-node={per_node}",
            '--rdzv-backend=c10d --rdzv-id="$SLURM_JOB_ID"',
            '--rdzv-endpoint="$head:$((20000 + SLURM_JOB_ID % 10000))"',
            shlex.join(argv[1:]),
        )
    )


def _quoted(path: str) -> str:
    return path if shlex.quote(path) == path else f'"{path}"'

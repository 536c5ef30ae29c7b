"""Whether a cluster could take a job now. Everything that can be checked is checked before a submission."""

from __future__ import annotations

import math
from collections.abc import Sequence

from draftsmith.backends.slurm_commands import SlurmCommands
from draftsmith.backends.slurm_options import SlurmOptions
from draftsmith.backends.slurm_parse import SINFO_FORMAT, Node, count_gpus, has_features, is_free, parse_sinfo
from draftsmith.backends.slurm_text import slurm_time
from draftsmith.contract.errors import BackendError, NoRoomError, PrerequisiteError
from draftsmith.contract.job import JobSpec


def check_commands(commands: SlurmCommands) -> None:
    """Raises PrerequisiteError naming the commands that are not installed."""
    missing = commands.missing()
    if missing:
        raise PrerequisiteError(
            f"Slurm commands are missing on this machine: {', '.join(missing)}",
            "run Draftsmith on a login node of the cluster, or set backend.kind = 'local'",
        )


def look_at_nodes(commands: SlurmCommands) -> list[Node]:
    """All nodes, once for each partition they are in. Raises PrerequisiteError, BackendError."""
    try:
        return parse_sinfo(commands.run(("sinfo", "--noheader", "--Node", f"--format={SINFO_FORMAT}")))
    except ValueError as error:
        raise BackendError(
            f"sinfo answered in an unknown form: {error}", "report it with the version of Slurm"
        ) from error


def check_nodes(nodes: Sequence[Node], spec: JobSpec, options: SlurmOptions) -> None:
    """Raises PrerequisiteError unless the partition exists, is up, and has nodes large enough, idle if so required.

    NoRoomError if all is well and they are not idle.
    """
    unknown = set(options.quiet_nodes) - {node.name for node in nodes}
    if unknown:
        raise PrerequisiteError(
            f"the cluster has no node {', '.join(sorted(unknown))}", "correct backend.options.quiet_nodes"
        )
    phase = options.phase(spec.name)
    partition, inside = _partition(nodes, phase.partition or options.partition)
    _check_limit(spec, options, partition, inside[0].limit_s)
    wanted = phase.nodes or 1
    fitting = [node for node in inside if _fits(node, spec, options)]
    if len(fitting) < wanted:
        raise PrerequisiteError(
            f"partition {partition!r} has {len(fitting)} nodes as large as {spec.name} needs, of {wanted}: {_size(spec, options)}",
            "ask for less in backend.options.phases, or choose another partition",
        )
    free = [node for node in fitting if is_free(node) or (options.reservation and node.state == "reserved")]
    if options.require_idle and len(free) < wanted:
        raise NoRoomError(
            f"partition {partition!r} has {len(free)} idle nodes for {spec.name}, of {wanted}",
            "run again when nodes are free, or set backend.options.require_idle = false to wait in the queue",
        )


def _partition(nodes: Sequence[Node], named: str | None) -> tuple[str, list[Node]]:
    """The partition a job goes to, and its nodes. Raises PrerequisiteError if it is not there or not up."""
    name = named or next((node.partition for node in nodes if node.default), None)
    if name is None:
        raise PrerequisiteError("the cluster has no default partition", "set backend.options.partition")
    inside = [node for node in nodes if node.partition == name]
    if not inside:
        names = ", ".join(sorted({node.partition for node in nodes})) or "none"
        raise PrerequisiteError(
            f"partition {name!r} does not exist or has no nodes; there are: {names}",
            "correct backend.options.partition",
        )
    if not inside[0].up:
        raise PrerequisiteError(f"partition {name!r} is not up", "choose another, or ask the operator of the cluster")
    return name, inside


def _check_limit(spec: JobSpec, options: SlurmOptions, partition: str, longest: int | None) -> None:
    """Most sites let a job that asks for too long wait for ever instead of refusing it."""
    limit = options.phase(spec.name).time_limit_s or spec.time_limit_s or options.time_limit_s
    if limit is not None and longest is not None and limit > longest:
        raise PrerequisiteError(
            f"{spec.name} asks for {slurm_time(limit)}; partition {partition!r} allows at most {slurm_time(longest)}",
            "lower the time limit in backend.options: the job is warned before it, and resumes",
        )


def _fits(node: Node, spec: JobSpec, options: SlurmOptions) -> bool:
    cpus, gpus, memory_mib = _needs(spec, options)
    phase = options.phase(spec.name)
    kind = phase.gpu_type or options.gpu_type
    gpus_present = count_gpus(node.gres, kind) if kind and node.gres else node.gpus
    fits = (
        node.cpus >= cpus
        and gpus_present >= gpus
        and node.memory_mib >= memory_mib
        and node.name not in options.exclude
    )
    return fits and (not node.features or has_features(node, phase.constraint or options.constraint))


def _needs(spec: JobSpec, options: SlurmOptions) -> tuple[int, int, int]:
    phase = options.phase(spec.name)
    memory_gib = phase.memory_gib or spec.memory_gib or options.memory_gib or 0
    gpus = spec.gpus if phase.gpus is None else phase.gpus
    return phase.cpus or options.cpus or spec.cpus, gpus, math.ceil(memory_gib * 1024)


def _size(spec: JobSpec, options: SlurmOptions) -> str:
    cpus, gpus, memory_mib = _needs(spec, options)
    phase = options.phase(spec.name)
    kind, features = phase.gpu_type or options.gpu_type, phase.constraint or options.constraint
    of = f" of type {kind}" if kind and gpus else ""
    return f"{cpus} CPUs, {gpus} GPUs{of}, {memory_mib} MiB" + (f", {features}" if features else "")

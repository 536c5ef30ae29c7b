"""The batch/v1 Job of a job: an object from a pure function; nothing is queried or read here.

The object never holds the job's variables, only where they lie, on the volume that holds the job's folder. A user who may
read Jobs in the namespace cannot read them.
"""

from __future__ import annotations

import json
import math
import posixpath
import shlex

from draftsmith.backends.base import RESULT, STDERR, STDOUT
from draftsmith.backends.kubernetes_options import JobOptions
from draftsmith.backends.shell import ENVIRONMENT, EXIT_CODE, run_child
from draftsmith.contract.cluster import (
    JOB_NAME,
    WORKDIR,
    container_security,
    labels_of,
    pod_placement,
    pod_security,
    slug,
    slurm_annotations,
)
from draftsmith.contract.errors import ConfigError
from draftsmith.contract.job import JobSpec
from draftsmith.kit.kube import Object

CONTAINER = "job"
TMP = "/tmp"  # noqa: S108 - inside the container, an emptyDir of its own

_START = """\
umask 077
export DRAFTSMITH_JOB_DIR={workdir}
cd {workdir} || exit 1
{environment}rm -f {result} {exit_code}
"""


def job_object_name(name: str) -> str:
    """Name of the Job for `<run-id>.<phase>`: the same every time, so the server itself refuses a second one."""
    return slug(f"ds-{name}", 52)  # pods of a Job add a suffix to its name


def run_id_of(name: str) -> str:
    """`<run-id>` of `<run-id>.<phase>`."""
    return name.rsplit(".", 1)[0]


def job_manifest(spec: JobSpec, options: JobOptions) -> Object:
    """The exact object. Raises ConfigError or InputError for what cannot be expressed."""
    phase = options.phase(spec.name)
    image = phase.image or options.image
    if not image:
        raise ConfigError(
            "backend.options.image is not set", "name an image with Draftsmith, the engine and the trainer"
        )
    _require_mounted(spec, options)
    limit_s = phase.time_limit_s or spec.time_limit_s or options.time_limit_s
    labels = labels_of(options, "job", run_id_of(spec.name))
    annotations = {JOB_NAME: spec.name, WORKDIR: spec.workdir, **slurm_annotations(options, limit_s)}
    job: Object = {
        "backoffLimit": 0,
        "completions": 1,
        "parallelism": 1,
        "ttlSecondsAfterFinished": options.ttl_s,
        "template": {"metadata": {"labels": labels}, "spec": _pod(spec, options, image)},
    }
    if limit_s:
        job["activeDeadlineSeconds"] = limit_s
    meta = {
        "name": job_object_name(spec.name),
        "namespace": options.namespace,
        "labels": labels,
        "annotations": annotations,
    }
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": meta, "spec": job}


def pod_of(job: Object) -> Object:
    """The Job's pod as an object of its own, to check quotas and admission rules in advance."""
    template = job["spec"]["template"]
    meta = {**job["metadata"], **template["metadata"]}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": template["spec"]}


def script(spec: JobSpec, options: JobOptions) -> str:
    """The shell text of the container."""
    argv = (options.python, *spec.argv[1:]) if options.python else spec.argv
    phase = options.phase(spec.name)
    if phase.launcher == "torchrun":
        if len(argv) < (3 if argv[1:2] == ("-m",) else 2):
            raise ConfigError(f"job {spec.name} is not a Python program", "use launcher = 'plain' for this phase")
        processes = max(1, spec.gpus if phase.gpus is None else phase.gpus)
        argv = (argv[0], "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}", *argv[1:])
    start = _START.format(
        workdir=_quoted(spec.workdir),
        environment=f". ./{ENVIRONMENT} || exit 1\n" if spec.env else "",
        result=RESULT,
        exit_code=EXIT_CODE,
    )
    return start + run_child(f"{' '.join(_quoted(word) for word in argv)} >> {STDOUT} 2>> {STDERR}")


def _quoted(word: str) -> str:
    return shlex.quote(word).replace("$(", "$$(")  # Kubernetes expands $(NAME), and takes $$( for $(


def to_yaml(job: Object) -> str:
    """The object as YAML; as JSON, which is YAML, without a YAML library."""
    try:
        import yaml  # type: ignore[import-untyped]
    except ImportError:
        return json.dumps(job, indent=2) + "\n"
    return str(yaml.safe_dump(job, sort_keys=False, width=120))


def _require_mounted(spec: JobSpec, options: JobOptions) -> None:
    writable = [volume.mount_path.rstrip("/") or "/" for volume in options.volumes if not volume.read_only]
    inside = posixpath.isabs(spec.workdir) and any(posixpath.commonpath([spec.workdir, p]) == p for p in writable)
    if not inside:
        raise ConfigError(
            f"the folder of {spec.name} is on no volume that jobs can write: {spec.workdir}",
            "put the workspace on a shared volume and name its claim in backend.options.volumes, under the same path",
        )


def _pod(spec: JobSpec, options: JobOptions, image: str) -> Object:
    phase = options.phase(spec.name)
    memory = phase.memory_gib or spec.memory_gib or options.memory_gib
    gpus = spec.gpus if phase.gpus is None else phase.gpus
    amounts: Object = {"cpu": str(phase.cpus or spec.cpus), "memory": f"{math.ceil(memory * 1024)}Mi"}
    limits: Object = {"memory": amounts["memory"]}
    if options.limit_cpu:
        limits["cpu"] = amounts["cpu"]
    if options.storage_gib:
        amounts["ephemeral-storage"] = limits["ephemeral-storage"] = f"{math.ceil(options.storage_gib * 1024)}Mi"
    if gpus:
        amounts[options.gpu_resource] = limits[options.gpu_resource] = str(gpus)
    volumes, mounts = _volumes(options)
    pod = pod_placement(options) | {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": options.grace_s,
        "securityContext": pod_security(options),
        "containers": [
            {
                "name": CONTAINER,
                "image": image,
                "command": ["/bin/sh", "-c"],
                "args": [script(spec, options)],
                "workingDir": TMP,
                "env": [{"name": "HOME", "value": f"{TMP}/home"}, {"name": "XDG_CACHE_HOME", "value": f"{TMP}/cache"}],
                "resources": {"requests": amounts, "limits": limits},
                "securityContext": container_security(),
                "volumeMounts": mounts,
            }
        ],
        "volumes": volumes,
    }
    return pod | ({"serviceAccountName": options.service_account} if options.service_account else {})


def _volumes(options: JobOptions) -> tuple[list[Object], list[Object]]:
    volumes: list[Object] = [
        {"name": "tmp", "emptyDir": {"sizeLimit": f"{options.tmp_gib:g}Gi"}},
        {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": f"{options.shm_gib:g}Gi"}},
    ]
    mounts: list[Object] = [{"name": "tmp", "mountPath": TMP}, {"name": "shm", "mountPath": "/dev/shm"}]  # noqa: S108
    claims: dict[str, str] = {}
    for volume in options.volumes:
        name = claims.setdefault(volume.claim, f"claim-{len(claims)}")
        mount: Object = {"name": name, "mountPath": volume.mount_path}
        mount |= {"subPath": volume.sub_path} if volume.sub_path else {}
        mounts.append(mount | ({"readOnly": True} if volume.read_only else {}))
    volumes += [{"name": name, "persistentVolumeClaim": {"claimName": claim}} for claim, name in claims.items()]
    return volumes, mounts

"""The text of a promotion: a JSON patch with the old value as its precondition, or values for the owner of the object (Helm, GitOps).

Pure. A patch touches the command and args of one container and nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence

from draftsmith.engines.container_command import ContainerCommand
from draftsmith.kit.kube import Object
from draftsmith.serving.kubernetes.manifests import to_yaml
from draftsmith.serving.kubernetes.standing import PRESETS, Standing

Words = dict[str, list[str]]  # `command` and `args` of a container, each only if it is there


def words_of(container: Object) -> Words:
    """What a container has of `command` and `args`."""
    return {key: list(container[key]) for key in ("command", "args") if container.get(key) is not None}


def wanted_words(container: Object, command: ContainerCommand) -> Words:
    """`command` and `args` for a rewritten command. A key that was not there stays away while it would be empty."""
    wanted = {"command": list(command.command), "args": list(command.args)}
    return {key: value for key, value in wanted.items() if value or container.get(key) is not None}


def json_patch(standing: Standing, new: Words) -> list[Object]:
    """Operations that hold only if the object is the one that was read: version, command and args are tested first."""
    old = words_of(standing.container)
    place = "".join(f"/{part}" for part in standing.path)
    version = standing.item["metadata"]["resourceVersion"]
    tests: list[Object] = [{"op": "test", "path": "/metadata/resourceVersion", "value": version}]
    tests += [{"op": "test", "path": f"{place}/{key}", "value": value} for key, value in old.items()]
    changes: list[Object] = []
    for key in ("command", "args"):
        if old.get(key) == new.get(key):
            continue
        if key not in new:
            changes.append({"op": "remove", "path": f"{place}/{key}"})
        else:
            changes.append({"op": "replace" if key in old else "add", "path": f"{place}/{key}", "value": new[key]})
    return [*tests, *changes] if changes else []


def patch_text(standing: Standing, operations: Sequence[Object]) -> str:
    """The patch as text, headed by the object that it is for."""
    kind, meta = PRESETS[standing.preset].resource.kind, standing.item["metadata"]
    return f"# JSON patch of {kind} {meta.get('namespace', '')}/{meta['name']}\n" + to_yaml([list(operations)])


def values_text(standing: Standing, command: ContainerCommand, owner: str) -> str:
    """What to change where the object comes from, for a deployment that a patch would not outlive."""
    name, container = standing.name, str(standing.container.get("name", ""))
    config = command.spec_config
    spec = command.spec_words(config)
    words = wanted_words(standing.container, command)
    values: Object
    if standing.preset == "production-stack":
        model = (standing.item["metadata"].get("labels") or {}).get("model", "<the name of the model>")
        values = {"servingEngineSpec": {"modelSpec": [{"name": model, "vllmConfig": {"extraArgs": spec}}]}}
        note = "keep the other extraArgs; drop an older --speculative-config. The operator does not roll on extraArgs alone"
    elif standing.preset == "llm-d":
        values = {"decode": {"containers": [{"name": container, **words}]}}
        note = "keep the other keys of the container"
    elif standing.preset == "kserve":
        values = {"spec": {"predictor": {"model": words}}}
        note = "merge into the InferenceService"
    else:
        values = {"spec": {"template": {"spec": {"containers": [{"name": container, **words}]}}}}
        note = "merge into the Deployment"
    head = f"# {name} is written by {owner}: change it there ({PRESETS[standing.preset].values}; {note})\n"
    return head + to_yaml([values])

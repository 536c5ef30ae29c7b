"""The standing deployment as Draftsmith sees it: the container with the engine, its command, and who owns the object. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from draftsmith.contract.base import digest
from draftsmith.contract.errors import InputError, RefusedError
from draftsmith.engines.catalog import read_words
from draftsmith.engines.container_command import NO_ENGINE, ContainerCommand
from draftsmith.kit.kube import DEPLOYMENTS, INFERENCE_SERVICES, Object, Resource
from draftsmith.serving.kubernetes.options import PresetName, ServingOptions
from draftsmith.serving.kubernetes.placement import accelerator


@dataclass(frozen=True)
class Preset:
    """Where a way of deploying keeps the engine's arguments. `resource` is what a promotion patches."""

    resource: Resource
    pod_spec: tuple[str, ...]
    owner: str  # who makes the object, in words
    values: str  # where the arguments stand in the owner's own input


PRESETS: dict[PresetName, Preset] = {
    "deployment": Preset(DEPLOYMENTS, ("spec", "template", "spec"), "you", "spec.template.spec.containers[].args"),
    "production-stack": Preset(
        DEPLOYMENTS,
        ("spec", "template", "spec"),
        "the Helm chart vllm-stack",
        "servingEngineSpec.modelSpec[].vllmConfig.extraArgs",
    ),
    "llm-d": Preset(
        DEPLOYMENTS, ("spec", "template", "spec"), "the Helm chart llm-d-modelservice", "decode.containers[].args"
    ),
    "kserve": Preset(INFERENCE_SERVICES, ("spec", "predictor"), "you", "spec.predictor.model.args"),
}


@dataclass(frozen=True)
class Standing:
    """A served deployment. `path` leads from the object to the container: keys and list indices."""

    preset: PresetName
    item: Object
    pod_spec: Object
    container: Object
    path: tuple[str | int, ...]
    command: ContainerCommand

    @property
    def name(self) -> str:
        """Name of the object."""
        return str(self.item["metadata"]["name"])

    @property
    def resource(self) -> Resource:
        """What kind of object it is."""
        return PRESETS[self.preset].resource

    @property
    def replicas(self) -> int:
        """Pods it wants."""
        wanted = self.item["spec"].get("replicas")
        return 1 if wanted is None else int(wanted)

    def accelerator(self, preferred: str) -> tuple[str, int]:
        """See placement.accelerator."""
        return accelerator(self.container.get("resources") or {}, preferred)

    @property
    def claims_devices(self) -> bool:
        """Whether its GPUs are claimed (dynamic resource allocation) and not counted."""
        return bool((self.container.get("resources") or {}).get("claims"))

    @property
    def selector(self) -> dict[str, str]:
        """Labels by which a Deployment knows its pods."""
        return dict((self.item["spec"].get("selector") or {}).get("matchLabels") or {})

    def amount(self, resource: str) -> int:
        """How much of a countable resource, such as a GPU, one pod asks for."""
        resources = self.container.get("resources") or {}
        value = (resources.get("limits") or {}).get(resource) or (resources.get("requests") or {}).get(resource) or 0
        return int(value)

    def fingerprint(self) -> str:
        """What serves but for its speculative config: image, words, variables, resources. Equal = a comparison still holds."""
        seen = {key: self.container.get(key) for key in ("image", "env", "envFrom", "resources")}
        words = [word.value for word in self.command.with_spec(None).words]
        return digest(seen | {"words": words})

    def mounts(self) -> dict[str, bool]:
        """See `mounted`."""
        return mounted(self.pod_spec.get("volumes") or [], self.container.get("volumeMounts") or [])


def mounted(volumes: Sequence[Object], mounts: Sequence[Object]) -> dict[str, bool]:
    """Folders of a container that come from volumes, and whether they hold what was put there before it began."""
    empty = {volume["name"] for volume in volumes if "emptyDir" in volume}
    return {mount["mountPath"].rstrip("/"): mount["name"] not in empty for mount in mounts}


def read_standing(item: Object, options: ServingOptions) -> Standing:
    """Find the container that runs the engine. Raises InputError if there is none, or several, or its command is not understood."""
    preset = PRESETS[options.preset]
    spec: Any = item
    for key in preset.pod_spec:
        spec = (spec or {}).get(key) or {}
    candidates: list[tuple[tuple[str | int, ...], Object]] = []
    if options.preset == "kserve" and spec.get("model"):
        candidates = [((*preset.pod_spec, "model"), _kserve_model(item, spec["model"]))]
    else:
        listed = enumerate(spec.get("containers") or [])
        candidates = [((*preset.pod_spec, "containers", index), container) for index, container in listed]
    configs, reasons = [], []
    for path, container in candidates:
        if options.container and container.get("name") != options.container:
            continue
        try:
            command = read_words(
                container.get("command") or [],
                container.get("args") or [],
                image=str(container.get("image", "")),
                known=_starts_vllm(options.preset, str(container.get("image", ""))),
            )
        except InputError as error:
            reasons.append(error)
            continue
        configs.append(Standing(options.preset, item, spec, container, path, command))
    name = item["metadata"]["name"]
    if len(configs) > 1:
        names = ", ".join(str(each.container.get("name")) for each in configs)
        raise InputError(
            f"{name} has several containers that run an engine: {names}", "set serving.options.container to one of them"
        )
    if not configs:
        reason = next(
            (error for error in reasons if "not understood" in error.message), reasons[0] if reasons else None
        )
        raise reason or InputError(f"{name} has no container {options.container or ''}".rstrip(), NO_ENGINE)
    return configs[0]


def _starts_vllm(preset: PresetName, image: str) -> bool:
    """Whether the image surely starts vLLM although its name does not say so: KServe's runtimes, and llm-d's own images but for
    its simulator."""
    return preset == "kserve" or (preset == "llm-d" and "llm-d" in image and "sim" not in image)


def _kserve_model(item: Object, model: Object) -> Object:
    """The model section of an InferenceService, which has the fields of a container. Its runtime must be vLLM."""
    kind = str((model.get("modelFormat") or {}).get("name", "")).lower()
    runtime = str(model.get("runtime", "")).lower()
    if not ({"vllm", "huggingface"} & {kind}) and "vllm" not in runtime:
        raise InputError(f"{item['metadata']['name']} is served by {runtime or kind or 'no model format'}", NO_ENGINE)
    return model


def before_start(spec: Object) -> list[Object]:
    """Init containers that have to end before the server starts. Sidecars (restartPolicy Always), such as a routing proxy, run
    beside it, and a copy that gets no routed traffic needs none."""
    return [each for each in spec.get("initContainers") or [] if each.get("restartPolicy") != "Always"]


def shared_claims(spec: Object) -> list[str]:
    """Device claims by name: every pod that names one gets the same devices."""
    return [
        str(each["resourceClaimName"]) for each in spec.get("resourceClaims") or [] if each.get("resourceClaimName")
    ]


def require_copyable(standing: Standing, options: ServingOptions) -> None:
    """Raise RefusedError if one pod cannot stand in for this deployment (multi-node, KV transfer, hostNetwork, init containers)."""
    spec, command = standing.pod_spec, standing.command
    wrong: list[tuple[bool, str, str]] = [
        (standing.preset == "kserve", "an InferenceService names no pod that could be copied",
         "name the predictor's Deployment, with preset = 'deployment', for canaries"),
        (bool(spec.get("hostNetwork")), "it uses the host's network, where a canary's port would clash",
         "serve it without hostNetwork"),
        (bool(before_start(spec)) and not options.skip_init_containers, "it needs init containers, which canaries do not run",
         "put the model on a volume, then set serving.options.skip_init_containers = true"),
        (any(shared_claims(spec)), f"its pods share one device claim ({', '.join(shared_claims(spec))})",
         "give each pod its own, with resourceClaimTemplateName"),
        (bool(command.values("--kv-transfer-config")) and "--kv-transfer-config" not in options.drop_flags,
         "it exchanges its KV cache with other servers",
         "set serving.options.drop_flags = ['--kv-transfer-config']: all arms are compared without it"),
        (any(command.values(flag) for flag in ("--nnodes", "--headless", "--data-parallel-address")),
         "one server spans several pods", "compare a server that fits one pod"),
        (bool(command.values("--api-key")) and standing.container.get("args") is not None, "its API key is in its arguments, so a copy would show it",
         "move the key into a Secret as VLLM_API_KEY"),
    ]  # fmt: skip
    for bad, feature, step in wrong:
        if bad:
            raise RefusedError(f"{standing.name} cannot be copied for a comparison: {feature}", step)

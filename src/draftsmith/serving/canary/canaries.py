"""Canaries in a cluster: checked, announced on disk, created, waited for, and removed on every way out.

Laws:
- Dry by default: `plan` shows the exact YAML; only `allow_cluster=True` lets anything be created or removed.
- The intent is on disk before the first object exists, and goes only when the cluster has confirmed that all are gone.
- Removal is by the labels of experiment and workspace and nothing else, also after a signal; a volume claim goes last, and on request.
- The cluster itself ends every canary after `lifetime_s`, should nobody come back.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from draftsmith.contract.cluster import (
    CANARY_PERMISSIONS,
    DOMAIN,
    NODE_PERMISSIONS,
    PRIORITY_CLASS,
    RBAC_HINT,
    VOLUME_PERMISSIONS,
    Permission,
    require_name,
)
from draftsmith.contract.errors import (
    EngineLostError,
    PrerequisiteError,
    RefusedError,
)
from draftsmith.contract.pods import image_ids, view
from draftsmith.kit.kube import (
    CLAIMS,
    DEPLOYMENTS,
    EVERYTHING,
    NODES,
    PODS,
    PRIORITY_CLASSES,
    SERVICES,
    ApiError,
    KubeApi,
    Object,
    Selection,
)
from draftsmith.serving.canary.check import HOSTNAME, choose_node, require_unrouted
from draftsmith.serving.canary.ready import CanaryServer, Endpoint, Readiness, start_id
from draftsmith.serving.canary.reasons import require_quota, told_by_events
from draftsmith.serving.canary.removal import Intent, Ledger, Removal, named, unwinding
from draftsmith.serving.canary.text import (
    CONTAINER,
    ArmObjects,
    ArmPlan,
    pod_of,
    render_arm,
    render_staging,
)
from draftsmith.serving.kubernetes.drafts import require_read
from draftsmith.serving.kubernetes.manifests import to_yaml
from draftsmith.serving.kubernetes.options import ServingOptions
from draftsmith.serving.kubernetes.paths import in_containers
from draftsmith.serving.kubernetes.refusals import DRY, translated
from draftsmith.serving.kubernetes.standing import Standing, read_standing, require_copyable

TOKEN = f"{DOMAIN}/token"
CHANGED = "compare again, against what serves now: --start-phase compare"


@dataclass(frozen=True)
class CanaryPlan:
    """Everything that would be created for an experiment, and the standing deployment it is copied from."""

    experiment: str
    standing: Standing
    arms: tuple[ArmObjects, ...]
    staging: Object | None
    node: str | None

    def text(self) -> str:
        """The exact YAML."""
        items = [self.staging] if self.staging else []
        for arm in self.arms:
            items += [arm.workload, arm.service]
        return to_yaml(items)


class Canaries:
    """The canaries of one standing deployment. `folder` is private and outlives this process."""

    def __init__(
        self,
        api: KubeApi,
        options: ServingOptions,
        deploy: str,
        folder: Path,
        *,
        allow_cluster: bool = False,
        endpoint: Endpoint | None = None,
    ) -> None:
        self._api, self._options = api, options
        self._deploy = require_name(deploy, "deployment", dotted=True)
        require_name(options.namespace, "namespace")
        self._allowed = allow_cluster
        self._endpoint = endpoint or self._service_url
        self._ledger = Ledger(folder)
        self._removal = Removal(api, options, self._ledger)

    # -- before anything is created ---------------------------------------------------------------------------------

    def plan(
        self, experiment: str, arms: Sequence[ArmPlan], *, check: bool = True, node: str | None = None
    ) -> CanaryPlan:
        """What would be created. Reads the cluster and changes nothing. `check` False: the node is not looked for.

        `node`: that of an earlier start, taken again where nodes are looked for and the options name none.

        Raises InputError, RefusedError or PrerequisiteError for whatever stands against it.
        """
        options = self._ranked()
        with translated(f"read the deployment {self._deploy}"):
            standing = read_standing(self._api.get(DEPLOYMENTS, options.namespace, self._deploy), options)
        require_copyable(standing, options)
        with translated("list Services and Deployments"):
            services = self._api.list(SERVICES, options.namespace).items
            deployments = self._api.list(DEPLOYMENTS, options.namespace).items
        looks = check and options.check_node and not standing.claims_devices
        place = self._node(standing, len(arms), node) if looks else options.node or node
        now, owner = self._api.clock.unix(), self._ledger.workspace()
        for arm in arms:
            require_read(standing, arm.spec_config)
        mapped = [ArmPlan(arm.name, in_containers(arm.spec_config, options.paths), arm.flags) for arm in arms]
        objects = tuple(render_arm(standing, arm, options, experiment, place, now, owner) for arm in mapped)
        for rendered in objects:
            require_unrouted(pod_of(rendered)["metadata"]["labels"], services, deployments)
        return CanaryPlan(experiment, standing, objects, render_staging(options, experiment), place)

    def check(self, plan: CanaryPlan) -> None:
        """Raises PrerequisiteError or InputError if the cluster would not take the plan now. Creates nothing."""
        needed: list[Permission] = [*CANARY_PERMISSIONS]
        needed += VOLUME_PERMISSIONS if plan.staging else ()
        needed += NODE_PERMISSIONS if self._options.check_node else ()
        with translated("ask for permissions"):
            missing = [str(each) for each in needed if not self._may(each)]
        if missing:
            raise PrerequisiteError(
                f"these credentials may not {', '.join(missing)} in namespace {self._options.namespace}", RBAC_HINT
            )
        for arm in plan.arms:
            with translated(f"create canary {arm.arm}"):
                if arm.resource != PODS:
                    self._api.create(arm.resource, self._options.namespace, arm.workload, dry_run=True)
                self._api.create(PODS, self._options.namespace, pod_of(arm), dry_run=True)
        require_quota(self._api, self._options.namespace, [pod_of(arm) for arm in plan.arms])

    # -- up and down ------------------------------------------------------------------------------------------------

    @contextmanager
    def up(
        self, experiment: str, arms: Sequence[ArmPlan], *, node: str | None = None, served: str | None = None
    ) -> Iterator[dict[str, CanaryServer]]:
        """Start all arms on one node and yield when they are ready; they are always removed on exit, also on signals. Arguments as of `start`.

        Raises RefusedError when dry or changed, PrerequisiteError or EngineStartError if an arm does not become ready.
        """
        self._refuse_when_dry("start canaries")
        with unwinding(lambda: self.down(experiment)):
            yield self.start(experiment, arms, node=node, served=served)

    def start(
        self, experiment: str, arms: Sequence[ArmPlan], *, node: str | None = None, served: str | None = None
    ) -> dict[str, CanaryServer]:
        """Create all arms and wait until they serve. They stay until `down`, or the end of their lifetime.

        `node` and `served` hold a further start to what the first one was: see `plan` and CanaryServer.
        """
        self._refuse_when_dry("start canaries")
        self.sweep()
        with unwinding(lambda: self.down(experiment), only_on_error=True):
            self._removal.remove(experiment)  # what an earlier attempt of this experiment left
            if others := self._removal.others(experiment):
                raise RefusedError(
                    f"another workspace has canaries of an experiment {experiment}: {', '.join(others)}",
                    "give this one another name (--experiment); those end by themselves",
                )
            plan = self.plan(experiment, arms, node=node)
            copied = plan.standing.fingerprint()
            if served not in (None, copied):
                raise RefusedError(f"{self._deploy} was changed while it was compared", CHANGED)
            self.check(plan)
            self._ledger.intend(
                Intent.of(experiment, self._options, [a.name for a in plan.arms], self._api.clock.unix())
            )
            with translated("create the canaries"):
                self._create(plan)
            names = plan.standing.command.values("--served-model-name")
            model = names[-1] if names else plan.standing.command.model
            engine = plan.standing.command.engine
            ready = Readiness(
                self._api, self._options, experiment, plan.arms, model, self._endpoint, copied, engine
            ).wait()
            self._require_same_image(plan, ready)
            return ready

    def down(self, experiment: str, *, volumes: bool = False) -> list[str]:
        """Remove everything with the experiment's label; returns what was there. Harmless if it is gone.

        `volumes`: its volume claim too, last. Raises BackendError if something remains.
        """
        self._refuse_when_dry("remove canaries")
        removed = self._removal.remove(experiment, volumes=volumes)
        self._ledger.forget(experiment)
        return removed

    def tidy(self, experiment: str) -> None:
        """Remove what an attempt of this experiment is on record to have left, if the cluster may be touched."""
        if self._allowed and any(intent.experiment == experiment for intent in self._ledger.intents()):
            self.down(experiment)

    def keep(self, experiment: str) -> None:
        """Let started canaries outlive this process: only `down`, or the end of their lifetime, removes them."""
        self._ledger.keep(experiment)

    def sweep(self) -> list[str]:
        """Remove what dead runs left: those on record here whose process is gone, and canaries past their lifetime."""
        self._refuse_when_dry("remove canaries of dead runs")
        dead = [intent.experiment for intent in self._ledger.intents() if intent.is_dead()]
        removed: list[str] = []
        for experiment in dead:
            removed += self.down(experiment)
        return removed + self._removal.remove_expired(self._api.clock.unix())

    def log(self, server: CanaryServer) -> str:
        """The engine's own output."""
        with translated(f"read the log of canary {server.arm}"):
            return self._api.log(self._options.namespace, server.pod, CONTAINER)

    def require_alive(self, servers: dict[str, CanaryServer]) -> None:
        """Raise EngineLostError if a canary was evicted, ended or restarted since it became ready."""
        with translated("look at the canaries"):
            pods = {
                pod["metadata"]["name"]: pod for pod in self._api.list(PODS, self._options.namespace, named()).items
            }
        for server in servers.values():
            pod = pods.get(server.pod)
            if pod is None:
                why = told_by_events(self._api, self._options.namespace, server.pod)
                sentence = f"canary {server.arm} was removed{f' ({why})' if why else ''}"
                raise EngineLostError(sentence, "start the comparison again")
            if start_id(pod) != server.start_id or view(pod).stage not in ("ready", "running"):
                raise EngineLostError(f"canary {server.arm} {view(pod).detail}", "start the comparison again")

    # -- steps ------------------------------------------------------------------------------------------------------

    def _node(self, standing: Standing, arms: int, again: str | None) -> str:
        options = self._options
        with translated("look for an idle node (list nodes and pods of the cluster)"):
            # A later start knows its node: neither all nodes nor all pods of a large cluster are read for each block.
            selection = Selection(labels=f"{HOSTNAME}={again}") if again and not options.node else EVERYTHING
            nodes = self._api.list(NODES, None, selection).items
            node_names = [str(node["metadata"]["name"]) for node in nodes] if selection != EVERYTHING else []
            select = Selection(fields=f"spec.nodeName={node_names[0]}") if len(node_names) == 1 else EVERYTHING
            pods = self._api.list(PODS, None, select).items
        return choose_node(nodes, pods, options, standing=standing, named=options.node or again, arms=arms)

    def fits(self, arms: int) -> bool:
        """Whether an idle node has room for this many arms at once. True if nodes cannot be listed or nothing can be counted."""
        if not self._options.check_node:
            return True
        with translated(f"read the deployment {self._deploy}"):
            standing = read_standing(self._api.get(DEPLOYMENTS, self._options.namespace, self._deploy), self._options)
        if standing.claims_devices:
            return True
        try:
            self._node(standing, arms, None)
        except PrerequisiteError:
            return False
        return True

    def _ranked(self) -> ServingOptions:
        """The options; below everything else in priority, where the cluster has the class for it and no other is named."""
        if self._options.priority_class is None:
            with suppress(ApiError):
                self._api.get(PRIORITY_CLASSES, None, PRIORITY_CLASS)
                return self._options.model_copy(update={"priority_class": PRIORITY_CLASS})
        return self._options

    def _may(self, permission: Permission) -> bool:
        where = None if permission.cluster else self._options.namespace
        return self._api.allowed(permission.verb, permission.resource, where, sub=permission.sub)

    def _create(self, plan: CanaryPlan) -> None:
        namespace = self._options.namespace
        if plan.staging is not None:
            try:
                self._api.create(CLAIMS, namespace, plan.staging)
            except ApiError as error:
                if error.status != 409:
                    raise
        for arm in plan.arms:
            workload = self._create_once(arm)
            owner = {"apiVersion": workload["apiVersion"], "kind": workload["kind"], "name": arm.name}
            service = {**arm.service, "metadata": {**arm.service["metadata"]}}
            service["metadata"]["ownerReferences"] = [{**owner, "uid": workload["metadata"]["uid"]}]
            try:
                self._api.create(SERVICES, namespace, service)
            except ApiError as error:
                if error.status != 409:  # created by an attempt whose answer was lost: the name is ours alone
                    raise

    def _create_once(self, arm: ArmObjects) -> Object:
        """Create the workload; an answer that was lost is recognised by a token, so nothing is started twice."""
        token = secrets.token_hex(8)
        meta = arm.workload["metadata"]
        body = {**arm.workload, "metadata": {**meta, "annotations": {**meta["annotations"], TOKEN: token}}}
        try:
            created = self._api.create(arm.resource, self._options.namespace, body)
        except ApiError as error:
            if error.status != 409:
                raise
            same = self._api.list(arm.resource, self._options.namespace, Selection(fields=f"metadata.name={arm.name}"))
            created_here = [i for i in same.items if (i["metadata"].get("annotations") or {}).get(TOKEN) == token]
            if not created_here:
                raise
            created = created_here[0]
        return {"apiVersion": arm.workload["apiVersion"], "kind": arm.workload["kind"], **created}

    def _service_url(self, arm: ArmObjects, pod: Object) -> str:
        return self._options.endpoint.format(
            service=arm.name, namespace=self._options.namespace, port=arm.port, ip=pod["status"].get("podIP", "")
        )

    def _require_same_image(self, plan: CanaryPlan, servers: dict[str, CanaryServer]) -> None:
        """Raise RefusedError if a tag means another image by now than when the served pods were started."""
        if self._options.image or "@" in str(plan.standing.container.get("image", "")):
            return
        with translated("look at the images that run"):
            pods = self._api.list(PODS, self._options.namespace).items
        wanted, names = plan.standing.selector, {server.pod for server in servers.values()}
        served = [p for p in pods if wanted and wanted.items() <= (p["metadata"].get("labels") or {}).items()]
        served_images = {
            image for pod in served for image in image_ids(pod, str(plan.standing.container.get("name", "")))
        }
        arm_images = {image for p in pods if p["metadata"]["name"] in names for image in image_ids(p, CONTAINER)}
        if served_images and arm_images - served_images:
            raise RefusedError(
                f"the tag of {plan.standing.container['image']} means another image by now than the one that serves",
                f"roll {self._deploy} out anew, or name its image by digest; then compare again",
            )

    def _refuse_when_dry(self, text: str) -> None:
        if not self._allowed:
            raise RefusedError(f"dry run: would {text} in namespace {self._options.namespace}", DRY)

"""A Kubernetes API server, as far as Draftsmith can tell, over HTTP: objects with versions, lists by selector and page,
watches, JSON patch with `test`, dry runs, access reviews, removal with grace and finalizers, and the controllers of
Jobs and Deployments. The world moves one step whenever somebody looks, so nothing waits on the wall.

`faults` answer in place of the server; `rules` (of Roles) are enforced; `behaviour` says what becomes of a pod:
ready, unplaced, pull, crash, evicted, or run (its command is executed here), and `rollout` what becomes of a Deployment's
new pods: ready, pull, unplaced, evicted (one is, and is replaced), late (the deadline passes) or never.
"""

from __future__ import annotations

import copy
import json
import os
import signal
import subprocess
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from refusals import RefusedCallError, by_fields, by_labels, require_restricted, require_same, require_valid

from draftsmith.kit.clock import Clock, SystemClock

Object = dict[str, Any]
Key = tuple[str, str, str]  # plural, namespace, name
KINDS = {"pods": "Pod", "services": "Service", "persistentvolumeclaims": "PersistentVolumeClaim", "nodes": "Node",
         "jobs": "Job", "deployments": "Deployment", "inferenceservices": "InferenceService", "events": "Event",
         "resourcequotas": "ResourceQuota", "priorityclasses": "PriorityClass"}  # fmt: skip

TOLD = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/1 nodes: no GPU"}
UNPLACED: Object = {"phase": "Pending", "conditions": [TOLD]}
EVICTED: Object = {"phase": "Failed", "reason": "Evicted", "message": "the node was low on memory", "conditions": []}


@dataclass(frozen=True)
class Call:
    verb: str
    group: str
    plural: str
    sub: str
    namespace: str | None
    name: str
    dry: bool = False
    only: str = ""  # a list or watch limited to this name

    @property
    def right(self) -> tuple[str, str, str, bool]:
        """(verb, group, resource[/sub], whether in all namespaces): what a Role has to allow."""
        return self.verb, self.group, f"{self.plural}/{self.sub}" if self.sub else self.plural, self.namespace is None


@dataclass
class Fault:
    """Answers calls with `verb` on `plural`, `times` times after the first `after`. `cut`: the connection is closed."""

    verb: str
    plural: str
    status: int = 0
    reason: str = ""
    message: str = ""
    retry_after: int | None = None
    times: int = 1
    after: int = 0
    late: bool = False  # the request is carried out, and only its answer is lost
    do: Callable[[], object] | None = None

    def takes(self, call: Call) -> bool:
        if (call.verb, call.plural) != (self.verb, self.plural) or call.dry or self.times <= 0:
            return False
        if self.after:
            self.after -= 1
            return False
        self.times -= 1
        return True


@dataclass
class FakeCluster:
    clock: Clock = field(default_factory=SystemClock)
    rules: list[Object] | None = None
    quota: str | None = None
    suspends: bool = False  # a queue holds back every new Job
    namespaces: frozenset[str] = frozenset({"default", "serve", "other"})
    restricted: frozenset[str] = frozenset()  # namespaces that enforce the Pod Security Standard
    behaviour: Callable[[Object], str] = lambda pod: "ready"
    rollout: Callable[[Object], str] = lambda deployment: "ready"
    logs: Callable[[Object], str] = lambda pod: "the engine said this\n"
    on_pod: Callable[[Object], Object | None] = lambda pod: None  # an event that comes with a new pod
    mark: Callable[[Object], object] = lambda pod: None  # what the kubelet tells of a pod besides
    objects: dict[Key, Object] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)
    calls: list[Call] = field(default_factory=list)
    page: int = 2
    expired_watches: int = 0
    version: int = 100
    frozen: bool = False

    def __post_init__(self) -> None:
        self.lock = threading.RLock()
        self.history: list[tuple[int, str, str, str, Object]] = []  # version, plural, namespace, type, object
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        self.steps: dict[str, int] = {}
        handler = type("Bound", (Handler,), {"cluster": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        for process in self.processes.values():
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()

    # -- objects --------------------------------------------------------------------------------------------------

    def put(self, item: Object, plural: str | None = None) -> Object:
        """Create as the server would, without a client."""
        plural = plural or next(p for p, kind in KINDS.items() if kind == item["kind"])
        with self.lock:
            meta = item["metadata"]
            key = (plural, meta.get("namespace", ""), meta["name"])
            if key in self.objects:
                raise RefusedCallError(409, "AlreadyExists", f'{plural} "{meta["name"]}" already exists')
            now = datetime.fromtimestamp(self.clock.unix(), UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
            meta |= {"uid": str(uuid.uuid4()), "creationTimestamp": now, "generation": 1}
            self._store(key, item, "ADDED")
            if plural == "jobs" and self.suspends:
                item["spec"]["suspend"] = True
            elif plural == "jobs":
                self._pod_of(item, item["spec"]["template"], "Job")
            if plural == "pods" and (told := self.on_pod(item)) is not None:
                self.put(told)
            if plural == "pods" and self.behaviour(item) == "run":
                self._run(item)
            if plural == "deployments":
                self._roll(item, at_once=True)
            return item

    def get(self, plural: str, name: str, namespace: str = "serve") -> Object | None:
        return self.objects.get((plural, namespace, name))

    def touch(self, plural: str, name: str, change: Callable[[Object], object], namespace: str = "serve") -> None:
        """Somebody else changes an object."""
        with self.lock:
            item = copy.deepcopy(self.objects[plural, namespace, name])
            change(item)
            self._updated((plural, namespace, name), item)

    def holds(self) -> dict[str, Any]:
        """The whole store, for comparison: specs and marks of everything, without what the server itself counts. Pods of
        a Deployment, whose names change with every rollout, stand together."""
        found: dict[str, Any] = {}
        with self.lock:
            for (plural, namespace, name), item in sorted(self.objects.items()):
                if plural == "events":
                    continue
                meta, spec = item["metadata"], copy.deepcopy(item.get("spec"))
                if plural == "pods":
                    spec.pop("nodeName", None)
                owners = [f"{owner['kind']} {owner['name']}" for owner in meta.get("ownerReferences", ())]
                if plural == "pods" and owners and owners[0].startswith("Deployment "):
                    found.setdefault(f"pods/{namespace}/of {owners[0]}", []).append(spec)
                    continue
                marks = {key: copy.deepcopy(meta.get(key)) for key in ("labels", "annotations", "finalizers")}
                marks |= {"owners": owners, "going": meta.get("deletionTimestamp")}
                found[f"{plural}/{namespace}/{name}"], found[f"{plural}/{namespace}/{name} marks"] = spec, marks
        return found

    def _store(self, key: Key, item: Object, event: str) -> None:
        self.version += 1
        item["metadata"]["resourceVersion"] = str(self.version)
        if event == "DELETED":
            self.objects.pop(key, None)
        else:
            self.objects[key] = item
        self.history.append((self.version, key[0], key[1], event, copy.deepcopy(item)))

    def _updated(self, key: Key, item: Object) -> None:
        before = self.objects[key]
        changed = before.get("spec") != item.get("spec")
        if changed:
            item["metadata"]["generation"] = before["metadata"].get("generation", 1) + 1
        self._store(key, item, "MODIFIED")
        if changed and key[0] == "deployments":
            self._roll(item)

    def remove(self, key: Key) -> None:
        item = self.objects[key]
        if item["metadata"].get("finalizers") or (key[0] == "pods" and not item["metadata"].get("deletionTimestamp")):
            item["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
            self._signal(item, signal.SIGTERM)
            self._store(key, item, "MODIFIED")
            return
        self._signal(item, signal.SIGKILL)
        self._store(key, item, "DELETED")
        for other, owned in list(self.objects.items()):  # the garbage collector
            if any(o["uid"] == item["metadata"]["uid"] for o in owned["metadata"].get("ownerReferences", ())):
                self.remove(other)

    # -- the world moves --------------------------------------------------------------------------------------------

    def step(self) -> None:
        """One step of every pod, Job and Deployment."""
        with self.lock:
            if self.frozen:
                return
            for key, item in list(self.objects.items()):
                if key[0] == "pods" and key in self.objects:
                    self._step_pod(key, item)
            for key, item in list(self.objects.items()):
                if key[0] == "jobs":
                    self._step_job(key, item)
                if key[0] == "deployments":
                    self._step_deployment(key, item)
                if key[0] == "inferenceservices":
                    self._step_predictor(key, item)

    def _set(self, key: Key, item: Object, status: Object) -> None:
        if item.get("status") != status:
            item["status"] = status
            if key[0] == "pods" and status.get("containerStatuses"):
                self.mark(item)
            self._store(key, item, "MODIFIED")

    def _pod_of(self, owner: Object, template: Object, kind: str) -> None:
        meta = owner["metadata"]
        if self.quota:
            return
        name = f"{meta['name']}-{uuid.uuid4().hex[:5]}"
        reference = {"kind": kind, "name": meta["name"], "uid": meta["uid"], "controller": True, "apiVersion": "x"}
        labels = dict(template["metadata"].get("labels", {}))
        self.put({"apiVersion": "v1", "kind": "Pod", "spec": copy.deepcopy(template["spec"]), "metadata": {
            "name": name, "namespace": meta["namespace"], "labels": labels, "ownerReferences": [reference],
            "annotations": dict(template["metadata"].get("annotations", {})),
        }})  # fmt: skip

    def _step_pod(self, key: Key, pod: Object) -> None:
        if pod["metadata"].get("deletionTimestamp"):
            if not pod["metadata"].get("finalizers"):
                self.remove(key)
            return
        if pod.get("status", {}).get("phase") in ("Succeeded", "Failed"):
            return
        owner = next((d for d in self.objects.values() if d["kind"] == "Deployment" and _owned(pod, d)), None)
        if owner is not None:  # its controller moves it, unless it cannot start
            fate = self.rollout(owner) if "status" not in pod else ""
            if fate == "pull":
                waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}}
                self._set(key, pod, _pod("Pending", waiting))
            if fate == "unplaced":
                self._set(key, pod, UNPLACED)
            if fate == "evicted" and not self.steps.get(f"{owner['metadata']['generation']} lost"):
                self.steps[f"{owner['metadata']['generation']} lost"] = 1
                self._set(key, pod, EVICTED)
                self._pod_of(owner, owner["spec"]["template"], "Deployment")
            return
        if "serving.kserve.io/inferenceservice" in pod["metadata"].get("labels", {}):
            return
        fate, uid = self.behaviour(pod), pod["metadata"]["uid"]
        step = self.steps[uid] = self.steps.get(uid, 0) + 1
        if fate == "unplaced":
            self._set(key, pod, UNPLACED)
            return
        selected = (pod["spec"].get("nodeSelector") or {}).get("kubernetes.io/hostname", "node-a")
        pod["spec"]["nodeName"] = selected
        states: Iterator[Object] = iter(())
        if fate == "run":
            states = iter([self._run(pod)])
        elif fate == "pull":
            first = [_pod("Pending", {"waiting": {"reason": "ErrImagePull", "message": "not found"}})]
            states = iter(
                [*first, _pod("Pending", {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}})]
            )
        elif fate == "attach":
            states = iter([_pod("Pending", {"waiting": {"reason": "ContainerCreating"}})])
        elif fate == "crash":
            states = iter([_pod("Running", {"running": {"startedAt": "t"}}),
                           _pod("Failed", {"terminated": {"exitCode": 1, "reason": "Error"}})])  # fmt: skip
        else:
            ready = _pod("Running", {"running": {"startedAt": "t1"}}, ready=True)
            states = iter([_pod("Pending", {"waiting": {"reason": "ContainerCreating"}}),
                           _pod("Running", {"running": {"startedAt": "t1"}}), ready])  # fmt: skip
            if fate == "evicted":
                states = iter([ready, EVICTED])
        listed = list(states)
        self._set(key, pod, listed[min(step, len(listed)) - 1])

    def _step_job(self, key: Key, job: Object) -> None:
        pods = [p for p in self.objects.values() if p["kind"] == "Pod" and _owned(p, job)]
        status: Object = {
            "active": sum(p["status"].get("phase") in ("Pending", "Running") for p in pods if "status" in p)
        }
        phases = [p.get("status", {}).get("phase") for p in pods]
        conditions = [c for p in pods for c in p.get("status", {}).get("conditions", ())]
        if any(c["type"] == "Ready" and c["status"] == "True" for c in conditions):
            status["ready"] = 1
        if "Succeeded" in phases:
            status["conditions"] = [{"type": "Complete", "status": "True"}]
        elif "Failed" in phases:
            why = {"reason": "BackoffLimitExceeded", "message": "Job has reached the specified backoff limit"}
            status["conditions"] = [{"type": "Failed", "status": "True", **why}]
        self._set(key, job, job.get("status", status) if job.get("status", {}).get("conditions") else status)

    def _roll(self, deployment: Object, at_once: bool = False) -> None:
        """The controller takes up a new template: one more pod of it."""
        for _ in range(deployment["spec"].get("replicas", 1)):
            self._pod_of(deployment, deployment["spec"]["template"], "Deployment")
        if at_once:
            self._finish_roll(deployment)

    def _finish_roll(self, deployment: Object) -> None:
        meta, wanted = deployment["metadata"], deployment["spec"].get("replicas", 1)
        template, kept = deployment["spec"]["template"]["spec"], 0
        for key, pod in list(self.objects.items()):
            if key[0] == "pods" and _owned(pod, deployment):
                lost = pod.get("status", {}).get("phase") == "Failed" or pod["metadata"].get("deletionTimestamp")
                if pod["spec"]["containers"] == template["containers"] and kept < wanted and not lost:
                    kept += 1
                    pod["spec"]["nodeName"] = "node-s"
                    self._set(key, pod, _pod("Running", {"running": {"startedAt": "t"}}, ready=True))
                else:
                    self.remove(key)
        counts = {"replicas": wanted, "updatedReplicas": wanted, "availableReplicas": wanted}
        status = {"observedGeneration": meta["generation"], **counts}
        self._set(("deployments", meta["namespace"], meta["name"]), deployment, status)

    def _step_deployment(self, key: Key, deployment: Object) -> None:
        meta, wanted = deployment["metadata"], deployment["spec"].get("replicas", 1)
        status = deployment.get("status", {})
        if status.get("observedGeneration") == meta["generation"] and status.get("updatedReplicas") == wanted:
            return
        fate, uid = self.rollout(deployment), f"{meta['uid']}{meta['generation']}"
        step = self.steps[uid] = self.steps.get(uid, 0) + 1
        if step > 2 and fate in ("ready", "evicted"):
            self._finish_roll(deployment)
            return
        counts = {"replicas": wanted + 1, "updatedReplicas": wanted - 1, "availableReplicas": wanted}
        late = {"type": "Progressing", "reason": "ProgressDeadlineExceeded", "status": "False", "message": "timed out"}
        conditions = [late] if fate == "late" and step > 2 else []
        self._set(key, deployment, {"observedGeneration": meta["generation"], **counts, "conditions": conditions})

    def _step_predictor(self, key: Key, service: Object) -> None:
        """KServe in its raw mode: pods of the runtime's arguments and the model's; its status stays Ready meanwhile, and its
        observedGeneration is that of the Deployment below it."""
        labels = {"serving.kserve.io/inferenceservice": key[2], "component": "predictor"}
        args = ["--port=8080", *service["spec"]["predictor"]["model"].get("args", [])]
        pods = [
            (k, p)
            for k, p in self.objects.items()
            if k[0] == "pods" and labels.items() <= p["metadata"]["labels"].items()
        ]
        new = [(k, p) for k, p in pods if p["spec"]["containers"][0]["args"] == args]
        step = self.steps[f"{key} {args}"] = self.steps.get(f"{key} {args}", 0) + 1 if new else 0
        if not new:
            container = {"name": "kserve-container", "image": "vllm/vllm-openai:v1", "args": args}
            meta = {"name": f"{key[2]}-predictor-{uuid.uuid4().hex[:5]}", "namespace": key[1], "labels": labels}
            owner = {"kind": "ReplicaSet", "name": "x", "uid": "x", "controller": True, "apiVersion": "apps/v1"}
            pod = {"apiVersion": "v1", "kind": "Pod", "metadata": meta | {"ownerReferences": [owner]},
                   "spec": {"containers": [container], "nodeName": "node-s"}}  # fmt: skip
            self.put(pod)
            self._set(("pods", key[1], meta["name"]), pod, _pod("Running", {"running": {"startedAt": "t"}}))
        fate = self.rollout(service)
        if step == 2 and fate == "crash":
            state = {"waiting": {"reason": "CrashLoopBackOff"}}
            told = _pod("Running", state)
            last = {"lastState": {"terminated": {"exitCode": 1}}, "restartCount": 3}
            told["containerStatuses"][0] |= last
            self._set(new[0][0], new[0][1], told)
        if step >= 3 and fate == "ready":
            self._set(new[0][0], new[0][1], _pod("Running", {"running": {"startedAt": "t"}}, ready=True))
            for other, _ in pods:
                if other != new[0][0]:
                    self.remove(other)

    # -- pods that are executed here --------------------------------------------------------------------------------

    def _run(self, pod: Object) -> Object:
        uid, [container] = pod["metadata"]["uid"], pod["spec"]["containers"]
        if uid not in self.processes:
            env = {"PATH": os.environ["PATH"]} | {item["name"]: item["value"] for item in container.get("env", ())}
            self.processes[uid] = subprocess.Popen(
                [*container["command"], *container["args"]],
                cwd=container["workingDir"],
                env=env,
                start_new_session=True,
            )
        code = self.processes[uid].poll()
        if code is None:
            return _pod("Running", {"running": {"startedAt": "t"}}, ready=True)
        return _pod("Failed" if code else "Succeeded", {"terminated": {"exitCode": code if code >= 0 else 128 - code}})

    def _signal(self, pod: Object, number: signal.Signals) -> None:
        process = self.processes.get(pod["metadata"]["uid"])
        if process is not None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)

    # -- requests ---------------------------------------------------------------------------------------------------

    def answer(self, method: str, call: Call, query: dict[str, str], body: Any) -> Object | str:
        with self.lock:
            self.calls.append(call)
            fault = next((f for f in self.faults if f.takes(call)), None)
            if fault is not None and not fault.late:
                if fault.do:
                    fault.do()
                if fault.status:
                    raise RefusedCallError(fault.status, fault.reason, fault.message, fault.retry_after)
                if not fault.do:
                    raise ConnectionAbortedError
            self._allow(call)
            if call.verb in ("list", "get", "watch"):
                self.step()
            done = self._perform(method, call, query, body)
            if fault is not None and fault.late:
                raise ConnectionAbortedError
            return done

    def _allow(self, call: Call) -> None:
        if self.rules is None or call.group == "authorization.k8s.io":
            return
        if not any(_covers(rule, call) for rule in self.rules):
            place = f' in the namespace "{call.namespace}"' if call.namespace else " at the cluster scope"
            what = f'cannot {call.verb} resource "{call.right[2]}" in API group "{call.group}"{place}'
            raise RefusedCallError(403, "Forbidden", f'{call.plural} is forbidden: User "draftsmith" {what}')

    def _perform(self, method: str, call: Call, query: dict[str, str], body: Any) -> Object | str:
        key = (call.plural, call.namespace or "", call.name)
        if call.plural == "selfsubjectaccessreviews":
            asked = body["spec"]["resourceAttributes"]
            probe = Call(asked["verb"], asked["group"], asked["resource"], asked.get("subresource", ""),
                         asked.get("namespace"), asked.get("name", ""))  # fmt: skip
            allowed = self.rules is None or any(_covers(rule, probe) for rule in self.rules)
            return body | {"status": {"allowed": allowed}}
        if method == "GET" and not call.name:
            return self._list(call, query)
        if method == "POST":
            item = copy.deepcopy(body)
            item["metadata"].setdefault("namespace", call.namespace)
            if prefix := item["metadata"].pop("generateName", ""):
                item["metadata"]["name"] = prefix + uuid.uuid4().hex[:10]
            self._admit(call, item, strict=query.get("fieldValidation") == "Strict")
            if call.plural == "pods" and self.quota:
                raise RefusedCallError(
                    403, "Forbidden", f'pods "{item["metadata"]["name"]}" is forbidden: {self.quota}'
                )
            if call.dry and (call.plural, call.namespace or "", item["metadata"]["name"]) in self.objects:
                raise RefusedCallError(
                    409, "AlreadyExists", f'{call.plural} "{item["metadata"]["name"]}" already exists'
                )
            return item if call.dry else self.put(item, call.plural)
        if key not in self.objects:
            raise RefusedCallError(404, "NotFound", f'{call.plural} "{call.name}" not found')
        item = self.objects[key]
        if method == "GET":
            if call.sub == "log":
                self._require_container(item, query.get("container", ""))
                return self.logs(item)
            return item
        if method == "PATCH":
            changed = copy.deepcopy(item)
            for operation in body:
                _apply(changed, operation)
            require_valid(changed, strict=query.get("fieldValidation") == "Strict")
            require_same(item, changed)
            self._updated(key, changed)
            return changed
        wanted = ((body or {}).get("preconditions") or {}).get("uid")
        if wanted not in (None, item["metadata"]["uid"]):
            raise RefusedCallError(409, "Conflict", "the UID in the precondition does not match")
        self.remove(key)
        return {"kind": "Status", "status": "Success"}

    def _admit(self, call: Call, item: Object, *, strict: bool) -> None:
        """What stands between a request and the store."""
        if item["metadata"]["namespace"] != call.namespace:
            raise RefusedCallError(400, "BadRequest", "the namespace of the object does not match that of the request")
        if call.namespace and call.namespace not in self.namespaces:
            raise RefusedCallError(404, "NotFound", f'namespaces "{call.namespace}" not found')
        require_valid(item, strict=strict)
        if call.plural == "pods" and call.namespace in self.restricted:
            require_restricted(item)
        wanted = item.get("spec", {}).get("priorityClassName") if call.plural == "pods" else None
        if wanted and ("priorityclasses", "", wanted) not in self.objects:
            told = f"no PriorityClass with name {wanted} was found"
            raise RefusedCallError(403, "Forbidden", f'pods "{item["metadata"]["name"]}" is forbidden: {told}')

    def _require_container(self, pod: Object, name: str) -> None:
        if name not in {container["name"] for container in pod["spec"]["containers"]}:
            told = f"container {name} is not valid for pod {pod['metadata']['name']}"
            raise RefusedCallError(400, "BadRequest", told)

    def _list(self, call: Call, query: dict[str, str]) -> Object:
        found = [copy.deepcopy(item) for key, item in sorted(self.objects.items()) if _selected(key, item, call, query)]
        start, size = int(query.get("continue", 0)), min(int(query.get("limit", 500)), self.page)
        meta = {"resourceVersion": str(self.version)}
        if start + size < len(found):
            meta["continue"] = str(start + size)
        return {"kind": "List", "metadata": meta, "items": found[start : start + size]}

    def events(self, call: Call, query: dict[str, str]) -> list[Object]:
        """What a watch sends before its connection ends. It always ends early, as watches do."""
        with self.lock:
            if self.expired_watches:
                self.expired_watches -= 1
                told = {"kind": "Status", "code": 410, "reason": "Expired", "message": "too old resource version"}
                return [{"type": "ERROR", "object": told}]
            self._allow(call)
            self.step()
            since = int(query["resourceVersion"])
            sent = [{"type": event, "object": item} for version, plural, namespace, event, item in self.history
                    if version > since and _selected((plural, namespace, item["metadata"]["name"]), item, call, query)]  # fmt: skip
            mark = {"kind": "x", "metadata": {"resourceVersion": str(self.version)}}
            return [*sent, {"type": "BOOKMARK", "object": mark}]


class Handler(BaseHTTPRequestHandler):
    cluster: FakeCluster
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _handle(self) -> None:
        length = int(self.headers.get("content-length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        parts = urlsplit(self.path)
        query = {key: values[0] for key, values in parse_qs(parts.query).items()}
        call = _call(self.command, [unquote(part) for part in parts.path.strip("/").split("/")], query)
        try:
            if call.verb == "watch":
                self._watch(call, query)
                return
            done = self.cluster.answer(self.command, call, query, body)
        except ConnectionAbortedError:
            self.close_connection = True
            self.connection.close()
            return
        except RefusedCallError as no:
            self._refuse(no)
            return
        self._send(200, done if isinstance(done, str) else json.dumps(done))

    do_GET = do_POST = do_PATCH = do_DELETE = _handle  # noqa: N815

    def _watch(self, call: Call, query: dict[str, str]) -> None:
        cluster = self.cluster
        with cluster.lock:
            cluster.calls.append(call)
            fault = next((f for f in cluster.faults if f.takes(call)), None)
        if fault is not None and fault.do:
            fault.do()
        if fault is not None and fault.status:
            raise RefusedCallError(fault.status, fault.reason, fault.message, fault.retry_after)
        lines = "".join(json.dumps(event) + "\n" for event in cluster.events(call, query)).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        half = len(lines) // 2 + 1
        for piece in (lines[:half], lines[half:]):
            if piece:
                self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
                self.wfile.flush()
            if fault is not None and not fault.status and not fault.do:  # cut off in the middle of a line
                self.close_connection = True
                self.connection.close()
                return
        self.wfile.write(b"0\r\n\r\n")

    def _refuse(self, no: RefusedCallError) -> None:
        status = {"kind": "Status", "status": "Failure", "code": no.status, "reason": no.reason, "message": no.message}
        self._send(no.status, json.dumps(status), {"Retry-After": str(no.retry_after)} if no.retry_after else {})

    def _send(self, status: int, text: str, headers: dict[str, str] | None = None) -> None:
        data = text.encode()
        self.send_response(status)
        for key, value in {"content-length": str(len(data)), **(headers or {})}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(data)


def _call(method: str, parts: list[str], query: dict[str, str]) -> Call:
    group, rest = ("", parts[2:]) if parts[0] == "api" else (parts[1], parts[3:])
    namespace = None
    if rest[0] == "namespaces":
        namespace, rest = rest[1], rest[2:]
    plural, name, sub = (*rest, "", "")[:3]
    verbs = {"GET": "get" if name else "list", "POST": "create", "PATCH": "patch", "DELETE": "delete"}
    verb = "watch" if query.get("watch") else verbs[method]
    only = query.get("fieldSelector", "").removeprefix("metadata.name=")
    return Call(verb, group, plural, sub, namespace, name, "dryRun" in query, only)


def _covers(rule: Object, call: Call) -> bool:
    verb, group, resource, everywhere = call.right
    names = rule.get("resourceNames")
    return (
        verb in rule["verbs"] and group in rule["apiGroups"] and resource in rule["resources"]
        and (not everywhere or bool(rule.get("cluster")))
        and (not names or (call.name or call.only) in names)
    )  # fmt: skip


def _selected(key: Key, item: Object, call: Call, query: dict[str, str]) -> bool:
    plural, namespace, _ = key
    if plural != call.plural or (call.namespace is not None and namespace != call.namespace):
        return False
    labels = item["metadata"].get("labels") or {}
    return by_labels(query.get("labelSelector", ""), labels) and by_fields(query.get("fieldSelector", ""), plural, item)


def _pod(phase: str, state: Object, *, ready: bool = False) -> Object:
    conditions = [{"type": "PodScheduled", "status": "True"}, {"type": "Ready", "status": str(ready)}]
    status = {"name": "server", "state": state, "restartCount": 0, "ready": ready}
    return {"phase": phase, "conditions": conditions, "containerStatuses": [status], "podIP": "10.0.0.7"}


def _owned(item: Object, owner: Object) -> bool:
    return any(o["uid"] == owner["metadata"]["uid"] for o in item["metadata"].get("ownerReferences", ()))


def _apply(item: Any, operation: Object) -> None:
    *parents, last = [p.replace("~1", "/").replace("~0", "~") for p in operation["path"].split("/")[1:]]
    place = item
    for part in parents:
        place = place[int(part)] if isinstance(place, list) else place[part]
    kind = operation["op"]
    if kind == "test":
        if place.get(last) != operation["value"]:
            raise RefusedCallError(422, "Invalid", "the server rejected our request due to an error in our request")
    elif kind == "remove":
        del place[last]
    else:
        if kind == "replace" and last not in place:
            raise RefusedCallError(422, "Invalid", "the server rejected our request due to an error in our request")
        place[last] = operation["value"]

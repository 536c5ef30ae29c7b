"""The API of a Kubernetes cluster over HTTP: verbs, retries and errors, and nothing of what they are used for.

The maintained client library `kubernetes` finds the cluster, its certificates and credentials (kubeconfig, exec plug-ins,
service accounts) and keeps the connections; the verbs here are plain JSON on top of it, one for each permission that a
Role can name. Requests that the server put off (429, 503 with Retry-After) or that it may not have seen are repeated.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

from draftsmith.kit.clock import Clock, SystemClock

Object = dict[str, Any]

PAGE = 500
ATTEMPTS = 6
LONGEST_PAUSE_S = 30.0
READ_SLACK_S = 10.0  # a watch may end this much later than requested
AGAIN = frozenset({0, 429, 500, 502, 503, 504})
STRICT = {"fieldValidation": "Strict"}  # a field that the server does not know is an error, not left out
SETTLING_S = 20.0  # after an API server was away, it may refuse until it has read its Roles
REVIEWS_AGAIN = 4


@dataclass(frozen=True)
class Resource:
    """One kind of object, as the API's paths and as a Role name it."""

    group: str
    version: str
    plural: str
    kind: str
    namespaced: bool = True

    @property
    def api_version(self) -> str:
        """`v1`, `batch/v1`."""
        return f"{self.group}/{self.version}" if self.group else self.version

    def path(self, namespace: str | None, name: str = "", sub: str = "") -> str:
        """The path below the server's address; `namespace` None = the whole cluster."""
        parts = [f"/apis/{self.group}" if self.group else "/api", self.version]
        if namespace is not None and self.namespaced:
            parts += ["namespaces", quote(namespace, safe="")]
        return "/".join([*parts, self.plural, *(quote(part, safe="") for part in (name, sub) if part)])


PODS = Resource("", "v1", "pods", "Pod")
SERVICES = Resource("", "v1", "services", "Service")
CLAIMS = Resource("", "v1", "persistentvolumeclaims", "PersistentVolumeClaim")
NODES = Resource("", "v1", "nodes", "Node", namespaced=False)
EVENTS = Resource("", "v1", "events", "Event")
QUOTAS = Resource("", "v1", "resourcequotas", "ResourceQuota")
PRIORITY_CLASSES = Resource("scheduling.k8s.io", "v1", "priorityclasses", "PriorityClass", namespaced=False)
JOBS = Resource("batch", "v1", "jobs", "Job")
DEPLOYMENTS = Resource("apps", "v1", "deployments", "Deployment")
INFERENCE_SERVICES = Resource("serving.kserve.io", "v1beta1", "inferenceservices", "InferenceService")
REVIEWS = Resource(
    "authorization.k8s.io", "v1", "selfsubjectaccessreviews", "SelfSubjectAccessReview", namespaced=False
)


class ApiError(Exception):
    """The server said no, or did not answer (`status` 0). `reason` is the API's own word, such as AlreadyExists."""

    def __init__(self, status: int, reason: str, message: str, retry_after_s: float | None = None) -> None:
        super().__init__(f"{status} {reason}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
        self.retry_after_s = retry_after_s


@dataclass(frozen=True)
class Listing:
    """Objects of one list, and the version from which a watch continues it."""

    items: tuple[Object, ...]
    resource_version: str


@dataclass(frozen=True)
class Selection:
    """What a list, watch or search is limited to. Empty = everything of the kind."""

    labels: str = ""
    fields: str = ""

    def query(self) -> dict[str, str]:
        """As query parameters."""
        query = {"labelSelector": self.labels, "fieldSelector": self.fields}
        return {key: value for key, value in query.items() if value}


EVERYTHING = Selection()


class KubeApi:
    """Verbs on objects. Every method raises ApiError; 404 included, except where it says otherwise."""

    def __init__(
        self, client: Any, *, clock: Clock | None = None, timeout_s: float = 30.0, attempts: int = ATTEMPTS
    ) -> None:
        self._client = client
        self._timeout_s = timeout_s
        self._attempts = attempts
        self.clock = clock or SystemClock()
        self._settled = float("-inf")  # monotonic time until which a 403 may be of a server that has just begun

    def get(self, resource: Resource, namespace: str | None, name: str) -> Object:
        """One object."""
        return self._object("GET", resource.path(namespace, name))

    def list(self, resource: Resource, namespace: str | None, select: Selection = EVERYTHING) -> Listing:
        """All objects that match, page by page; begun anew if the pages expire meanwhile."""
        items: list[Object] = []
        more: dict[str, str] = {}
        while True:
            query = select.query() | {"limit": str(PAGE)} | more
            try:
                page = self._call("GET", resource.path(namespace), query)
            except ApiError as error:
                if error.status != 410 or not more:
                    raise
                items, more = [], {}
                continue
            items += page.get("items") or []
            meta = page.get("metadata") or {}
            if not meta.get("continue"):
                return Listing(tuple(items), str(meta.get("resourceVersion", "")))
            more = {"continue": meta["continue"]}

    def create(self, resource: Resource, namespace: str | None, body: Object, *, dry_run: bool = False) -> Object:
        """A new object. `dry_run`: all checks of the server (schema, quota, admission), and nothing is kept."""
        query = STRICT | ({"dryRun": "All"} if dry_run else {})
        return self._object("POST", resource.path(namespace), query, body)

    def patch(self, resource: Resource, namespace: str, name: str, operations: Sequence[Object]) -> Object:
        """JSON patch: all operations or none. A failed `test` is ApiError 422."""
        return self._object(
            "PATCH",
            resource.path(namespace, name),
            {},
            list(operations),
            content_type="application/json-patch+json",
        )

    def delete(self, resource: Resource, namespace: str, name: str, *, uid: str | None = None) -> None:
        """Ask for removal, with everything the object owns; harmless if it is gone, or if another took its name."""
        body: Object = {"kind": "DeleteOptions", "apiVersion": "v1", "propagationPolicy": "Background"}
        if uid is not None:
            body["preconditions"] = {"uid": uid}
        try:
            self._call("DELETE", resource.path(namespace, name), {}, body)
        except ApiError as error:
            if error.status != 404 and not (error.status == 409 and uid is not None):
                raise

    def log(self, namespace: str, pod: str, container: str, *, tail: int | None = None) -> str:
        """Output of a container; its last `tail` lines."""
        query = {"container": container} | ({"tailLines": str(tail)} if tail else {})
        return str(self._call("GET", PODS.path(namespace, pod, "log"), query, text=True))

    def allowed(self, verb: str, resource: Resource, namespace: str | None, *, sub: str = "", name: str = "") -> bool:
        """Whether these credentials may do that."""
        attributes = {
            "verb": verb,
            "group": resource.group,
            "resource": resource.plural,
            **({"subresource": sub} if sub else {}),
            **({"name": name} if name else {}),
            **({"namespace": namespace} if namespace else {}),
        }
        body = {"apiVersion": REVIEWS.api_version, "kind": REVIEWS.kind, "spec": {"resourceAttributes": attributes}}
        pause_s = 0.5
        for _ in range(REVIEWS_AGAIN):
            review = self.create(REVIEWS, None, body).get("status") or {}
            # A server that has not read its Roles yet says no, and that it could not find them.
            if review.get("allowed") or "not found" not in str(review.get("evaluationError") or ""):
                break
            self.clock.sleep(pause_s)
            pause_s *= 2
        return bool(review.get("allowed"))

    def passing(self, error: ApiError) -> bool:
        """Whether a refusal may be gone in a moment: of an API server that was away and has not read its Roles yet."""
        if error.status not in (401, 403):
            return False
        roles = "RBAC: " in error.message and "not found" in error.message
        return roles or self.clock.monotonic() < self._settled

    def watch(
        self, resource: Resource, namespace: str, select: Selection, since: str, limit_s: float
    ) -> Iterator[tuple[str, Object]]:
        """(type, object) for every change after version `since`, until `limit_s` or the connection ends.

        Raises ApiError 410 if `since` is too old, and 0 if the connection broke.
        """
        seconds = max(1, int(limit_s))
        query = select.query() | {"watch": "1", "resourceVersion": since, "timeoutSeconds": str(seconds)}
        query["allowWatchBookmarks"] = "true"
        response = self._send("GET", resource.path(namespace), query, read_s=seconds + READ_SLACK_S)
        try:
            rest = b""
            for part in self._parts(response):
                *lines, rest = (rest + part).split(b"\n")
                for line in filter(bytes.strip, lines):
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        raise _refusal(int(event["object"].get("code") or 500), event["object"], {})
                    yield event["type"], event["object"]
        finally:
            response.release_conn()

    # -- one request ------------------------------------------------------------------------------------------------

    def _object(self, *request: Any, content_type: str = "application/json") -> Object:
        reply: Object = self._call(*request, content_type=content_type)
        return reply

    def _call(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Any = None,
        *,
        content_type: str = "application/json",
        text: bool = False,
    ) -> Any:
        """The answer, as JSON or text; tried again while the server asks for patience or cannot be reached."""
        pause_s = 0.5
        for attempt in range(self._attempts):
            try:
                data = self._send(method, path, query or {}, body, content_type).data
                return data.decode("utf-8", "replace") if text else json.loads(data or b"{}")
            except ApiError as error:
                if attempt == self._attempts - 1 or not (error.status in AGAIN or self.passing(error)):
                    raise
                self.clock.sleep(min(max(error.retry_after_s or 0.0, pause_s), LONGEST_PAUSE_S))
                pause_s *= 2
            except ValueError as error:
                raise ApiError(0, "NotJson", f"{path} answered something else than JSON") from error
        raise AssertionError("unreachable")

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Any = None,
        content_type: str = "application/json",
        read_s: float | None = None,
    ) -> Any:
        """One attempt. `read_s` set: the body is not read here; it is the maximum time between two parts."""
        try:
            return self._sent(method, path, query, body, content_type, read_s)
        except ApiError as error:
            if error.status == 0 or error.status >= 500:
                self._settled = self.clock.monotonic() + SETTLING_S
            raise

    def _sent(
        self, method: str, path: str, query: Mapping[str, str], body: Any, content_type: str, read_s: float | None
    ) -> Any:
        import urllib3

        configuration = self._client.configuration
        headers = {"Accept": "application/json", "User-Agent": "draftsmith"}
        for auth in configuration.auth_settings().values():  # renews credentials that expire
            headers[auth["key"]] = auth["value"]
        if body is not None:
            headers["Content-Type"] = content_type
        try:
            response = self._client.rest_client.pool_manager.request(
                method,
                configuration.host + path + (f"?{urlencode(query)}" if query else ""),
                body=None if body is None else json.dumps(body),
                headers=headers,
                retries=False,
                preload_content=read_s is None,
                timeout=urllib3.Timeout(connect=self._timeout_s, read=read_s or self._timeout_s),
            )
        except urllib3.exceptions.HTTPError as error:
            raise ApiError(0, type(error).__name__, f"{method} {path} was not answered") from error
        if response.status < 400:
            return response
        try:
            status = json.loads(response.data)
        except ValueError:
            status = {}
        raise _refusal(response.status, status if isinstance(status, dict) else {}, response.headers)

    def _parts(self, response: Any) -> Iterator[bytes]:
        import urllib3

        try:
            yield from response.stream(amt=None)
        except urllib3.exceptions.HTTPError as error:
            raise ApiError(0, type(error).__name__, "the watch was cut off") from error


def _refusal(code: int, status: Object, headers: Mapping[str, str]) -> ApiError:
    after = headers.get("Retry-After") or (status.get("details") or {}).get("retryAfterSeconds")
    seconds = float(after) if after and re.fullmatch(r"\d+(\.\d+)?", str(after)) else None
    return ApiError(code, str(status.get("reason") or ""), str(status.get("message") or ""), seconds)


def connect(
    kubeconfig: str | None = None,
    context: str | None = None,
    *,
    clock: Clock | None = None,
    timeout_s: float = 30.0,
    attempts: int = ATTEMPTS,
) -> KubeApi:
    """The cluster of a kubeconfig (None = KUBECONFIG or ~/.kube/config), or the one this process runs in.

    Raises ImportError without the client library, ApiError (status 0) if there is no usable configuration.
    """
    from kubernetes import client, config
    from kubernetes.config import ConfigException

    configuration = client.Configuration()
    configuration.retries = False
    try:
        try:
            config.load_kube_config(kubeconfig, context, client_configuration=configuration)
        except ConfigException:
            if kubeconfig or context:
                raise
            config.load_incluster_config(client_configuration=configuration)
    except (ConfigException, OSError, TypeError, KeyError, ValueError) as error:
        raise ApiError(0, "NoConfiguration", f"no cluster is configured: {error}") from error
    return KubeApi(client.ApiClient(configuration), clock=clock, timeout_s=timeout_s, attempts=attempts)

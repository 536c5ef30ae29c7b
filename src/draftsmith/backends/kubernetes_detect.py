"""Whether Slurm places the pods of a cluster (slurm-bridge), asked of its API server. Reads only, and not for long.

Two things say so: the scheduler's Deployment, by the label that its chart gives it, and nodes that carry its taint. What
slurm-operator makes says nothing: it runs Slurm itself in pods and places none.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass

from draftsmith.contract.cluster import BRIDGE_TAINT, SLURM_SCHEDULER, explain
from draftsmith.kit.kube import DEPLOYMENTS, NODES, ApiError, KubeApi, Object, Selection
from draftsmith.kit.kube import connect as connect_to

LOOK_S = 10.0
SCHEDULER = Selection(labels=f"app.kubernetes.io/name={SLURM_SCHEDULER}")
REFUSED = frozenset({401, 403, 404})

Connect = Callable[[], KubeApi]


@dataclass(frozen=True)
class Bridge:
    """What was found. `objects` empty = no sign of it; `says` = why it is unknown, if it is."""

    objects: tuple[str, ...] = ()
    says: str = ""


def find_bridge(
    kubeconfig: str | None = None,
    context: str | None = None,
    *,
    limit_s: float = LOOK_S,
    connect: Connect | None = None,
) -> Bridge:
    """Look for slurm-bridge in the cluster of a kubeconfig, or of this pod. Never raises for a cluster: `says` tells.

    A credential plug-in that waits for a login, or a server that accepts and never answers, is given up after `limit_s`.
    """

    def open_api() -> KubeApi:
        return connect_to(kubeconfig, context, timeout_s=limit_s / 2, attempts=2)

    try:
        return _within(limit_s, connect or open_api)
    except TimeoutError:
        return Bridge(says=f"the API server did not answer within {limit_s:g} s")
    except ImportError:
        return Bridge(says="the client library is not installed (pip install 'draftsmith[kubernetes]')")
    except ApiError as error:
        return Bridge(says=explain(error, "look for slurm-bridge").message)


def _within(limit_s: float, connect: Connect) -> Bridge:
    """In a thread of its own, which ends with the process: neither plug-ins nor name servers can be given a time limit."""
    answer: Future[Bridge] = Future()

    def ask() -> None:
        try:
            answer.set_result(_look(connect()))
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=ask, name="find-bridge", daemon=True).start()
    return answer.result(limit_s)


def _look(api: KubeApi) -> Bridge:
    """The Deployment first; the nodes where that is not shown. Raises ApiError if the server cannot be asked at all."""
    refused: list[str] = []
    try:
        result = api.list(DEPLOYMENTS, None, SCHEDULER).items
        if result:
            return Bridge(tuple(f"Deployment {_name(item)}" for item in result))
    except ApiError as error:
        _note(refused, "deployments.apps", error)
    try:
        bridged = [taint for node in api.list(NODES, None).items if (taint := _taint(node)) is not None]
        if bridged:
            names = ", ".join(sorted(set(bridged)))
            return Bridge((f"{len(bridged)} nodes with the taint {BRIDGE_TAINT}={names}",))
    except ApiError as error:
        _note(refused, "nodes", error)
    return Bridge(says=f"these credentials may not list {' and '.join(refused)} of the cluster" if refused else "")


def _note(refused: list[str], text: str, error: ApiError) -> None:
    if error.status not in REFUSED:
        raise error
    refused.append(text)


def _taint(node: Object) -> str | None:
    """The scheduler that a node is reserved for."""
    taints = (node.get("spec") or {}).get("taints") or []
    return next((str(taint.get("value", "")) for taint in taints if taint["key"] == BRIDGE_TAINT), None)


def _name(item: Object) -> str:
    return f"{item['metadata'].get('namespace', '')}/{item['metadata']['name']}"

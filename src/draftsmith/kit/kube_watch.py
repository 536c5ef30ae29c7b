"""Follow objects of a cluster until something is true of them. Dropped connections are the normal case here.

A list tells what there is, a watch what changes; a watch that ends is resumed where it was, and one whose place has
expired (410 Gone) begins again with a list. Looking that fails is tried again until the time is up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from draftsmith.kit.kube import ApiError, KubeApi, Object, Resource, Selection

T = TypeVar("T")

WATCH_S = 20.0  # maximum length of one watch, so that conditions that depend on time are checked again
PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0
FINAL = frozenset({400, 401, 403, 404})  # looking again would be answered the same


class TimeIsUpError(Exception):
    """Nothing was decided in time. `objects` is what was seen last; `error` why it could not be seen, if so."""

    def __init__(self, objects: Sequence[Object], error: ApiError | None) -> None:
        super().__init__("time is up")
        self.objects = tuple(objects)
        self.error = error


def follow(
    api: KubeApi,
    resource: Resource,
    namespace: str,
    select: Selection,
    limit_s: float,
    decide: Callable[[Sequence[Object]], T | None],
) -> T:
    """The first answer of `decide` that is not None. It is called after every change and at least every 20 s.

    Raises TimeIsUpError after `limit_s`, ApiError if these credentials may not look, and whatever `decide` raises.
    """
    end = api.clock.monotonic() + limit_s
    pause_s = PAUSE_S
    seen: dict[str, Object] = {}
    version, failure = "", None
    while True:
        try:
            if not version:
                listing = api.list(resource, namespace, select)
                seen, version = {_key(item): item for item in listing.items}, listing.resource_version
            answer, failure = decide(list(seen.values())), None
            if answer is not None:
                return answer
            left = end - api.clock.monotonic()
            if left > 0:
                for kind, item in api.watch(resource, namespace, select, version, min(left, WATCH_S)):
                    version = item["metadata"].get("resourceVersion", version)
                    pause_s = PAUSE_S
                    _apply(seen, kind, item)
                    if (answer := decide(list(seen.values()))) is not None:
                        return answer
        except ApiError as error:
            if error.status in FINAL and not api.passing(error):
                raise
            failure = None if error.status == 410 else error
            version = "" if error.status == 410 else version
        if api.clock.monotonic() >= end:
            raise TimeIsUpError(list(seen.values()), failure)
        api.clock.sleep(min(pause_s, max(end - api.clock.monotonic(), 0.01)))
        pause_s = min(pause_s * 2, LONGEST_PAUSE_S)


def _apply(seen: dict[str, Object], kind: str, item: Object) -> None:
    if kind in ("ADDED", "MODIFIED"):
        seen[_key(item)] = item
    elif kind == "DELETED":
        seen.pop(_key(item), None)


def _key(item: Object) -> str:
    return str(item["metadata"].get("uid") or item["metadata"]["name"])

"""Canaries in Kubernetes: planned, up, down, swept; and the patch that a promotion would be."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from draftsmith import wiring
from draftsmith.contract.base import Frozen
from draftsmith.contract.config import Config
from draftsmith.contract.errors import InputError

if TYPE_CHECKING:
    from draftsmith.serving.canary.canaries import Canaries
    from draftsmith.serving.canary.ready import CanaryServer
    from draftsmith.serving.canary.text import ArmPlan

STANDING = "standing"


class CanaryPlan(Frozen):
    """What would be created: the node, and the objects as YAML."""

    node: str | None
    objects: str


class CanaryView(Frozen):
    """A canary that answers."""

    url: str
    node: str
    model: str | None


def plan_canaries(config: Config, experiment: str, arms: Sequence[str] = ()) -> CanaryPlan:
    """The canaries of these arms (`NAME=JSON` or `NAME=none`), the standing configuration first. Creates nothing."""
    plan = _canaries(config, allow_cluster=False).plan(experiment, _arms(config, arms))
    return CanaryPlan(node=plan.node, objects=plan.text())


def start_canaries(
    config: Config, experiment: str, arms: Sequence[str] = (), *, allow_cluster: bool
) -> dict[str, CanaryView]:
    """Start canaries and leave them up, until `remove_canaries` or the end of their lifetime."""
    canaries = _canaries(config, allow_cluster=allow_cluster)
    servers = canaries.start(experiment, _arms(config, arms))
    canaries.keep(experiment)
    return _shown(servers)


@contextmanager
def canaries_up(
    config: Config, experiment: str, arms: Sequence[str] = (), *, allow_cluster: bool
) -> Iterator[tuple[dict[str, CanaryView], Callable[[], None]]]:
    """Canaries that are removed on the way out. With them comes a check that raises EngineLostError if one is gone."""
    canaries = _canaries(config, allow_cluster=allow_cluster)
    with canaries.up(experiment, _arms(config, arms)) as servers:
        yield _shown(servers), lambda: canaries.require_alive(servers)


def remove_canaries(config: Config, experiment: str, *, volumes: bool = False, allow_cluster: bool) -> list[str]:
    """Remove the canaries of an experiment, with `volumes` its volume claim too. Returns what was removed."""
    return list(_canaries(config, allow_cluster=allow_cluster).down(experiment, volumes=volumes))


def sweep_canaries(config: Config, *, allow_cluster: bool) -> list[str]:
    """Remove canaries without an owner: their command has ended. Returns what was removed."""
    return list(_canaries(config, allow_cluster=allow_cluster).sweep())


def promotion_patch(config: Config, arms: Sequence[str]) -> str:
    """The patch that a promotion to one arm would be. Raises InputError for none or several arms."""
    serving = wiring.kubernetes_serving(config, _workspace(config))
    if len(arms) != 1:
        raise InputError("patch needs one --arm", "give --arm NAME=JSON, or NAME=none for no speculation")
    return serving.plan_text(serving.current(), _parse(arms[0])[1])


def _workspace(config: Config) -> Path:
    return Path(config.workspace).resolve()


def _canaries(config: Config, *, allow_cluster: bool) -> Canaries:
    return wiring.canaries(config, _workspace(config), allow_cluster=allow_cluster)


def _shown(servers: dict[str, CanaryServer]) -> dict[str, CanaryView]:
    return {name: CanaryView(url=s.url, node=s.node, model=s.model) for name, s in servers.items()}


def _arms(config: Config, given: Sequence[str]) -> list[ArmPlan]:
    """The standing configuration first, then the arms given."""
    from draftsmith.serving.canary.text import ArmPlan

    parsed = dict(_parse(text) for text in given)
    place = _workspace(config)
    standing = wiring.kubernetes_serving(config, place).current() if STANDING not in parsed else parsed[STANDING]
    return [ArmPlan(STANDING, standing), *(ArmPlan(name, spec) for name, spec in parsed.items() if name != STANDING)]


def _parse(text: str) -> tuple[str, dict[str, Any] | None]:
    name, separator, value = text.partition("=")
    try:
        spec = None if value == "none" else json.loads(value)
    except ValueError:
        spec = ""
    if not separator or not name or not (spec is None or isinstance(spec, dict)):
        raise InputError(f"--arm {text!r} is not NAME=JSON or NAME=none", "quote the JSON for the shell")
    return name, spec

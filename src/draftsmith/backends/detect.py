"""Which scheduler is here: facts are gathered in one place, and what follows from them is a pure decision."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from draftsmith.backends.kubernetes_detect import Bridge, find_bridge
from draftsmith.backends.slurm_commands import NEEDED, SlurmCommands
from draftsmith.contract.errors import ConfigError, DraftsmithError

Kind = Literal["local", "slurm", "kubernetes"]
SYNONYMS = {"default": "kubernetes"}  # Kubernetes calls its own scheduler default-scheduler
Scheduler = Literal["auto", "slurm", "kubernetes", "slurm-on-kubernetes"]

# The back end that each scheduler is reached through.
_REACHED: dict[str, Kind] = {"slurm": "slurm", "kubernetes": "kubernetes", "slurm-on-kubernetes": "kubernetes"}
_LOOK_S = 10.0


@dataclass(frozen=True)
class Facts:
    """What was seen. `slurm_missing`: commands that are not installed. `slurm_says`: partitions, or why sinfo failed.

    `bridge`: objects by which Slurm schedules the pods of a Kubernetes cluster (slurm-bridge), and `bridge_says` why
    that is unknown.
    """

    slurm_missing: tuple[str, ...] = ()
    slurm_answers: bool = False
    slurm_says: str = ""
    in_pod: bool = False
    kubeconfig: str | None = None
    slurm_variables: tuple[str, ...] = ()
    bridge: tuple[str, ...] = ()
    bridge_says: str = ""


@dataclass(frozen=True)
class Choice:
    """Where jobs go. `why` is one sentence; `seen` is what else was found.

    `asked` is (kind, scheduler) as somebody said them, `auto` where it was looked for: the same words are the same
    request, also on a day when something else is seen.
    """

    kind: Kind
    scheduler: Scheduler
    why: str
    seen: tuple[str, ...] = ()
    requested: tuple[str, str] = ("auto", "auto")


def choose(
    backend: str | None, scheduler: str | None, configured: tuple[str, str], facts: Callable[[], Facts]
) -> Choice:
    """Choose back end and scheduler: by the flags, then by the file, then by what is detected.

    `facts` is called only where the answer depends on it. `configured` is (kind, scheduler) of the file. Raises
    ConfigError for words that are none or do not go together.
    """
    scheduler = SYNONYMS.get(scheduler or "", scheduler)
    _check(backend, get_args(Kind), "--backend")
    _check(scheduler, get_args(Scheduler), "--scheduler")
    if backend is None and scheduler == "auto":
        return detect(facts())
    kind, wanted = (
        backend or configured[0],
        scheduler or (configured[1] if backend in (None, configured[0]) else "auto"),
    )
    if wanted != "auto":
        if backend is None and scheduler is not None:
            kind = _REACHED[wanted]
        if _REACHED[wanted] != kind:
            raise ConfigError(
                f"scheduler {wanted!r} is reached through the back end {_REACHED[wanted]!r}, not {kind!r}",
                "leave one of the two out",
            )
        return Choice(_REACHED[wanted], _word(wanted), "as asked", requested=(_REACHED[wanted], wanted))
    if kind == "kubernetes":
        return _on_kubernetes(facts())
    if kind == "slurm":
        return Choice("slurm", "slurm", "as asked", requested=("slurm", "slurm"))
    return Choice("local", "auto", "as asked", requested=("local", "auto"))


def _on_kubernetes(seen: Facts) -> Choice:
    """Kubernetes was requested without a scheduler: choose what places its pods."""
    scheduler = ("kubernetes", "auto")
    if _is_bridged(seen):
        return Choice("kubernetes", "slurm-on-kubernetes", _bridge(seen), _described(seen), scheduler)
    why = "who places its pods could not be found out" if seen.bridge_says else "no sign of Slurm as its scheduler"
    return Choice("kubernetes", "kubernetes", f"as asked; {why}", _described(seen), scheduler)


def detect(seen: Facts) -> Choice:
    """Where jobs go by default: Slurm if it answers, then Kubernetes, then this machine."""
    about = _described(seen)
    if seen.in_pod and _is_bridged(seen):
        return Choice("kubernetes", "slurm-on-kubernetes", f"this is a pod, and {_bridge(seen)}", about)
    if seen.slurm_answers and not seen.slurm_missing:
        return Choice("slurm", "slurm", f"Slurm answers here ({seen.slurm_says})", about)
    if (seen.in_pod or seen.kubeconfig) and _is_bridged(seen):
        return Choice("kubernetes", "slurm-on-kubernetes", _bridge(seen), about)
    if seen.in_pod:
        return Choice("kubernetes", "kubernetes", "this is a pod of a Kubernetes cluster", about)
    if seen.kubeconfig:
        return Choice("kubernetes", "kubernetes", f"{seen.kubeconfig} names a Kubernetes cluster", about)
    return Choice("local", "auto", "no scheduler was found", about)


def look(environment: Mapping[str, str] | None = None, options: Mapping[str, Any] | None = None) -> Facts:
    """Gather the facts: looks at this machine, asks sinfo and the API server. Starts and changes nothing.

    `options` of the back end may name a kubeconfig and a context of their own.
    """
    env = os.environ if environment is None else environment
    commands = SlurmCommands(timeout_s=_LOOK_S)
    answers, says = _ask_slurm(commands)
    in_pod = bool(env.get("KUBERNETES_SERVICE_HOST"))
    own, context = (str(value) if (value := (options or {}).get(key)) else None for key in ("kubeconfig", "context"))
    usual = [path for path in env.get("KUBECONFIG", "").split(os.pathsep) if path]
    named = [own] if own else usual or [os.path.join(env.get("HOME", "/"), ".kube", "config")]
    kubeconfig = next((path for path in named if Path(path).is_file()), None)
    bridge = find_bridge(own, context) if in_pod or kubeconfig else Bridge()
    return Facts(
        slurm_missing=tuple(commands.missing()),
        slurm_answers=answers,
        slurm_says=says,
        in_pod=in_pod,
        kubeconfig=kubeconfig,
        slurm_variables=tuple(sorted(name for name in env if name.startswith("SLURM_") and name != "SLURM_CONF")),
        bridge=bridge.objects,
        bridge_says=bridge.says,
    )


def _ask_slurm(commands: SlurmCommands) -> tuple[bool, str]:
    if "sinfo" in commands.missing():
        return False, "sinfo is not installed"
    try:
        lines = commands.run(("sinfo", "--noheader", "--format=%P")).split("\n")
    except DraftsmithError as error:
        return False, error.message
    names = sorted({line.strip() for line in lines if line.strip()})
    return bool(names), f"partitions {', '.join(names)}" if names else "it has no partition"


def _is_bridged(seen: Facts) -> bool:
    return bool(seen.bridge) or (seen.in_pod and bool(seen.slurm_variables))


def _bridge(seen: Facts) -> str:
    if seen.bridge:
        return f"Slurm schedules its pods ({', '.join(seen.bridge)})"
    return f"its environment is Slurm's ({', '.join(seen.slurm_variables[:3])})"


def _described(seen: Facts) -> tuple[str, ...]:
    slurm = f"missing {', '.join(seen.slurm_missing)}" if seen.slurm_missing else seen.slurm_says or "not asked"
    if len(seen.slurm_missing) == len(NEEDED):
        slurm = "not installed"
    kubernetes = "inside a pod" if seen.in_pod else seen.kubeconfig or "no kubeconfig, not inside a pod"
    reasons = (f"Slurm: {slurm}", f"Kubernetes: {kubernetes}")
    if not (seen.in_pod or seen.kubeconfig):
        return reasons
    if seen.bridge_says:
        return (
            *reasons,
            f"slurm-bridge: cannot tell ({seen.bridge_says}); --scheduler slurm-on-kubernetes says it is there",
        )
    return (*reasons, f"slurm-bridge: {', '.join(seen.bridge) or 'no sign of it'}")


def _check(word: str | None, known: tuple[str, ...], option: str) -> None:
    if word is not None and word not in known:
        raise ConfigError(f"{option} {word!r} is not known", f"one of: {', '.join(known)}")


def _word(text: str) -> Scheduler:
    return next(word for word in get_args(Scheduler) if word == text)

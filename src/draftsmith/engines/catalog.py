"""Engines by name. The only place, beside the settings, where an engine is named outside its own folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from draftsmith.contract.errors import InputError
from draftsmith.engines.base import Engine
from draftsmith.engines.container_command import ContainerCommand
from draftsmith.engines.counters import SETTLE_POLL_S
from draftsmith.kit.clock import Clock

NOWHERE = Path("no-registry")  # of an engine that starts nothing


def _vllm(registry: Path, clock: Clock | None, pause_s: float) -> Engine:
    from draftsmith.engines.vllm.engine import VllmEngine

    return VllmEngine(registry, clock, pause_s)


def _sglang(registry: Path, clock: Clock | None, pause_s: float) -> Engine:
    from draftsmith.engines.sglang.engine import SglangEngine

    return SglangEngine(registry, clock, pause_s)


# Each function is also the proof, for mypy, that the class is an Engine.
ENGINES: dict[str, Callable[[Path, Clock | None, float], Engine]] = {"vllm": _vllm, "sglang": _sglang}


def engine(kind: str, registry: Path = NOWHERE, clock: Clock | None = None, pause_s: float = SETTLE_POLL_S) -> Engine:
    """The engine of a name. Without `registry` it can be asked and cannot start servers. `pause_s`: between two readings
    of the counters, until they are at rest."""
    return ENGINES[kind](registry, clock, pause_s)


def engines() -> Iterator[Engine]:
    """Every engine, to ask which one something is of."""
    return (engine(kind) for kind in ENGINES)


def engine_of(words: Sequence[str]) -> Engine | None:
    """The engine that a command serves with, as far as its words tell."""
    return next((each for each in engines() if each.runs(words)), None)


def read_words(command: list[str], args: list[str], *, image: str, known: bool = False) -> ContainerCommand:
    """Parse the command of a container of any engine. `image`: its name. `known`: the image surely starts an engine.

    Raises InputError for a container that runs none, or whose command is not understood.
    """
    reasons: list[InputError] = []
    for each in engines():
        named = each.name in image.lower()
        try:
            return each.read_words(command, args, image=named or known)
        except InputError as error:
            reasons.append(error)
    raise next((error for error in reasons if "not understood" in error.message), reasons[0])

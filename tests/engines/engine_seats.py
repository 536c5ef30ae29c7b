"""Servers that the engine stories are told of: the real engine, and the stand-ins behind the same adapter."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loop_world import interpreter
from tiny_target import write_target

from draftsmith.api.precision import precision_flags
from draftsmith.engines.base import Engine, Server, ServerSpec
from draftsmith.engines.catalog import engine
from draftsmith.kit import processes

READY_S = 600.0
NGRAM = {"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_max": 4}


@dataclass(frozen=True)
class Kind:
    """One engine, real or not. `recorded`: the folder of its recording, if one is kept here."""

    name: str
    engine: str
    real: bool = False
    recorded: str | None = None
    per_request: bool = False  # it counts the drafts of a request in its answer


REAL = Kind("vllm", "vllm", real=True, recorded="vllm", per_request=True)
FAKE = Kind("vllm stand-in", "vllm", recorded="vllm", per_request=True)
SGLANG = Kind("sglang stand-in", "sglang")


@dataclass(frozen=True)
class Served:
    """A server that is ready, and how it came to be. `stages`: what was told while it started."""

    kind: Kind
    engine: Engine
    server: Server
    stages: tuple[str, ...]
    hide: Mapping[str, str]


@contextmanager
def seat(kind: Kind, folder: Path, target: Path | None = None) -> Iterator[Served]:
    """Start it, wait until it is ready, and leave nothing behind. `target`: of the real engine."""
    adapter = engine(kind.engine, folder / "processes", pause_s=0.02)
    more: dict[str, Any] = {"flags": precision_flags(), "cpu_kv_gib": 1}
    if not kind.real:
        target = write_target(folder / "target")
        more = {"python": interpreter(folder, "fake_engine_python"), "cpu_kv_gib": 0.1}
    assert target is not None
    spec = ServerSpec(
        model=str(target), max_model_len=512, max_num_seqs=8, spec_config=NGRAM, per_request_metrics=kind.per_request, **more
    )  # fmt: skip
    stages: list[str] = []
    try:
        server = adapter.start(spec, folder / "logs")
        adapter.wait_ready(server, READY_S, lambda stage, _: stages.append(stage))
        yield Served(kind, adapter, server, tuple(stages), {str(target): "/models/target", str(folder): "{folder}"})
    finally:
        for path, record in processes.records(adapter.registry):
            processes.stop(processes.Process(record, path))

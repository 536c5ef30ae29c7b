"""The GPU's own counters beside the trials of a comparison: how busy memory and tensor cores were while an arm was measured."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, NamedTuple

from pydantic import Field

from draftsmith.contract.base import Frozen
from draftsmith.contract.measure import Trial

FIELDS = {
    "DCGM_FI_PROF_DRAM_ACTIVE": "dram_active",
    "DCGM_FI_PROF_PIPE_TENSOR_ACTIVE": "tensor_active",
    "DCGM_FI_PROF_SM_ACTIVE": "sm_active",
    "DCGM_FI_PROF_SM_OCCUPANCY": "sm_occupancy",
    "DCGM_FI_PROF_GR_ENGINE_ACTIVE": "engine_active",
}
Rigor = Literal["L1", "L2", "L3"]
RIGOR: dict[Rigor, str] = {
    "L1": "times and engine counters",
    "L2": "times, engine counters, clocks and power",
    "L3": "times, engine counters, and DRAM and tensor activity by DCGM",
}
Source = Literal["DCGM text", "Prometheus"]


class GpuSample(NamedTuple):
    """One reading of one GPU: `counter` as FIELDS names it, `value` a share from 0 to 1."""

    at_unix_s: float
    host: str
    gpu: str
    counter: str
    value: float


class Counted(Frozen):
    """One arm at one point. Shares (0 to 1) are means over `samples` readings; None where the counter was not recorded."""

    arm: str
    point: str
    samples: int
    trials: int = Field(description="trials with a reading of their own, of `of`")
    of: int
    dram_active: float | None = None
    tensor_active: float | None = None
    sm_active: float | None = None
    sm_occupancy: float | None = None
    engine_active: float | None = None


class GpuCounters(Frozen):
    """counters.json. `samples_sha256` says to which trials it belongs; `every_s` is the time over which a reading is averaged.

    `complete`: every arm at every point has enough readings that lie in its own trials alone, so that the rigor is L3; else
    `lacking` says what is missing. `hosts`: whose counters they are; empty where the readings did not say.
    """

    schema_: Literal["draftsmith_counters_v1"] = Field("draftsmith_counters_v1", alias="schema")
    source: Source
    samples_sha256: str
    gpus: int
    hosts: tuple[str, ...] = ()
    every_s: float
    rows: tuple[Counted, ...]
    complete: bool
    lacking: tuple[str, ...] = ()

    model_config = Frozen.model_config | {"populate_by_name": True, "serialize_by_alias": True}


def rigor_level(trials: Iterable[Trial], counters: GpuCounters | None) -> Rigor:
    """What was recorded beside the times of all trials. Kernel profiles (L4) are not Draftsmith's."""
    if counters is not None and counters.complete:
        return "L3"
    every = [any(key.startswith("gpu_") for key in trial.hardware) for trial in trials]
    return "L2" if every and all(every) else "L1"

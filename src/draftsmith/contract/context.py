"""Numbers that cannot be printed without their context."""

from __future__ import annotations

from pydantic import Field

from draftsmith.contract.base import Frozen


class Context(Frozen):
    """Where a measured number comes from. Fields that do not apply are None and are left out of the text."""

    model: str
    hardware: str
    engine: str
    identity: str | None = Field(None, description="architecture and digest of the target")
    dtype: str | None = None
    quantization: str | None = Field(None, description="of the weights, and the type of the cache where it is another")
    parallelism: str | None = Field(None, description="for example TP8 PP1 DP1")
    serving: str | None = Field(None, description="flags that decide speed: max-num-seqs, prefix caching, graph mode")
    workload: str | None = Field(None, description="dataset, and ISL/OSL as measured")
    concurrency: int | None = None
    regime: str | None = Field(None, description="cold or warm cache; latency or throughput tier")
    trials: int | None = None
    spread: str | None = Field(None, description="mean and standard deviation over the trials")
    backend: str | None = Field(None, description="what sent the requests and took the times")
    rigor: str | None = Field(
        None,
        description="L1 times and counters; L2 with clocks, power and memory beside every trial; L3 with DCGM's profiling counters of every arm",
    )
    baseline: str | None = None
    sol_share: str | None = Field(None, description="share of the speed-of-light ceiling, with the ceiling's key")

    def __str__(self) -> str:
        named = [
            (self.model, ""),
            (self.identity, ""),
            (self.hardware, ""),
            (self.engine, ""),
            (self.dtype, ""),
            (self.quantization, ""),
            (self.parallelism, ""),
            (self.serving, ""),
            (self.workload, ""),
            (self.concurrency, "concurrency "),
            (self.regime, ""),
            (self.trials, "trials "),
            (self.spread, ""),
            (self.backend, "measured by "),
            (self.rigor, "rigor "),
            (self.baseline, "against "),
            (self.sol_share, ""),
        ]
        return " · ".join(f"{label}{value}" for value, label in named if value is not None)


class Measured(Frozen):
    """A value with its unit and context; `str()` always shows all three."""

    value: float
    unit: str
    context: Context
    low: float | None = None
    high: float | None = None

    def __str__(self) -> str:
        span = f" [{self.low:.4g}, {self.high:.4g}]" if self.low is not None and self.high is not None else ""
        return f"{self.value:.4g} {self.unit}{span} ({self.context})"

"""Speed of light: the shortest TPOT that memory traffic allows, and how close each arm is to it.

A decode step reads the target's weights once, the draft's once per drafting pass, and the KV cache of every sequence in
the batch. It yields `tokens per step` tokens a sequence. So the floor of TPOT is

    (target weights + passes x draft weights + concurrency x cache of one sequence) / bandwidth / tokens per step

Of a mixture of experts a step reads the weights that all tokens share, and the experts that its tokens choose: with T
tokens that choose k of E experts evenly, a share of 1 - (1 - k/E)^T. T is the batch times (draft length + 1). The cache is
that of the target's own attention: latent (MLA), windows, and none for linear layers. With several GPUs the bandwidths add up.

The bandwidth is measured and passed in, or comes from ceilings.toml by the device's name. A CPU's must be measured.
Not covered: compute of a decode step, activations, communication between devices. `prefill_floor` is the compute floor of
reading a prompt: two operations for each active parameter and token, at the device's dense BF16 rate.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cache
from importlib import resources
from typing import Any

from draftsmith.contract.measure import Arm, OperatingPoint, Trial
from draftsmith.contract.model_size import CACHE_BYTES, ModelSize
from draftsmith.contract.verdict import ArmSummary

ONE_PASS = frozenset({"dflash", "dspark", "peagle", "medusa", "mlp_speculator"})
NO_DRAFT = frozenset({"ngram", "ngram_gpu", "suffix"})


@dataclass(frozen=True)
class Bandwidth:
    """A ceiling of memory traffic of one device, in bytes/s. `source` says who measured or published it."""

    key: str
    bytes_per_s: float
    source: str
    measured: bool

    def __str__(self) -> str:
        return f"{self.bytes_per_s / 1e12:.3g} TB/s ({self.key}, {'measured' if self.measured else self.source})"


@dataclass(frozen=True)
class SolInputs:
    """Bytes that a step reads. `draft_bytes` by arm name; `kv_bytes_per_token` over all layers of the target.

    `weight_bytes` are read at every step; `routed_bytes` are those of all experts together, and `size` says how many are
    chosen and what the cache holds. `unknown`: why no floor can be given for this target; None = it can.
    """

    weight_bytes: int
    bandwidth: Bandwidth | None = None
    kv_bytes_per_token: float = 0.0
    draft_bytes: Mapping[str, int] = field(default_factory=dict)
    devices: int = 1
    routed_bytes: int = 0
    size: ModelSize | None = None
    cache_element_bytes: float = CACHE_BYTES
    unknown: str | None = None

    def target_bytes(self, tokens: float) -> float:
        """Of the target's weights, for a step that carries `tokens` tokens."""
        share = self.size.experts_read(tokens) if self.size else 1.0
        return self.weight_bytes + share * self.routed_bytes

    def cache_bytes(self, context: float) -> float:
        """Of one sequence's cache."""
        if self.size is not None:
            return self.size.cache_bytes(context, self.cache_element_bytes)
        return context * self.kv_bytes_per_token


@dataclass(frozen=True)
class SolShare:
    """One arm at one point. Times in seconds; `share` = floor / measured, 1 would be the speed of light."""

    arm: str
    point: str
    floor_s: float
    measured_s: float
    bytes_per_step: float
    tokens_per_step: float
    ceiling: Bandwidth

    @property
    def share(self) -> float:
        """Floor over measured."""
        return self.floor_s / self.measured_s


@cache
def ceilings() -> tuple[dict[str, Any], ...]:
    """The entries of ceilings.toml, in its order: the first that matches a device's name counts."""
    text = resources.files("draftsmith.report").joinpath("ceilings.toml").read_text(encoding="utf-8")
    return tuple(tomllib.loads(text)["device"])


def ceiling_for(device: str) -> Bandwidth | None:
    """The published bandwidth of a device by its name (as nvidia-smi prints it); None if it is not in the table."""
    words = device.lower()
    for entry in ceilings():
        if all(part in words for part in entry["match"]) and not any(part in words for part in entry.get("unless", ())):
            return Bandwidth(entry["key"], entry["memory_tb_per_s"] * 1e12, entry["source"], measured=False)
    return None


def measured_bandwidth(trials: Iterable[Trial]) -> Bandwidth | None:
    """The best memory bandwidth that was measured beside the trials; None where none was."""
    bandwidths = [float(value) for trial in trials if (value := trial.hardware.get("memory_gb_per_s"))]
    if not bandwidths:
        return None
    return Bandwidth(
        "this machine's memory", max(bandwidths) * 1e9, "copy and dot product over all cores", measured=True
    )


def sol_share(
    arm: Arm, point: OperatingPoint, summary: ArmSummary, trials: tuple[Trial, ...], inputs: SolInputs
) -> SolShare | None:
    """One arm's share at one point; None without a bandwidth, a measured TPOT or its tokens per step."""
    tokens = tokens_per_step(arm, summary)
    if inputs.unknown or inputs.bandwidth is None or not summary.median_tpot_s or tokens is None:
        return None
    passes = draft_passes(arm)
    draft = inputs.draft_bytes.get(arm.name, 0)
    carried = point.concurrency * (drafted_tokens(arm) + 1)
    cache = point.concurrency * inputs.cache_bytes(mean_context(trials))
    read = inputs.target_bytes(carried) + passes * draft + cache
    return SolShare(
        arm=arm.name,
        point=point.name,
        floor_s=read / (inputs.bandwidth.bytes_per_s * inputs.devices) / tokens,
        measured_s=summary.median_tpot_s,
        bytes_per_step=read,
        tokens_per_step=tokens,
        ceiling=inputs.bandwidth,
    )


def tokens_per_step(arm: Arm, summary: ArmSummary) -> float | None:
    """As the engine counted; else 1 without speculation, AL for a draft model, which proposes at every step.

    A trainless method's AL leaves out the steps without a proposal, so nothing can be said for it.
    """
    if summary.tokens_per_step is not None:
        return summary.tokens_per_step
    if arm.spec_config is None:
        return 1.0
    return summary.acceptance_length if draft_passes(arm) else None


def draft_passes(arm: Arm) -> int:
    """How often one step runs the draft model."""
    speculation = arm.speculation
    if not speculation or not speculation.config or speculation.method in NO_DRAFT:
        return 0
    if speculation.method in ONE_PASS or speculation.rest.get("parallel_drafting"):
        return 1
    return 1 if speculation.k is None else speculation.k


def drafted_tokens(arm: Arm) -> int:
    """Tokens proposed at once: what a verifying step carries beside the one that is certain."""
    return (arm.speculation.k if arm.speculation else None) or 0


def prefill_floor(size: ModelSize, prompt_tokens: float, device: str, devices: int = 1) -> float | None:
    """Seconds that reading a prompt takes at least by compute alone; None for a device whose rate is not known."""
    words = device.lower()
    for entry in ceilings():
        if all(part in words for part in entry["match"]) and not any(part in words for part in entry.get("unless", ())):
            rate = entry["bf16_tflops"] * 1e12 * devices
            return float(2 * (size.active - size.looked_up) * prompt_tokens / rate)
    return None


def mean_context(trials: tuple[Trial, ...]) -> float:
    """Mean tokens in a sequence's cache halfway through its answer."""
    lengths = [
        (sample.prompt_tokens or 0) + (sample.output_tokens or 0) / 2
        for trial in trials
        for sample in trial.samples
        if sample.error is None
    ]
    return sum(lengths) / len(lengths) if lengths else 0.0

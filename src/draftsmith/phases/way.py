"""Whether a run trains a draft or compares a method without training: as configured, otherwise as the profile recommends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from draftsmith.contract.config import TRAINLESS, Config
from draftsmith.contract.draft import TargetFacts
from draftsmith.contract.job import JobResult
from draftsmith.contract.jobs import ProfileResult
from draftsmith.contract.speculation import Speculation
from draftsmith.phases.base import PhaseContext

NOT_NEEDED = frozenset({"capture", "train"})
LOOKUP = {"prompt_lookup_max": 4, "prompt_lookup_min": 2}
COPY_K = 8  # of a text that is known beforehand much more is right at once
LEFT_OUT = "left_out"


@dataclass(frozen=True)
class Way:
    """`method` as in the profile; `trains` whether a draft is made for it; `sentence` says why it is this one."""

    method: str
    trains: bool
    sentence: str


def way(context: PhaseContext) -> Way:
    """The method of a run: configured, or recommended by its profile."""
    config = context.config
    if config.method in TRAINLESS:
        return Way(str(config.method), False, f"{config.method} was asked for and needs no training")
    if config.method is not None:
        return Way(config.trainer.method, True, f"{config.method} was asked for")
    profiled = context.results.get("profile")
    recommended = ProfileResult.of(profiled).method if profiled else ""
    if recommended not in TRAINLESS:
        return Way(config.trainer.method, True, "a draft is trained")
    if (why := _cannot(recommended, context.target, context.options.suffix)) is not None:
        return Way(
            config.trainer.method, True, f"{recommended} is recommended, but {why}: {config.trainer.method} is trained"
        )
    return Way(recommended, False, f"{recommended} is recommended for this traffic and needs no training")


def trainless(context: PhaseContext, phase: str) -> JobResult | None:
    """The result of a phase that this run has no use for; None if it has."""
    if phase not in NOT_NEEDED or (chosen := way(context)).trains:
        return None
    return JobResult(ok=True, outputs={"sentence": chosen.sentence}, figures={LEFT_OUT: chosen.method})


def trained(context: PhaseContext) -> bool:
    """Whether the run has a draft of its own."""
    result = context.results.get("train")
    return result is not None and LEFT_OUT not in result.figures


def configurations(config: Config, method: str) -> list[tuple[str, dict[str, Any]]]:
    """(name, speculative config) of the candidates of a method without training."""
    ks = config.compare.k_values
    if method == "suffix":
        return [("suffix", Speculation(method="suffix").config)]
    if method == "deepseek_mtp":
        every = dict.fromkeys((1, *ks))
        return [(f"mtp-k{k}", {"method": "mtp", "num_speculative_tokens": k}) for k in every]
    copied = method == "predicted_outputs"
    return [
        (f"{'copy' if copied else 'ngram'}-k{k}", Speculation(method="ngram", k=k, rest=dict(LOOKUP)).config)
        for k in dict.fromkeys((*ks, *((COPY_K,) if copied else ())))
    ]


def _cannot(method: str, target: TargetFacts, suffix: bool | None) -> str | None:
    """Why a recommended method cannot be served here; None if it can."""
    if method == "deepseek_mtp" and not target.has_mtp:
        return "the target has no prediction heads"
    if method == "suffix" and suffix is False:
        return "the engine has no arctic-inference"
    return None

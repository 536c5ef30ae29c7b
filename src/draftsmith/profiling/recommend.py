"""Which method to use, by the evidence in the profile. Pure; every sentence carries its numbers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from draftsmith.contract.profile import ExpectedAcceptance, Recommendation
from draftsmith.profiling import parameters as asked
from draftsmith.profiling.gather import Gathered

TRAINLESS_ENOUGH = 2.0
"""Tokens per step, over all steps, from which a method without training is worth serving before anything is trained."""
KNOWN_BEFOREHAND = 3.0
COPIED = 0.6
TOO_SHORT = 8.0
LONG_ANSWERS = 1000.0
FEW_AT_ONCE = 4.0
REFUSED_TOO_OFTEN = 0.5

_MTP_KEYS = ("num_nextn_predict_layers", "mtp_num_hidden_layers", "num_mtp_layers", "num_mtp_modules", "n_predict")


@dataclass(frozen=True)
class Evidence:
    """What the decision rests on. None where the source could not say."""

    requests: int
    output_p50: float | None
    copied_share: float | None
    ngram_tokens_per_step: float | None = None
    suffix_tokens_per_step: float | None = None
    best_class: str | None = None
    best_class_tokens_per_step: float | None = None
    concurrency_mean: float | None = None
    prefix_reuse_share: float | None = None
    refused_share: float = 0.0
    mtp_layers: int = 0

    @staticmethod
    def of(
        gathered: Gathered,
        overall: Sequence[ExpectedAcceptance],
        by_class: dict[str, tuple[ExpectedAcceptance, ...]],
        outputs: Any,
        times: dict[str, float | None],
        mtp_layers: int,
    ) -> Evidence:
        """Collect the evidence from what was gathered."""
        from draftsmith.profiling.lengths import distribution

        best = max(
            ((_best(rows, None), name) for name, rows in by_class.items() if _best(rows, None) is not None),
            default=(None, None),
        )
        refused = asked.refused(gathered.parameters)
        total = sum(sum_ for sum_, _ in gathered.copied.values())
        count = sum(count for _, count in gathered.copied.values())
        return Evidence(
            requests=gathered.n,
            output_p50=distribution(*outputs).p50,
            copied_share=total / count if count else None,
            ngram_tokens_per_step=_best(overall, "ngram"),
            suffix_tokens_per_step=_best(overall, "suffix"),
            best_class=best[1],
            best_class_tokens_per_step=best[0],
            concurrency_mean=times.get("concurrency_mean"),
            prefix_reuse_share=gathered.reused / gathered.prefixed if gathered.prefixed else None,
            refused_share=max(refused.values(), default=0) / gathered.n,
            mtp_layers=mtp_layers,
        )


def _best(rows: Sequence[ExpectedAcceptance], method: str | None) -> float | None:
    """Expected acceptance of the given methods. Answers that loop inflate it, and are no reason to serve a method."""
    rates = (row.tokens_per_step if row.without_loops is None else row.without_loops for row in rows
             if method in (None, row.method))  # fmt: skip
    return max((rate or 0.0 for rate in rates), default=None)


def has_mtp(target: dict[str, Any] | None) -> int:
    """Layers of a built-in multi-token-prediction head, from a target's config.json; 0 if it has none."""
    if not target:
        return 0
    for config in (target, target.get("text_config") or {}):
        for key in _MTP_KEYS:
            value = config.get(key) if isinstance(config, dict) else None
            if isinstance(value, int) and not isinstance(value, bool) and value > 0:
                return value
    return 0


def recommend(evidence: Evidence) -> Recommendation:
    """Method, rationale and evidence. Trained methods are the fallback: they need no luck with the prompts."""
    method, rationale = _decide(evidence)
    kept = {key: _rounded(value) for key, value in asdict(evidence).items() if value is not None}
    return Recommendation(method=method, rationale=rationale, evidence=kept)


def _decide(e: Evidence) -> tuple[Any, str]:
    trainless = max(e.ngram_tokens_per_step or 0.0, e.suffix_tokens_per_step or 0.0)
    if e.refused_share >= REFUSED_TOO_OFTEN:
        return "none", (
            f"{e.refused_share:.0%} of the requests use parameters that the engine refuses while speculation is on "
            f"({', '.join(asked.REFUSED_WHILE_SPECULATING)}): those clients would get errors"
        )
    if e.output_p50 is not None and e.output_p50 < TOO_SHORT:
        return "none", (
            f"half of the answers have fewer than {TOO_SHORT:.0f} tokens (median {e.output_p50:.0f}): prefill decides "
            "their latency, and speculation does not touch it"
        )
    if (e.copied_share or 0.0) >= COPIED and trainless >= KNOWN_BEFOREHAND:
        return "predicted_outputs", (
            f"{e.copied_share:.0%} of the answers' text stands in the prompt word for word, and copying it would give "
            f"{trainless:.2f} tokens a step: the answer is largely known beforehand, nothing needs training"
        )
    if trainless >= TRAINLESS_ENOUGH:
        suffix = (e.suffix_tokens_per_step or 0.0) > 1.1 * (e.ngram_tokens_per_step or 0.0)
        name = "suffix" if suffix else "ngram"
        return name, (
            f"replaying the log, {name} gives {trainless:.2f} tokens a step over all steps "
            f"(n-gram {e.ngram_tokens_per_step or 0:.2f}, suffix {e.suffix_tokens_per_step or 0:.2f}), without training"
        )
    if e.mtp_layers:
        return "deepseek_mtp", (
            f"the target has a built-in prediction head ({e.mtp_layers} layer(s)): it costs no training, and the replayed "
            f"methods reach only {trainless:.2f} tokens a step"
        )
    return _trained(e, trainless)


def _trained(e: Evidence, trainless: float) -> tuple[Any, str]:
    replay = (
        f"methods without training reach only {trainless:.2f} tokens a step on this traffic"
        if trainless
        else "the log has no answers that could be replayed, so methods without training could not be measured"
    )
    long_ = (e.output_p50 or 0.0) >= LONG_ANSWERS
    few = e.concurrency_mean is not None and e.concurrency_mean <= FEW_AT_ONCE
    if long_ and few and (e.prefix_reuse_share or 0.0) < 0.3:
        return "dflash", (
            f"{replay}; answers are long (median {e.output_p50:.0f} tokens) at low concurrency "
            f"({e.concurrency_mean:.1f}), which pays for drafting whole blocks, and prompts share few prefixes"
        )
    return "eagle3", f"{replay}; a trained head is the next thing to measure"


def _rounded(value: Any) -> Any:
    return round(value, 4) if isinstance(value, float) else value

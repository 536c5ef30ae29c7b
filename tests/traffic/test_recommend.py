"""The method follows from the evidence, and says so."""

from __future__ import annotations

from dataclasses import replace

import pytest

from draftsmith.profiling.recommend import Evidence, has_mtp, recommend

PLAIN = Evidence(
    requests=1000, output_p50=150.0, copied_share=0.1, ngram_tokens_per_step=1.1, suffix_tokens_per_step=1.15
)


@pytest.mark.parametrize(
    ("method", "change"),
    [
        ("eagle3", {}),
        ("ngram", {"ngram_tokens_per_step": 2.2, "suffix_tokens_per_step": 2.3}),
        ("suffix", {"ngram_tokens_per_step": 1.5, "suffix_tokens_per_step": 2.5}),
        ("predicted_outputs", {"ngram_tokens_per_step": 3.4, "copied_share": 0.8}),
        ("ngram", {"ngram_tokens_per_step": 3.4, "copied_share": 0.2}),
        ("deepseek_mtp", {"mtp_layers": 1}),
        ("ngram", {"mtp_layers": 1, "ngram_tokens_per_step": 2.2}),
        ("dflash", {"output_p50": 3000.0, "concurrency_mean": 1.5}),
        ("eagle3", {"output_p50": 3000.0, "concurrency_mean": 40.0}),
        ("eagle3", {"output_p50": 3000.0}),
        ("none", {"output_p50": 3.0}),
        ("none", {"refused_share": 0.7}),
    ],
)
def test_the_method_follows_from_the_evidence(method: str, change: dict[str, float]) -> None:
    advice = recommend(replace(PLAIN, **change))  # type: ignore[arg-type]
    assert advice.method == method
    assert all(advice.evidence[name] == value for name, value in change.items())


def test_a_built_in_head_is_read_from_the_target() -> None:
    assert has_mtp({"num_nextn_predict_layers": 1}) == 1
    assert has_mtp({"text_config": {"mtp_num_hidden_layers": 2}}) == 2
    assert has_mtp({"num_nextn_predict_layers": 0, "num_hidden_layers": 30}) == 0
    assert has_mtp(None) == 0

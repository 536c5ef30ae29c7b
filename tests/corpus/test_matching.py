"""A corpus that looks like the traffic."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import numpy as np
import pytest
from corpus_service import Service
from hypothesis import given
from hypothesis import strategies as st

from draftsmith.contract.access import SpecStats
from draftsmith.contract.errors import InputError
from draftsmith.contract.profile import Distribution, LengthBucket, Recommendation, WorkloadProfile
from draftsmith.corpus.matching import choose, class_weights, hard_examples, plan_public_mix, quotas, row_weights


def profile(**changes: Any) -> WorkloadProfile:
    fields: dict[str, Any] = {
        "n_requests": 10, "input_tokens": Distribution(), "output_tokens": Distribution(), "content_class_mix": {},
        "recommended_spec_decode": Recommendation(method="none", rationale="test"),
    }  # fmt: skip
    return WorkloadProfile(**{**fields, **changes})


SHORT_LONG = (LengthBucket(low=0, high=100, share=0.25), LengthBucket(low=100, high=None, share=0.75))


def test_class_weights_turn_the_rows_into_the_profile_s_mix() -> None:
    rows = {"code": 90, "chat": 10}
    weights = class_weights(rows, {"code": 0.5, "chat": 0.5})
    assert weights["code"] * 90 == pytest.approx(weights["chat"] * 10, rel=1e-4)
    assert sum(weights[name] * count for name, count in rows.items()) / 100 == pytest.approx(1)
    assert class_weights(rows, None) == {"code": 1.0, "chat": 1.0}


def test_row_weights_match_classes_and_lengths_at_once() -> None:
    draw = np.random.default_rng(0)
    classes = draw.choice(["code", "chat"], 400, p=[0.8, 0.2]).tolist()
    lengths = draw.choice([50, 500], 400, p=[0.6, 0.4]).tolist()
    weights = row_weights(
        classes, lengths, [10] * 400, profile(content_class_mix={"code": 0.5, "chat": 0.5}, isl_buckets=SHORT_LONG)
    )
    code = weights[np.array(classes) == "code"].sum() / weights.sum()
    long = weights[np.array(lengths) == 500].sum() / weights.sum()
    assert (code, long) == (pytest.approx(0.5, abs=0.01), pytest.approx(0.75, abs=0.01))
    assert weights.mean() == pytest.approx(1)


def test_without_anything_to_match_every_row_weighs_the_same() -> None:
    assert row_weights(["a", "b"], [1, 2], [1, 2], profile()).tolist() == [1.0, 1.0]


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 200), min_size=1),
    st.dictionaries(st.sampled_from("abcdef"), st.floats(0.01, 20)),
    st.integers(0, 500),
)
def test_quotas_spend_exactly_what_there_is(available: dict[str, int], weight: dict[str, float], total: int) -> None:
    taken = quotas(available, weight, total)
    assert sum(taken.values()) == min(total, sum(available.values()))
    assert all(0 <= count <= available[name] for name, count in taken.items())


def test_choosing_is_by_name_not_by_place() -> None:
    strata, names = ["a"] * 60 + ["b"] * 30, [f"n{k}" for k in range(90)]
    chosen = {names[p] for p in choose(strata, names, 30, seed=1)}
    turned = {names[::-1][p] for p in choose(strata[::-1], names[::-1], 30, seed=1)}
    assert chosen == turned
    assert Counter(strata[names.index(name)] for name in chosen) == {"a": 20, "b": 10}
    assert chosen != {names[p] for p in choose(strata, names, 30, seed=2)}


def test_hard_examples_are_the_least_accepted(service: Service) -> None:
    for accepted in range(20):
        service.ask(f"q{accepted}", answer="a", spec=SpecStats(drafts=10, draft_tokens=20, accepted_tokens=accepted))
    service.ask("too little to say", answer="a", spec=SpecStats(drafts=1, draft_tokens=3, accepted_tokens=0))
    service.ask("not measured", answer="a")
    assert hard_examples(service.log, share=0.15) == ["r0", "r1", "r2"]


def test_lengths_and_classes_alone_give_a_plan_over_public_sets() -> None:
    asked = profile(content_class_mix={"code": 0.7, "chat": 0.3}, isl_buckets=SHORT_LONG)
    code = [{"content_class": "code", "prompt_tokens": 40}] * 4 + [{"content_class": "code", "prompt_tokens": 400}] * 16
    chat = [{"content_class": "chat", "prompt_tokens": 40}] * 6 + [{"content_class": "chat", "prompt_tokens": 400}] * 9
    poems = [{"content_class": "poem", "prompt_tokens": 40}] * 10
    plan = plan_public_mix(asked, {"code": code, "chat": chat, "poems": poems, "empty": []})
    assert plan == json.loads(json.dumps(plan))
    assert plan["weights"]["code"] == pytest.approx(0.7, abs=0.05)
    assert plan["weights"]["poems"] == pytest.approx(0.0, abs=0.02)
    assert sum(plan["weights"].values()) == pytest.approx(1)
    assert plan["largest_gap"] < 0.05
    with pytest.raises(InputError, match="nothing to match"):
        plan_public_mix(profile(), {"code": code})

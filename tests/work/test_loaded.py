"""What the engine's log says of a draft is held against what was asked and what the draft's manifest says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from draftsmith.contract.draft import DraftManifest
from draftsmith.contract.errors import EngineError
from draftsmith.contract.measure import Arm, EngineFacts
from draftsmith.engines.vllm import log as vllm_log
from draftsmith.kit.files import write_json
from draftsmith.work.compare import loaded

LOG = Path(__file__).parent.parent / "engines" / "logs" / "eagle3-0.24.log"  # the target's embeddings, its own head
ASKED = {"method": "eagle3", "num_speculative_tokens": 3}


@pytest.fixture(scope="module")
def facts() -> EngineFacts:
    return vllm_log.facts(LOG.read_text(encoding="utf-8"), "start")


def manifest(**changed: Any) -> DraftManifest:
    values: dict[str, Any] = {
        "method": "eagle3", "layer_ids": (2, 4, 5), "hidden_size": 32, "target_vocab_size": 384, "draft_vocab_size": 128,
        "vocab_map_sha256": "m", "has_own_embeddings": False, "has_own_lm_head": True, "target_sha256": "t",
        "tokenizer_sha256": "k", "trainer": "speculators",
    }  # fmt: skip
    return DraftManifest.model_validate(values | changed)


def test_a_draft_that_is_loaded_as_asked_is_not_remarked_upon(facts: EngineFacts) -> None:
    asked = ASKED | {"num_speculative_tokens": facts.num_speculative_tokens}
    assert loaded.disagreements(asked, facts, manifest()) == []
    assert loaded.disagreements(asked, EngineFacts(start_id="silent"), manifest()) == []


@pytest.mark.parametrize(
    ("asked", "changed", "said"),
    [
        ({"method": "dflash"}, {}, "method eagle3 instead of dflash"),
        ({"num_speculative_tokens": 7}, {}, "instead of 7"),
        ({}, {"has_own_embeddings": True}, "it uses the target's embeddings"),
        ({}, {"has_own_lm_head": False}, "it uses other lm head than the target's"),
    ],
)
def test_each_disagreement_is_named(
    asked: dict[str, Any], changed: dict[str, Any], said: str, facts: EngineFacts
) -> None:
    right = ASKED | {"num_speculative_tokens": facts.num_speculative_tokens}
    [found] = loaded.disagreements(right | asked, facts, manifest(**changed))
    assert said in found


def test_an_arm_with_such_a_draft_is_refused(facts: EngineFacts, tmp_path: Path) -> None:
    write_json(tmp_path / loaded.MANIFEST, manifest(has_own_embeddings=True))
    spec = {**ASKED, "num_speculative_tokens": facts.num_speculative_tokens, "model": str(tmp_path)}
    with pytest.raises(EngineError, match="mine: the engine loaded the draft otherwise than asked"):
        loaded.require_as_asked(Arm(name="mine", role="candidate", spec_config=spec), facts)


def test_what_no_draft_explains_is_told(facts: EngineFacts) -> None:
    plain = facts.model_copy(
        update={"spec_method": None, "num_speculative_tokens": None, "sharing": (), "kv_tokens": 1}
    )
    assert loaded.differences(plain, facts) is None
    changed = facts.model_copy(update={"graph_mode": "NONE", "enforce_eager": None})
    told = loaded.differences(plain, changed)
    assert told is not None
    assert f"graph_mode is NONE instead of {facts.graph_mode}" in told
    assert "enforce_eager is not said instead of" in told


def test_a_prefix_cache_that_only_some_arms_have_is_named() -> None:
    def facts(caching: bool | None) -> EngineFacts:
        return EngineFacts(start_id="a", prefix_caching=caching)

    told = loaded.uneven_caches({"a": facts(True), "b": facts(False), "c": facts(None)})
    assert told is not None
    assert told.startswith("a keeps the prefixes of prompts and b does not")
    assert loaded.uneven_caches({"a": facts(True), "b": facts(True), "c": facts(None)}) is None
    assert loaded.uneven_caches({"a": facts(False), "b": facts(None)}) is None

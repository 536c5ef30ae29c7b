"""A promotion policy: what is not signed by its keys is not promoted, whatever else it is."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from bundle_world import parts
from promotions import NGRAM, Promotion
from test_attestation import keys

from draftsmith import api
from draftsmith.contract.base import digest
from draftsmith.contract.errors import ConfigError
from draftsmith.kit.files import private_dir
from draftsmith.store import chain
from draftsmith.store.attestation import envelope_of
from draftsmith.store.evidence import recompute, write_bundle
from draftsmith.store.promotion_policy import read_policy
from draftsmith.store.state import read_state


def story(folder: Path, policy: str) -> Promotion:
    """A comparison that was won, its bundle as the run publishes it, and a policy."""
    (folder / "promotion.toml").write_text(policy)
    made = Promotion(folder, None, NGRAM)
    serving = made.context.config.serving.model_copy(update={"promotion_policy": str(folder / "promotion.toml")})
    config = made.context.config.model_copy(update={"serving": serving})
    made.context = replace(made.context, config=config)
    return made


def published(made: Promotion) -> Path:
    left = parts(run_id=made.context.run_id)
    assert left.plan is not None
    trials = chain.linked(digest(left.plan), left.trials)
    decision = recompute(left.plan, trials, list(left.facts))
    return write_bundle(private_dir(made.context.folder / "bundle"), replace(left, trials=trials, decision=decision))


def served(folder: Path) -> object:
    state = read_state(folder)
    return state.standing_config if state else None


def headline(made: Promotion) -> str:
    from draftsmith.loop import promotion

    return promotion.promote(made.run, made.context, made.serving)[1].headline


def test_what_is_unsigned_is_kept_back_and_what_is_signed_serves(tmp_path: Path) -> None:
    pem, _ = keys(tmp_path, "release")
    made = story(tmp_path, 'keys = ["release.pub"]')
    assert "is not signed" in headline(made)
    bundle = published(made)
    assert "`draftsmith sign`" in headline(made)
    assert served(tmp_path) is None
    api.sign(bundle, pem)
    assert headline(made).startswith("promoted tailored")
    assert served(tmp_path) == NGRAM


@pytest.mark.parametrize("attack", ["unknown key", "torn", "other bundle", "rewritten"])
def test_a_signature_that_does_not_carry_the_promotion(tmp_path: Path, attack: str) -> None:
    pem, _ = keys(tmp_path, "release")
    stranger, _ = keys(tmp_path, "stranger")
    made = story(tmp_path, 'keys = ["release.pub"]')
    bundle = published(made)
    place = api.sign(bundle, stranger if attack == "unknown key" else pem)
    if attack == "torn":
        place.write_text(place.read_text()[:-40])
    elif attack == "rewritten":
        envelope = json.loads(place.read_text())
        envelope["payload"] = envelope["payload"][:-8] + "fQ=="
        place.write_text(json.dumps(envelope))
    elif attack == "other bundle":
        other = write_bundle(tmp_path / "elsewhere", parts(blocks=5))
        place.write_text(api.sign(other, pem).read_text())
    told = headline(made)
    assert told.startswith("standing configuration kept")
    assert served(tmp_path) is None
    words = {
        "unknown key": "0 of the 1 keys",
        "torn": "cannot be checked",
        "rewritten": "0 of the 1 keys",
        "other bundle": "another verdict than this one",
    }
    assert words[attack] in told


def test_two_signatures_are_two_keys(tmp_path: Path) -> None:
    first, _ = keys(tmp_path, "a")
    second, _ = keys(tmp_path, "b")
    made = story(tmp_path, 'keys = ["a.pub", "b.pub"]\nsignatures = 2')
    bundle = published(made)
    api.sign(bundle, first)
    api.sign(bundle, first)
    assert "1 of the 2 keys" in headline(made)
    api.sign(bundle, second)
    assert len(json.loads(envelope_of(bundle).read_text())["signatures"]) == 2
    assert headline(made).startswith("promoted")


def test_a_limit_on_campaigns_needs_their_journal(tmp_path: Path) -> None:
    pem, _ = keys(tmp_path, "release")
    made = story(tmp_path, 'keys = ["release.pub"]\ncampaigns = 1')
    api.sign(published(made), pem)
    assert "0 campaigns were begun with these arms" in headline(made)


@pytest.mark.parametrize("text", ["", "keys = []", 'keys = ["a.pub"]\nsignatures = 2', "keys = [", 'key = ["a.pub"]'])
def test_a_policy_that_cannot_be_read_lets_nothing_through(tmp_path: Path, text: str) -> None:
    made = story(tmp_path, text)
    with pytest.raises(ConfigError, match="promotion_policy"):
        headline(made)
    with pytest.raises(ConfigError):
        read_policy(tmp_path / "absent.toml")
    assert served(tmp_path) is None

"""What excludes what in SGLang is refused before a start: by its releases, its adaptive steps, its other flags."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from draftsmith.contract.errors import ConfigError, DraftsmithError, InputError, PrerequisiteError
from draftsmith.engines.base import Installation, ServerSpec
from draftsmith.engines.catalog import engine
from draftsmith.engines.sglang import command
from draftsmith.engines.sglang.features import KNOWN, features

CHAIN = {"method": "eagle3", "model": "/d", "num_speculative_tokens": 3}
MOVING = {**CHAIN, "adaptive": True, "num_speculative_tokens": 7}
TREE = {**CHAIN, "eagle_topk": 4, "num_steps": 2}
LOOKUP = {"method": "ngram", "num_speculative_tokens": 3}


def render(config: dict[str, Any], *flags: str, version: str = "0.5.17") -> None:
    found = Installation(engine="sglang", python="python3", version=version, device="cuda")
    command.render(ServerSpec(model="/m", spec_config=config, flags=flags), found, features(version))


@pytest.mark.parametrize(
    ("config", "flags", "named"),
    [
        ({**MOVING}, ("--enable-dp-attention",), "adaptive steps and --enable-dp-attention"),
        ({**MOVING}, ("--enable_pdmux",), "--enable-pdmux"),
        ({**MOVING, "num_speculative_tokens": 3}, (), "keeps no room for more than it begins with"),
        (LOOKUP, ("--enable-dp-attention",), "method ngram and --enable-dp-attention"),
        ({"method": "dflash", "model": "/d"}, ("--pp-size", "2"), "--pp-size"),
        ({"method": "dspark", "model": "/d"}, ("--pp-size=2",), "--pp-size"),
        (TREE, ("--attention-backend", "trtllm_mha"), "--attention-backend"),
        (TREE, ("--attention-backend=flashmla", "--page-size=64"), "--attention-backend"),
        (
            {**CHAIN, "use_rejection_sampling": True},
            ("--enable-deterministic-inference",),
            "--enable-deterministic-inference",
        ),
        ({**LOOKUP, "ngram_external_sam_budget": 4}, (), "of 3 drafted tokens"),
        ({**CHAIN, "adaptive": True, "num_speculative_tokens": 5}, (), "between 0, 1, 3, 7, and cannot begin with 5"),
    ],
)
def test_flags_that_exclude_each_other(config: dict[str, Any], flags: tuple[str, ...], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        render(config, *flags)


@pytest.mark.parametrize(
    ("config", "flags"),
    [
        (CHAIN, ("--enable-dp-attention",)),
        ({**CHAIN, "adaptive": True, "num_speculative_tokens": 7}, ("--page-size", "64")),
        (TREE, ("--page-size", "64", "--attention-backend", "fa3")),
        ({"method": "dflash", "model": "/d"}, ("--pp-size", "1")),
        ({**LOOKUP, "ngram_external_sam_budget": 3}, ()),
        ({"method": "eagle3", "model": "/d", "adaptive": True}, ()),
    ],
)
def test_what_does_not_exclude_each_other_is_started(config: dict[str, Any], flags: tuple[str, ...]) -> None:
    render(config, *flags)


OWN = "python -m sglang.launch_server --model-path /m --speculative-algorithm"


@pytest.mark.parametrize(
    ("command", "named"),
    [
        (f"{OWN} EAGLE3 --speculative-draft-model-path DRAFT", "vLLM's notation"),
        (f"{OWN}=EAGLE --speculative-adaptive --enable-dp-attention", "adaptive steps and --enable-dp-attention"),
        (f"{OWN} NGRAM --speculative-num-draft-tokens 8 --speculative-adaptive", "adaptive steps need"),
        (f"{OWN} DFLASH --speculative-eagle-topk 4", "at one stroke"),
        ("sglang serve /m --speculative-num-steps 3", "names no --speculative-algorithm"),
    ],
)
def test_a_command_of_ones_own_is_looked_at_too(command: str, named: str, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"speculators_config": {}}))
    with pytest.raises(DraftsmithError, match=named):
        engine("sglang").check_own(command.replace("DRAFT", str(tmp_path)).split())


@pytest.mark.parametrize(
    "command",
    [
        "sglang serve /m --enable-metrics",
        f"{OWN} EAGLE --speculative-num-steps 3 --speculative-eagle-topk 4 --speculative-num-draft-tokens 16",
        f"{OWN} EAGLE3 --speculative-draft-model-path elsewhere/draft --speculative-num-steps 5 --speculative-adaptive",
        f"{OWN} NGRAM --speculative-ngram-external-corpus-path /c --speculative-ngram-external-sam-budget 4 --dp-size 2",
    ],
)
def test_a_command_that_sglang_takes_is_taken(command: str) -> None:
    engine("sglang").check_own(command.split())


def test_adaptive_steps_begin_with_the_most_where_nothing_is_said() -> None:
    found = Installation(engine="sglang", python="python3", version="0.5.17", device="cuda")
    config = {"method": "eagle3", "model": "/d", "adaptive": True}
    said = command.render(ServerSpec(model="/m", spec_config=config), found, features("0.5.17")).argv
    assert said[said.index("--speculative-num-steps") + 1] == "7"


def test_adaptive_steps_begin_with_one_of_their_file(tmp_path: Path) -> None:
    file = tmp_path / "steps.json"
    file.write_text(json.dumps({"1": {"candidate_steps": [2, 5]}, "8": {"candidate_steps": [0, 2]}, "ema_alpha": 0.3}))
    adaptive = {**CHAIN, "adaptive": True, "adaptive_config": str(file)}
    render({**adaptive, "num_speculative_tokens": 5})
    render({**adaptive, "num_speculative_tokens": 2}, version="0.5.23")
    with pytest.raises(ConfigError, match="between 0, 2, 5"):
        render(adaptive)
    file.write_text("[]")
    with pytest.raises(InputError, match="no file of adaptive steps"):
        render(adaptive)


@pytest.mark.parametrize(
    ("version", "config", "error"),
    [
        ("0.5.9", {**CHAIN, "adaptive": True}, PrerequisiteError),
        ("0.5.9", {**LOOKUP, "ngram_external_corpus_path": "/c"}, PrerequisiteError),
        ("0.5.9", {"method": "dflash", "model": "/d"}, PrerequisiteError),
        ("0.5.15", {"method": "dspark", "model": "/d"}, PrerequisiteError),
        ("0.5.16", {"method": "dspark", "model": "/d"}, None),
        ("0.5.11", {**MOVING}, None),
        ("0.5.17", {**CHAIN, "adaptive": True, "num_speculative_tokens": 5}, ConfigError),
        ("0.5.23", {**CHAIN, "adaptive": True, "num_speculative_tokens": 5}, None),
    ],
)
def test_a_release_has_what_its_source_has(
    version: str, config: dict[str, Any], error: type[DraftsmithError] | None
) -> None:
    if error is None:
        render(config, version=version)
    else:
        with pytest.raises(error):
            render(config, version=version)


def test_releases_without_a_count_of_verify_calls_say_so() -> None:
    assert [known.release for known in KNOWN.values() if known.note] == ["0.5.9", "0.5.11"]
    assert "counts no verify calls" in str(features("0.5.12").note)
    assert "counts no verify calls" not in str(features("0.5.18").note)

"""`draftsmith compare` on a stand-in for SGLang: alone, beside vLLM, and on servers that run already."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from comparison_world import Bench

pytestmark = [pytest.mark.story, pytest.mark.timed]

Make = Callable[..., Bench]
FAST = {"step_ms": 5, "first_ms": 6, "acceptance": {"standalone": 0.9}, "step_cost": {"ngram": 1.0, "standalone": 1.1}}
DRAFTED = '{"method": "draft_model", "model": "%s", "num_speculative_tokens": 3}'


@pytest.fixture
def bench(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Bench:
    made = Bench(tmp_path, tmp_path_factory.getbasetemp(), monkeypatch)
    made.env["FAKE_VLLM"] = json.dumps(FAST)
    return made


def facts(bench: Bench) -> dict[str, dict[str, Any]]:
    said = json.loads((bench.out / "engine-facts.json").read_text())
    return {row["arm"]: row["facts"] for row in said} if isinstance(said, list) else said


def test_sglang_alone_is_compared_with_its_own_counters(bench: Bench) -> None:
    earlier = bench.base / "earlier.jsonl"
    earlier.write_text(
        json.dumps("an earlier answer of five words") + "\n" + json.dumps({"completion": "and a record's"})
    )
    traffic = '{"method": "ngram", "num_speculative_tokens": 3, "external_corpus": "earlier.jsonl"}'
    arms = ("plain=none", f"ngram={traffic}", f"small={DRAFTED % bench.target}")
    bench.compare(*arms, more=("--target", str(bench.target)), **{"engine.kind": "sglang"})
    trials = [row for row in bench.lines() if row["traffic"] == "own"]
    by_arm = {row["arm"]: row for row in trials}
    assert by_arm["small"]["counters"]["drafts"] > 0
    assert by_arm["small"]["counters"]["server_tpot_count"] > 0
    assert by_arm["small"]["kv_tokens"] == 91024
    assert bench.plan()["versions"]["sglang"] == "0.5.17"
    assert bench.figures["acceptance_length"]["small"] > 2
    [corpus] = [arm for arm in bench.plan()["arms"] if arm["name"] == "ngram"]
    assert corpus["draft_sha256"] == hashlib.sha256(earlier.read_bytes()).hexdigest()
    assert str(bench.base) not in json.dumps(bench.plan()), "evidence holds no folder of this machine"
    commands = (bench.out / "processes" / "commands.jsonl").read_text()
    assert "--speculative-ngram-external-sam-budget" in commands


def test_adaptive_steps_are_an_arm_although_nobody_counts_their_tokens(bench: Bench) -> None:
    chain = {"method": "eagle3", "model": "/drafts/elsewhere", "num_speculative_tokens": 3}
    arms = (
        "plain=none",
        f"fixed={json.dumps(chain)}",
        f"adaptive={json.dumps(chain | {'adaptive': True, 'num_speculative_tokens': 7})}",
    )
    bench.compare(*arms, more=("--target", str(bench.target)), **{"engine.kind": "sglang"})
    trials = [row for row in bench.lines() if row["traffic"] == "own" and row["arm"] == "adaptive"]
    assert trials
    assert not any(row["invalid"] for row in trials)
    assert all(row["counters"]["accepted_tokens"] for row in trials)
    assert bench.figures["acceptance_length"]["adaptive"] > 1
    assert "--speculative-adaptive" in (bench.out / "processes" / "commands.jsonl").read_text()


def test_a_corpus_that_holds_the_compared_prompts_is_refused_before_a_server_starts(bench: Bench) -> None:
    row = json.loads(bench.prompts.read_text().splitlines()[0])
    (bench.base / "earlier.jsonl").write_text(json.dumps({"messages": row["messages"], "completion": "x"}) + "\n")
    traffic = '{"method": "ngram", "num_speculative_tokens": 3, "external_corpus": "earlier.jsonl"}'
    said = bench.compare(
        "plain=none", f"ngram={traffic}", more=("--target", str(bench.target)), code=2, **{"engine.kind": "sglang"}
    )
    assert "1 of the compared prompts" in said["error"]
    assert not (bench.out / "servers").exists()


def test_both_engines_have_one_verdict(bench: Bench) -> None:
    arms = ("standing=none", "sg=sglang:none", f"sg-small=sglang:{DRAFTED % bench.target}")
    settings = {"engines.sglang.python": bench.python, "engine.prefix_caching": False}
    told = bench.compare(*arms, more=("--target", str(bench.target)), **settings)
    assert {arm["name"]: arm["engine"] for arm in bench.plan()["arms"]} == {
        "standing": "vllm",
        "sg": "sglang",
        "sg-small": "sglang",
    }
    assert not [reason for reason in json.dumps(told).split('"') if "version differs" in reason]
    assert bench.figures["winner"] in {None, "sg", "sg-small"}


def test_a_running_server_says_enough_of_itself_for_more_than_a_draft(bench: Bench) -> None:
    """Its start, its settings and its counters are published, so only the missing restarts keep the tier down."""
    flags = f"--model-path {bench.target} --served-model-name m --context-length 512 --max-running-requests 8"
    flags += " --enable-metrics --disable-radix-cache"
    with (
        bench.serving("sglang.launch_server", flags) as plain,
        bench.serving(
            "sglang.launch_server", f"{flags} --speculative-algorithm NGRAM --speculative-num-draft-tokens 4"
        ) as drafting,
    ):
        told = bench.compare(f"standing={plain}", f"ngram={drafting}", **{"compare.general_prompts": 0})
    text = json.dumps(told)
    assert "neither restarted nor its log read" not in text
    assert all(row["kv_tokens"] == 91024 for row in bench.lines())
    assert any(row["counters"]["drafts"] for row in bench.lines() if row["arm"] == "ngram")


def test_two_running_servers_are_a_verdict_where_it_is_known_how_far_starts_differ(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    bench = Bench(tmp_path, tmp_path_factory.getbasetemp(), monkeypatch, count=36)
    bench.env["FAKE_VLLM"] = json.dumps({**FAST, "acceptance": {"ngram": 0.95}})
    flags = f"--model-path {bench.target} --served-model-name m --context-length 512 --max-running-requests 8"
    flags += " --enable-metrics --enable-cache-report --disable-radix-cache"
    settings = {
        "compare.prompts": 6,
        "compare.general_prompts": 24,
        "compare.thresholds.max_blocks": 4,
        "compare.thresholds.start_noise": 0.05,
    }
    with (
        bench.serving("sglang.launch_server", flags) as plain,
        bench.serving(
            "sglang.launch_server", f"{flags} --speculative-algorithm NGRAM --speculative-num-draft-tokens 4"
        ) as drafting,
    ):
        told = bench.compare(f"standing={plain}", f"ngram={drafting}", more=("--blocks", "4"), **settings)
    print(json.dumps(told, indent=1))
    assert (told["outcome"], told["tier"]) == ("WIN", "verdict")


def running(bench: Bench, *more: str) -> str:
    """Flags of a server that somebody else starts."""
    flags = f"--model-path {bench.target} --served-model-name m --context-length 512 --max-running-requests 8"
    return " ".join((flags, *more))


def before_measuring(bench: Bench, sentence: str) -> bool:
    """Whether a sentence was said, and before the forecast that ends the preparation."""
    assert sentence in bench.said, bench.said
    return bench.said.index(sentence) < bench.said.index("A/A on")


def test_a_server_without_metrics_is_a_draft_and_named_before_it_is_measured(bench: Bench) -> None:
    with bench.serving("sglang.launch_server", running(bench)) as plain:
        told = bench.compare(f"standing={plain}", f"again={plain}")
    assert "neither restarted nor its log read" in json.dumps(told) + (bench.out / "verdict.json").read_text()
    assert before_measuring(bench, "standing publishes no counters of an engine that is known here")


@pytest.mark.parametrize(
    ("version", "sentence"),
    [
        ("0.5.30", "standing: SGLang 0.5.30 is not known here; taken for 0.5.23"),
        ("0.4.9", "standing: SGLang 0.4.9 is older than 0.5: what it publishes is not read"),
    ],
)
def test_another_release_is_named_before_it_is_measured(bench: Bench, version: str, sentence: str) -> None:
    flags = running(bench, "--enable-metrics", "--disable-radix-cache")
    with bench.serving("sglang.launch_server", flags, version=version) as plain:
        bench.compare(f"standing={plain}", f"again={plain}")
    assert before_measuring(bench, sentence)


def test_a_cache_that_is_warm_for_one_arm_is_named_before_it_is_measured(bench: Bench) -> None:
    flags, ask = running(bench, "--enable-metrics"), {"model": "m", "prompt": [1, 2], "max_tokens": 2, "stream": True}
    with (
        bench.serving("sglang.launch_server", flags) as fresh,
        bench.serving("sglang.launch_server", flags) as warm,
    ):
        for _ in range(3):
            httpx.post(f"{warm}/v1/completions", json=ask, trust_env=False).raise_for_status()
        bench.compare(f"standing={fresh}", f"warm={warm}")
    assert before_measuring(bench, "not equally warm (requests answered before: standing 0, warm 3)")


def test_a_server_behind_a_key_says_as_much_of_itself(bench: Bench) -> None:
    bench.env["SERVING_KEY"] = "secret-of-the-server"
    flags = running(bench, "--enable-metrics", "--disable-radix-cache", "--api-key", "secret-of-the-server")
    with (
        bench.serving("sglang.launch_server", flags) as plain,
        bench.serving("sglang.launch_server", flags) as other,
    ):
        told = bench.compare(f"standing={plain}", f"other={other}", **{"compare.api_key_env": "SERVING_KEY"})
    assert "neither restarted nor its log read" not in json.dumps(told)
    assert "publishes no counters" not in bench.said
    assert all(row["kv_tokens"] == 91024 for row in bench.lines())


def test_a_command_with_flags_that_exclude_each_other_is_refused_before_anything_starts(bench: Bench) -> None:
    chain = "--speculative-algorithm EAGLE3 --speculative-draft-model-path /d --speculative-adaptive"
    command = f"{bench.python} -m sglang.launch_server --model-path {bench.target} {chain} --enable-dp-attention"
    said = bench.compare("plain=none", f"own={command}", more=("--target", str(bench.target)), code=2)
    assert "exclude each other" in said["error"]
    assert not (bench.out / "servers").exists()

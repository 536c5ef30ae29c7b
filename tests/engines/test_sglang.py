"""SGLang's adapter against what a real server of 0.5.17 wrote, and its command line as text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from material import shared

from draftsmith.contract.config import parse_config
from draftsmith.contract.errors import ConfigError, EngineLostError, InputError, PrerequisiteError
from draftsmith.contract.measure import Arm, SpecCounters
from draftsmith.contract.speculation import Speculation, read_words
from draftsmith.engines.base import CaptureSpec, Installation, ServerSpec
from draftsmith.engines.catalog import engine
from draftsmith.engines.catalog import read_words as read_command
from draftsmith.engines.diagnosis import clean
from draftsmith.engines.printed import top_level
from draftsmith.engines.sglang import command, features, log, metrics
from draftsmith.verdict.arms import has_draft, says_speculation
from draftsmith.verdict.modes import mode_mismatch, settings_mismatch
from draftsmith.wiring import server_spec

FOUND = Installation(engine="sglang", python="python3", version="0.5.17", device="cuda")


def recording(name: str) -> str:
    return shared("cases", "sglang", name).read_text()


def words(spec_config: dict[str, Any] | None = None, **changes: Any) -> list[str]:
    spec = ServerSpec(model="/m", served_name="target", port=30017, spec_config=spec_config, **changes)
    return list(command.render(spec, FOUND, features.features("0.5.17")).argv)


def environment(spec_config: dict[str, Any], env: dict[str, str]) -> dict[str, str]:
    spec = ServerSpec(model="/m", spec_config=spec_config, env=env)
    return command.render(spec, FOUND, features.features("0.5.17")).env


# -- the command ------------------------------------------------------------------------------------------------------


def test_a_plain_server() -> None:
    assert words(max_model_len=8192, gpu_memory_share=0.5) == [
        "python3",
        "-m",
        "sglang.launch_server",
        "--model-path",
        "/m",
        "--served-model-name",
        "target",
        "--host",
        "127.0.0.1",
        "--port",
        "30017",
        "--context-length",
        "8192",
        "--max-running-requests",
        "32",
        "--enable-metrics",
        "--enable-cache-report",
        "--disable-radix-cache",
        "--mem-fraction-static",
        "0.5",
    ]
    assert "--disable-radix-cache" not in words(prefix_caching=None)


@pytest.mark.parametrize(
    ("config", "flags"),
    [
        (
            {"method": "eagle3", "model": "/d", "num_speculative_tokens": 3},
            "--speculative-algorithm EAGLE3 --speculative-draft-model-path /d --speculative-num-steps 3 "
            "--speculative-eagle-topk 1 --speculative-num-draft-tokens 4",
        ),
        (
            {"method": "eagle", "model": "/d", "num_speculative_tokens": 15, "num_steps": 5, "eagle_topk": 4},
            "--speculative-algorithm EAGLE --speculative-draft-model-path /d --speculative-num-steps 5 "
            "--speculative-eagle-topk 4 --speculative-num-draft-tokens 16",
        ),
        (
            {"method": "mtp", "num_speculative_tokens": 1},
            "--speculative-algorithm NEXTN --speculative-num-steps 1 --speculative-eagle-topk 1 "
            "--speculative-num-draft-tokens 2",
        ),
        (
            {"method": "draft_model", "model": "/d", "num_speculative_tokens": 2},
            "--speculative-algorithm STANDALONE --speculative-draft-model-path /d --speculative-num-steps 2 "
            "--speculative-eagle-topk 1 --speculative-num-draft-tokens 3",
        ),
        (
            {"method": "ngram", "num_speculative_tokens": 3, "prompt_lookup_max": 4, "ngram_max_trie_depth": 12},
            "--speculative-algorithm NGRAM --speculative-num-draft-tokens 4 --speculative-ngram-max-trie-depth 12",
        ),
        (
            {"method": "dflash", "model": "/d", "num_speculative_tokens": 7},
            "--speculative-algorithm DFLASH --speculative-draft-model-path /d --speculative-num-draft-tokens 8",
        ),
        (
            {"method": "dspark", "num_speculative_tokens": 5, "dspark_block_size": 5},
            "--speculative-algorithm DSPARK --speculative-num-draft-tokens 6 --speculative-dspark-block-size 5",
        ),
        (
            {"method": "eagle3", "model": "/d", "num_speculative_tokens": 3, "adaptive": True, "adaptive_config": "/a"},
            "--speculative-algorithm EAGLE3 --speculative-draft-model-path /d --speculative-num-steps 3 "
            "--speculative-eagle-topk 1 --speculative-num-draft-tokens 4 --speculative-adaptive "
            "--speculative-adaptive-config /a",
        ),
        (
            {"method": "ngram", "num_speculative_tokens": 8, "ngram_external_corpus_path": "/c.jsonl"},
            "--speculative-algorithm NGRAM --speculative-num-draft-tokens 9 "
            "--speculative-ngram-external-corpus-path /c.jsonl --speculative-ngram-external-sam-budget 4",
        ),
    ],
)
def test_a_speculative_config_is_said_in_flags_and_read_back(config: dict[str, Any], flags: str) -> None:
    said = words(config)
    assert said[-len(flags.split()) :] == flags.split()
    read = read_words(said, "sglang")
    assert read is not None
    assert read.k == config["num_speculative_tokens"]
    assert read.draft == config.get("model")
    assert read.method == config["method"]


@pytest.mark.parametrize(
    ("config", "changes", "error"),
    [
        ({"method": "eagle3", "num_speculative_tokens": 3}, {}, ConfigError),
        ({"method": "eagle3", "model": "/d", "num_speculative_tokens": 3, "num_steps": 5}, {}, ConfigError),
        ({"method": "dflash", "model": "/d", "num_speculative_tokens": 7, "eagle_topk": 4}, {}, ConfigError),
        ({"method": "dflash", "model": "/d", "num_speculative_tokens": 7, "dflash_block_size": 7}, {}, ConfigError),
        ({"method": "ngram", "num_speculative_tokens": 3, "adaptive": True}, {}, ConfigError),
        (
            {
                "method": "eagle3",
                "model": "/d",
                "num_speculative_tokens": 15,
                "num_steps": 5,
                "eagle_topk": 4,
                "adaptive": True,
            },
            {},
            ConfigError,
        ),
        ({"method": "eagle3", "model": "/d", "adaptive_config": "/a"}, {}, ConfigError),
        ({"method": "eagle3", "model": "/d", "ngram_capacity": 5}, {}, ConfigError),
        (
            {"method": "eagle3", "model": "/d", "use_rejection_sampling": True, "accept_threshold_acc": 0.9},
            {},
            ConfigError,
        ),
        ({"method": "medusa", "model": "/d"}, {}, PrerequisiteError),
        ({"model": "/d"}, {}, PrerequisiteError),
        (None, {"flags": ("--speculative-eagle-topk", "4")}, ConfigError),
        (None, {"flags": ("--context-length=4",)}, ConfigError),
        (None, {"middleware": ("a.B",)}, ConfigError),
        (None, {"capture": CaptureSpec(layer_ids=(1,), storage="/s")}, PrerequisiteError),
    ],
)
def test_what_cannot_be_served_is_refused_before_a_start(
    config: dict[str, Any] | None, changes: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        words(config, **changes)


@pytest.mark.parametrize(
    ("written", "said"),
    [
        ({"transformer_layer_config": {}}, "vLLM's notation"),
        ([], "no object"),
        (None, "cannot be read"),
        ({"architectures": ["LlamaForCausalLMEagle3"]}, None),
    ],
)
def test_a_draft_in_the_other_engines_notation_is_named(tmp_path: Path, written: Any, said: str | None) -> None:
    (tmp_path / "config.json").write_text("{" if written is None else json.dumps(written))
    config = {"method": "eagle3", "model": str(tmp_path), "num_speculative_tokens": 3}
    if said is None:
        assert str(tmp_path) in words(config)
        return
    with pytest.raises(InputError, match=said):
        words(config)


def test_a_class_of_ones_own_may_read_what_sglang_ignores(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"norm_before_residual": true}')
    config = {"method": "eagle3", "model": str(tmp_path), "num_speculative_tokens": 3}
    assert environment(config, {command.OWN_MODELS: "theirs"})[command.OWN_MODELS] == "theirs"
    ours = environment(config, {"PYTHONPATH": "/site"})
    place, rest = ours["PYTHONPATH"].split(":")
    assert rest == "/site"
    assert Path(place, ours[command.OWN_MODELS], "llama_eagle3.py").is_file()
    (tmp_path / "config.json").write_text('{"norm_before_residual": false}')
    assert command.OWN_MODELS not in environment(config, {})


def test_a_flat_draft_of_vllms_is_known_by_its_manifest(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps({command.LAYERS: [2, 15, 27]}))
    config = {"method": "eagle3", "model": str(tmp_path), "num_speculative_tokens": 3}
    assert words(config)
    (tmp_path / command.MANIFEST).write_text('{"layer_ids": [2, 15, 27]}')
    with pytest.raises(InputError, match="adds one to every layer id"):
        words(config)
    (tmp_path / "config.json").write_text(json.dumps({"eagle_config": {command.LAYERS: [1, 14, 26]}}))
    assert words(config)


# -- what a server wrote ----------------------------------------------------------------------------------------------


def test_facts_of_a_recorded_server_with_a_draft() -> None:
    facts = log.facts(recording("eagle.log"), "a", "0.5.17")
    assert (facts.engine, facts.version, facts.pid, facts.device) == ("sglang", "0.5.17", 942, "cuda")
    assert (facts.dtype, facts.enforce_eager, facts.graph_mode) == ("bfloat16", False, "decode=full, prefill=disabled")
    assert (facts.kv_tokens, facts.max_model_len, facts.max_num_seqs) == (3119000, 8192, 32)
    assert (facts.prefix_caching, facts.chunked_prefill, facts.async_scheduling) == (True, True, True)
    assert (facts.spec_method, facts.num_speculative_tokens) == ("eagle3", 3)
    assert facts.settings["attention_backend"] == "fa3"
    assert "HOME" not in json.dumps(facts.model_dump(mode="json"))
    assert any("prefill CUDA graph" in line for line in facts.warnings)


def test_two_recorded_servers_are_comparable() -> None:
    base, eagle = (log.facts(recording(f"{name}.log"), name, "0.5.17") for name in ("base", "eagle"))
    assert (base.spec_method, base.num_speculative_tokens) == (None, None)
    assert mode_mismatch({"base": [base], "eagle": [eagle]}) == []
    assert settings_mismatch({"base": [base], "eagle": [eagle]}) == []


def test_the_stages_of_a_recorded_start() -> None:
    lines = clean(recording("eagle.log"))
    stages = list(dict.fromkeys(log.stage(lines[: n + 1]) for n in range(min(len(lines), 120))))
    assert stages[0] == "starting Python"
    assert stages[-1] == "ready"
    assert {"loading weights", "allocating the KV cache", "capturing graphs"} <= set(stages)


def test_acceptance_length_of_the_recorded_counters_is_the_engines_own() -> None:
    after = metrics.parse_metrics(recording("eagle.metrics"))
    zero = dict.fromkeys(after.values, 0.0)
    counted = metrics.diff(type(after)(zero, after.start_id), after)
    assert (counted.drafts, counted.generation_tokens, counted.requests) == (967, 3199, 73)
    assert counted.draft_tokens == 3 * 967
    assert counted.acceptance_length == pytest.approx(3.2318, rel=0.005), "the gauge of the last interval"
    assert counted.tokens_per_step == pytest.approx(counted.acceptance_length)
    assert (counted.server_tpot_count, counted.server_tpot_sum_s) == (3119, pytest.approx(10.545, abs=0.001))
    assert metrics.speculates(after)


def test_a_recorded_server_without_a_draft_takes_a_step_a_token() -> None:
    after = metrics.parse_metrics(recording("base.metrics"))
    assert not metrics.speculates(after)
    counted = metrics.diff(type(after)(dict.fromkeys(after.values, 0.0), after.start_id), after)
    assert not counted.present
    assert counted.tokens_per_step == 1.0


def test_another_start_is_noticed() -> None:
    base, eagle = (metrics.parse_metrics(recording(f"{name}.metrics")) for name in ("base", "eagle"))
    assert base.start_id
    assert base.start_id != eagle.start_id
    with pytest.raises(EngineLostError, match="replaced"):
        metrics.diff(base, eagle)
    with pytest.raises(EngineLostError, match="went down"):
        metrics.diff(base, type(base)({**base.values, (metrics.GENERATED, ""): 1.0}, base.start_id))


def test_a_server_is_asked_over_the_wire(wire: Any) -> None:
    adapter = engine("sglang")
    wire.speaks("/metrics", recording("eagle.metrics"))
    wire.speaks("/server_info", {"version": "0.5.17", "disable_radix_cache": False})
    wire.speaks("/v1/models", {"data": [{"id": "target", "max_model_len": 8192}]})
    who = adapter.identify(wire.url)
    assert (who.version, who.model, who.max_model_len, who.prefix_caching) == ("0.5.17", "target", 8192, True)
    reading = adapter.reading(wire.url)
    assert adapter.speculates(reading)
    assert adapter.diff(reading, reading) == SpecCounters(present=True, decode_steps=0)


def test_what_a_running_server_says_of_itself(wire: Any) -> None:
    wire.speaks("/metrics", recording("eagle.metrics"))
    printed = log.ARGUMENTS.search(
        recording("eagle.log").split("server_args=")[1].splitlines()[0].join(["server_args=", ""])
    )
    assert printed
    named = {key: value.strip("'\"") for key, value in top_level(printed["arguments"], "=").items()}
    wire.speaks("/server_info", {"version": "0.5.17", **named})
    told = engine("sglang").published(wire.url)
    kept = log.facts(recording("eagle.log"), told.start_id, "0.5.17")
    assert mode_mismatch({"asked": [told], "logged": [kept]}) == []
    assert settings_mismatch({"asked": [told], "logged": [kept]}) == []
    assert (told.kv_tokens, told.spec_method, told.num_speculative_tokens) == (3119000, "eagle3", 3)


@pytest.mark.parametrize(("before", "after"), [(1.0, 3.0), (1.0, 1.0)], ids=["moved", "moved-and-came-back"])
def test_the_number_of_steps_that_moved_leaves_the_drafted_tokens_unknown(before: float, after: float) -> None:
    """2.2 tokens accepted a call are more than the one step that both looks saw."""
    read = metrics.parse_metrics(recording("eagle.metrics"))
    zero = dict.fromkeys(read.values, 0.0) | {(metrics.STEPS, ""): before}
    last = read.values | {(metrics.STEPS, ""): after, (metrics.DRAFT_TOKENS, ""): after + 1}
    counted = metrics.diff(type(read)(zero, read.start_id), type(read)(last, read.start_id))
    assert (counted.drafts, counted.draft_tokens, counted.accepted_tokens) == (967, 0, 2159)
    assert counted.tokens_per_step == pytest.approx(counted.acceptance_length), "every step is a verify call"


def test_ranks_and_replicas_are_one_server() -> None:
    text = recording("eagle.metrics")
    second = [line.replace('tp_rank="0"', 'dp_rank="1",tp_rank="0"') for line in text.splitlines() if "tp_rank" in line]
    both = metrics.parse_metrics("\n".join([text, *second]) + "\n")
    one = metrics.parse_metrics(text)
    assert both.values == one.values
    assert metrics.sizes(text) == {"kv_tokens": 3119000, "length": 8192}


@pytest.mark.parametrize(
    ("arguments", "method"),
    [
        ("model_path='m', speculative_algorithm='EAGLE', speculative_draft_model_path='m'", "mtp"),
        ("model_path='m', speculative_algorithm='EAGLE', speculative_draft_model_path='d'", "eagle"),
        ("model_path='m', speculative_algorithm='STANDALONE', speculative_draft_model_path='d'", "draft_model"),
        ("model_path='m', speculative_algorithm='DFLASH', speculative_draft_model_path='d'", "dflash"),
        ("model_path='m', speculative_algorithm=None", None),
    ],
)
def test_the_method_has_draftsmiths_word(arguments: str, method: str | None) -> None:
    line = f"[2026-11-26 17:35:51] server_args=ServerArgs({arguments}, speculative_num_draft_tokens=4)"
    assert log.facts(line, "a").spec_method == method


def test_a_chosen_acceptance_is_a_variable_and_no_flag() -> None:
    """A plan measures what a step costs with drafts that are accepted at a chosen rate."""
    config = {**CHAIN, "rejection_sample_method": "synthetic", "synthetic_acceptance_length": 2.8}
    assert environment(config, {})["SGLANG_SIMULATE_ACC_LEN"] == "2.8"
    assert not [word for word in words(config) if "synthetic" in word or "rejection" in word]
    assert "SGLANG_SIMULATE_ACC_LEN" not in environment(CHAIN, {})


# -- as an engine -----------------------------------------------------------------------------------------------------


def test_it_is_chosen_by_a_setting() -> None:
    config = parse_config({"engine": {"kind": "sglang", "prefix_caching": False}})
    spec = server_spec(config, "/m", spec_config={"method": "ngram", "num_speculative_tokens": 3})
    assert spec.prefix_caching is False
    assert engine(config.engine.kind).title == "SGLang"


def test_an_arm_of_it_says_what_its_flags_say() -> None:
    said = ("sglang", "serve", "--model-path", "m", "--speculative-algorithm", "NGRAM")
    arm = Arm(name="a", role="other", command=said, engine="sglang")
    assert says_speculation(arm)
    assert not has_draft(arm)
    assert read_words(("--speculative-algorithm=EAGLE3",), "sglang") == Speculation(method="eagle3")


@pytest.mark.parametrize(
    ("version", "noted"),
    [("0.5.17", False), ("0.5.23", False), ("0.5.20", False), ("0.5.21", True), ("0.5.3rc0", True)],
)
def test_another_release_is_served_with_a_note(version: str, noted: bool) -> None:
    assert bool(features.features(version).note) is noted


@pytest.mark.parametrize("version", ["0.4.9", "unknown"])
def test_a_release_that_is_too_old_is_refused(version: str) -> None:
    with pytest.raises(PrerequisiteError):
        features.features(version)


CHAIN = {"method": "eagle3", "model": "/drafts/d1", "num_speculative_tokens": 3}
TREE = {**CHAIN, "num_steps": 3, "eagle_topk": 4, "num_speculative_tokens": 15}
LOOKUP = {"method": "ngram", "num_speculative_tokens": 7, "ngram_max_trie_depth": 12}
ADAPTIVE = {**CHAIN, "adaptive": True}
BLOCK = {"method": "dflash", "model": "/drafts/d2", "num_speculative_tokens": 7}
LOOSE = {**CHAIN, "accept_threshold_single": 0.9}
SERVED = {
    "module": (["python3", "-m", "sglang.launch_server"], ["--model-path", "/m", "--port", "9000", "--tp", "2"]),
    "console": (["sglang", "serve"], ["--model-path=/m", "--port=9000"]),
    "arguments alone": ([], ["python3", "-m", "sglang.launch_server", "--model-path", "/m", "--port", "9000"]),
    "a shell": (
        ["/bin/bash", "-c"],
        ["export A=1 && exec python3 -m sglang.launch_server --model-path /m --port 9000"],
    ),
    "a script": (
        ["sh", "-c"],
        ["python3 -m sglang.launch_server \\\n  --model-path /m \\\n  --cuda-graph-bs 1 2 4 --port 9000"],
    ),
}


@pytest.mark.parametrize(
    "config", [CHAIN, TREE, LOOKUP, ADAPTIVE, BLOCK, LOOSE], ids=lambda c: "-".join(map(str, c.values()))
)
@pytest.mark.parametrize("form", SERVED)
def test_the_command_of_a_deployment_is_read_and_rewritten(form: str, config: dict[str, Any]) -> None:
    command, args = SERVED[form]
    found = read_command(command, args, image="example/sglang:v0.5.17")
    assert (found.engine, found.model, found.port, found.spec_config) == ("sglang", "/m", 9000, None)
    given = found.with_spec(config)
    again = read_command(list(given.command), list(given.args), image="example/sglang:v0.5.17")
    assert again.spec_config == config
    off = again.with_spec(None)
    assert (list(off.command), list(off.args)) == (command, args)
    assert found.counted().values("--enable-metrics") == [None]
    assert found.counted().counted() == found.counted()


NOT_READ = {
    "a variable": ["--speculative-algorithm", "$(ALGORITHM)"],
    "no algorithm": ["--speculative-num-steps", "3"],
    "twice": ["--speculative-algorithm", "EAGLE", "--speculative-algo", "EAGLE3"],
    "a file": ["--config", "flags.yaml"],
    "no number": ["--speculative-algorithm", "NGRAM", "--speculative-num-draft-tokens", "many"],
}


@pytest.mark.parametrize("case", NOT_READ)
def test_a_command_that_cannot_be_known_is_refused(case: str) -> None:
    with pytest.raises(InputError, match="not understood"):
        _ = read_command(["sglang", "serve"], ["--model-path", "/m", *NOT_READ[case]], image="").spec_config


def test_servers_that_share_a_gpu_have_a_cache_of_their_own_size() -> None:
    """Its fraction is of what is free when it starts: three servers that start together would each find too little."""
    fixed = engine("sglang").kv_flags(2, 61_440)
    assert fixed == ("--max-total-tokens", "34952")
    assert engine("sglang").kv_flags(2, 0) == (), "the target does not say how large a token is"
    said = words(gpu_memory_share=0.293, flags=fixed)
    assert said[said.index("--mem-fraction-static") + 1] == "0.88"
    said = words(gpu_memory_share=0.293)
    assert said[said.index("--mem-fraction-static") + 1] == "0.293", "the fraction alone bounds the cache"


@pytest.mark.parametrize(
    ("name", "method", "warning"),
    [
        ("adaptive", "eagle3", "Disable prefill CUDA graph"),
        ("ngram-corpus", "ngram", "mixed chunked prefill are disabled"),
    ],
)
def test_facts_of_recorded_arms_without_a_fixed_draft(name: str, method: str, warning: str) -> None:
    text = (Path(__file__).parent / "logs" / f"sglang-{name}-0.5.17.log").read_text()
    facts = log.facts(text, "a", "0.5.17")
    assert (facts.spec_method, facts.num_speculative_tokens, facts.kv_tokens) == (method, 7, 93206)
    assert (facts.device, facts.dtype, facts.prefix_caching, facts.max_model_len) == ("cuda", "bfloat16", False, 2048)
    assert warning in facts.warnings[0]
    assert log.stage(text.splitlines()) == "ready"

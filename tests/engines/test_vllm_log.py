"""Facts come from the engine's own log, recorded from 0.32 (CPU) and written after 0.24's formats (CUDA)."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from draftsmith.engines.diagnosis import clean
from draftsmith.engines.differences import config_diff
from draftsmith.engines.vllm import log

Recorded = Callable[[str], str]
SETTINGS = {
    "data_parallel_size": "1",
    "decode_context_parallel_size": "1",
    "kv_cache_dtype": "auto",
    "pipeline_parallel_size": "1",
    "quantization": "None",
    "tensor_parallel_size": "1",
}


def test_facts_of_an_ngram_server_on_cpu(recorded: Recorded) -> None:
    facts = log.facts(recorded("logs/ngram-0.32.log"), "a")
    assert facts.model_dump(exclude={"warnings"}) == {
        "engine": "vllm",
        "version": "0.32.0",
        "start_id": "a",
        "pid": 5557,
        "device": "cpu",
        "dtype": "bfloat16",
        "enforce_eager": False,
        "compile_mode": "DYNAMO_TRACE_ONCE",
        "graph_mode": "NONE",
        "runner": "V1",
        "kv_tokens": 93184,
        "max_model_len": 2048,
        "max_num_seqs": 32,
        "prefix_caching": False,
        "chunked_prefill": True,
        "async_scheduling": False,
        "memory_share": None,
        "max_batched_tokens": None,
        "settings": SETTINGS,
        "spec_method": "ngram",
        "num_speculative_tokens": 3,
        "sharing": (),
    }
    assert any(line.startswith("Async scheduling not supported") for line in facts.warnings)
    assert len(facts.warnings) == len(set(facts.warnings)), "each warning once, whichever process said it"


def test_facts_of_an_eagle3_server_on_cuda(recorded: Recorded) -> None:
    facts = log.facts(recorded("logs/eagle3-0.24.log"), "b")
    assert (facts.version, facts.device, facts.compile_mode) == ("0.24.0", "cuda", "VLLM_COMPILE")
    assert facts.graph_mode == "PIECEWISE", "what the worker changed it to, not what was configured"
    assert facts.runner == "V1"
    assert (facts.kv_tokens, facts.max_num_seqs) == (127_568, 64)
    assert (facts.spec_method, facts.num_speculative_tokens) == ("eagle3", 3)
    assert [line.split(". ")[-1] for line in facts.sharing] == [
        "Sharing target model embedding weights with the draft model.",
        "Keeping separate lm_head weights from the target model.",
    ]
    assert "Truncating max_cudagraph_capture_size to 256" in facts.warnings


def test_settings_hold_what_is_set_and_neither_names_nor_paths_nor_keys(recorded: Recorded) -> None:
    told = log.facts(recorded("logs/capture-0.32.log"), "c").settings
    assert (told["max_num_batched_tokens"], told["enable_chunked_prefill"]) == ("4096", "False")
    assert told["kv_transfer_config"].startswith("sha256:")
    assert not {"host", "port", "model", "served_model_name", "speculative_config"} & told.keys()
    line = (
        "(APIServer pid=1) INFO 11-21 22:01:08 [api_utils.py:286] non-default args: {'api_key': ['sk-1'], 'hf_token': 'hf-2', "
        "'chat_template': '/home/maria/t.jinja', 'block_size': 32, 'tokenizer_mode': 'slow'}"
    )
    told = log.facts(line, "d").settings
    assert told.keys() == {"chat_template", "block_size", "tokenizer_mode"}
    assert (told["block_size"], told["tokenizer_mode"]) == ("32", "slow")
    assert not [word for word in ("sk-1", "hf-2", "maria") if word in str(told)]


def test_the_runner_is_v2_where_the_engine_says_so(recorded: Recorded) -> None:
    text = (
        recorded("logs/eagle3-0.24.log")
        + "(EngineCore pid=1) INFO 03-14 09:00:21 [gpu_worker.py:331] Using V2 Model Runner\n"
    )
    assert log.facts(text, "x").runner == "V2"


def test_an_empty_or_torn_log_gives_unknowns_not_defaults() -> None:
    facts = log.facts("(EngineCore pid=1) INFO 11-21 22:01:49 [core.py:133] Initializing a V1 LLM eng", "x")
    assert (facts.version, facts.graph_mode, facts.runner, facts.enforce_eager, facts.prefix_caching) == (None,) * 5


def test_two_starts_of_one_configuration_do_not_differ_but_a_lost_graph_does(recorded: Recorded) -> None:
    text = recorded("logs/eagle3-0.24.log")
    with_draft = log.facts(text, "a")
    assert config_diff(with_draft, log.facts(text, "b")) == {}
    plain = log.facts(
        "\n".join(
            line for line in text.split("\n") if "setting cudagraph_mode" not in line and "Truncating" not in line
        ),
        "c",
    )
    assert set(config_diff(with_draft, plain)) == {"graph_mode", "graph_warnings"}
    assert with_draft.mode_key != plain.mode_key


@pytest.mark.parametrize(
    ("shown_until", "expected"),
    [
        ("non-default args", "reading the configuration"),
        ("Starting to load model", "loading weights"),
        ("Compiling a graph", "compiling"),
        ("Capturing CUDA graphs", "capturing graphs"),
        ("Application startup complete", "ready"),
    ],
)
def test_the_stage_follows_the_log(recorded: Recorded, shown_until: str, expected: str) -> None:
    lines = clean(recorded("logs/eagle3-0.24.log"))
    last = next(i for i, line in enumerate(lines) if shown_until in line)
    assert log.stage(lines[: last + 1]) == expected


def test_stages_of_a_cpu_start_come_in_order(recorded: Recorded) -> None:
    lines = clean(recorded("logs/capture-0.32.log"))
    seen = list(dict.fromkeys(log.stage(lines[: i + 1]) for i in range(len(lines))))
    assert seen[0] == "reading the configuration"
    assert seen.index("loading weights") < seen.index("compiling") < seen.index("allocating the KV cache")
    assert seen[-1] == "ready"


def test_nested_values_and_quotes_survive_the_split() -> None:
    text = "a=1, b=F(x=[2, 3], y='p, q=r'), c={'k': <Mode.NONE: 0>, 'm': 2}, d='it\\'s'"
    assert log.top_level(text, "=") == {
        "a": "1",
        "b": "F(x=[2, 3], y='p, q=r')",
        "c": "{'k': <Mode.NONE: 0>, 'm': 2}",
        "d": "'it\\'s'",
    }


def test_limits_that_decide_speed_are_read() -> None:
    line = "INFO 11-21 22:01:27 [x.py:1] "
    text = line + "non-default args: {'gpu_memory_utilization': 0.44, 'max_num_seqs': 8}\n"
    text += line + "Chunked prefill is enabled with max_num_batched_tokens=2048.\n"
    facts = log.facts(text, "a")
    assert (facts.memory_share, facts.max_batched_tokens, facts.max_num_seqs) == (0.44, 2048, 8)

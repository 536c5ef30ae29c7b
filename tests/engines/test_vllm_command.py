"""The command line is text: what is rendered for which specification and which vLLM."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

from draftsmith.contract.errors import ConfigError, PrerequisiteError
from draftsmith.engines.base import CaptureSpec, Command, Installation, ServerSpec
from draftsmith.engines.vllm import command as vllm_command
from draftsmith.engines.vllm import own
from draftsmith.engines.vllm.features import features, installation

CPU = Installation(python="/engine/python", version="0.32.0", device="cpu")
GPU = Installation(python="/engine/python", version="0.24.0", device="cuda")
NGRAM = {"num_speculative_tokens": 3, "method": "ngram", "prompt_lookup_max": 4}


def spec(**changes: Any) -> ServerSpec:
    return ServerSpec(**{"model": "/models/target", "port": 8000, **changes})


def render(installed: Installation, **changes: Any) -> Command:
    known = features(installed.version, installed.device)
    return vllm_command.render(spec(**changes), installed, known, threads="0-1", pythonpath="/mine")


def test_a_speculating_server_on_cpu() -> None:
    command = render(CPU, spec_config=NGRAM, per_request_metrics=True, gpu_memory_share=0.4)
    assert " ".join(command.argv) == (
        "/engine/python -m vllm.entrypoints.openai.api_server --model /models/target --served-model-name target "
        "--host 127.0.0.1 --port 8000 --max-model-len 2048 --max-num-seqs 32 --no-enable-prefix-caching "
        '--speculative-config {"method":"ngram","num_speculative_tokens":3,"prompt_lookup_max":4} '
        "--per-request-spec-decode-metrics summary"
    )
    assert command.env == {
        "HF_HUB_OFFLINE": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "VLLM_NO_USAGE_STATS": "1",
        "DO_NOT_TRACK": "1",
        "VLLM_CPU_KVCACHE_SPACE": "2",
        "VLLM_USE_AOT_COMPILE": "0",
        "VLLM_CPU_OMP_THREADS_BIND": "0-1",
        "PYTHONPATH": f"{vllm_command.SOURCE_ROOT}:/mine",
    }


def test_a_server_on_a_gpu_with_an_older_release() -> None:
    command = render(
        GPU,
        spec_config={"method": "eagle3", "model": "/d", "num_speculative_tokens": 3},
        per_request_metrics=True,
        gpu_memory_share=0.45,
        prefix_caching=True,
        enforce_eager=True,
        middleware=("pkg.Capture",),
        flags=("--seed", "1"),
    )
    assert command.argv[13:] == (
        *("--max-num-seqs", "32", "--enable-prefix-caching", "--enforce-eager", "--gpu-memory-utilization", "0.45"),
        *("--speculative-config", '{"method":"eagle3","model":"/d","num_speculative_tokens":3}'),
        *("--middleware", "pkg.Capture", "--seed", "1"),
    ), "the per-request flag is left out where the release does not have it"
    assert command.env["VLLM_USE_FLASHINFER_SAMPLER"] == "0"
    assert not any(name.startswith("VLLM_CPU") for name in command.env)
    with_flashinfer = GPU.model_copy(update={"flashinfer": True})
    assert "VLLM_USE_FLASHINFER_SAMPLER" not in render(with_flashinfer).env


def test_per_request_metrics_are_never_asked_of_a_server_that_does_not_speculate() -> None:
    assert "--per-request-spec-decode-metrics" not in render(CPU, per_request_metrics=True).argv


def test_a_capture_server_names_the_connector_and_its_layers_once() -> None:
    argv = render(
        CPU, capture=CaptureSpec(layer_ids=(27, 2, 15, 2, 30), storage="/run/states"), max_model_len=8192
    ).argv
    given = dict(itertools.pairwise(argv))
    assert given["--max-num-batched-tokens"] == "8192", "a prompt must fit into one unchunked step"
    assert {"--no-enable-chunked-prefill", "--no-async-scheduling"} <= set(argv), (
        "states belong to the step that has them"
    )
    speculation = json.loads(given["--speculative-config"])
    assert speculation["method"] == "extract_hidden_states"
    layers = speculation["draft_model_config"]["hf_config"]["eagle_aux_hidden_state_layer_ids"]
    assert layers == [2, 15, 27, 30]
    transfer = json.loads(given["--kv-transfer-config"])
    assert transfer["kv_connector_extra_config"]["shared_storage_path"] == "/run/states"
    module = transfer["kv_connector_module_path"].split(".")
    source = Path(vllm_command.SOURCE_ROOT, *module).with_suffix(".py").read_text()
    assert f"class {transfer['kv_connector']}(" in source, "importable from what PYTHONPATH names"


def test_the_users_environment_wins_but_the_source_root_stays_importable() -> None:
    env = render(CPU, env={"VLLM_USE_AOT_COMPILE": "1", "PYTHONPATH": "/theirs"}).env
    assert env["VLLM_USE_AOT_COMPILE"] == "1"
    assert env["PYTHONPATH"] == f"{vllm_command.SOURCE_ROOT}:/theirs"


@pytest.mark.parametrize("flag", ["--port", "--port=9", "--speculative_config", "--max-model-len", "-sc", "-sc.method"])
def test_flags_that_the_specification_decides_are_refused(flag: str) -> None:
    with pytest.raises(ConfigError, match="decides itself"):
        render(CPU, flags=(flag,))


def test_contradictions_and_unknown_methods_are_refused_before_a_start() -> None:
    with pytest.raises(ConfigError, match="neither speculate"):
        render(CPU, capture=CaptureSpec(layer_ids=(1,), storage="/s"), spec_config=NGRAM)
    with pytest.raises(PrerequisiteError, match=r"'dspark' is not known to vLLM 0\.24"):
        render(GPU, spec_config={"method": "dspark"})
    with pytest.raises(PrerequisiteError, match="'ngram_gpu' is not known"):
        render(CPU, spec_config={"method": "ngram_gpu"})
    with pytest.raises(PrerequisiteError, match="arctic-inference"):
        render(CPU, spec_config={"method": "suffix"})


def test_old_names_of_mtp_count_and_a_method_may_be_left_to_the_engine() -> None:
    assert features("0.24.0").supports("deepseek_mtp")
    assert "--speculative-config" in render(CPU, spec_config={"model": "/d", "num_speculative_tokens": 2}).argv


def test_an_unknown_newer_release_is_taken_for_the_latest_known_and_says_so() -> None:
    newer = features("0.40.1.dev3")
    assert newer.release == "0.32"
    assert newer.note == "vLLM 0.40.1.dev3 is not known here; taken for 0.32"
    assert features("0.32.0").note is None
    assert features("0.27.1").release == "0.24"
    with pytest.raises(PrerequisiteError, match=r"older than 0\.24"):
        features("0.9.2")


def test_an_interpreter_without_vllm_or_none_at_all_is_a_missing_prerequisite(tmp_path: Path) -> None:
    with pytest.raises(PrerequisiteError, match="cannot be run"):
        installation(str(tmp_path / "python"))
    bare = tmp_path / "bare"
    bare.write_text('#!/bin/sh\necho \'{"torch": "2.13.0+cpu", "flashinfer": false}\'\n')
    bare.chmod(0o755)
    with pytest.raises(PrerequisiteError, match="no vLLM in"):
        installation(str(bare))


def test_cores_are_written_as_ranges() -> None:
    assert vllm_command.cores({0, 1, 2, 5, 7, 8}) == "0-2,5,7-8"
    assert vllm_command.cores({3}) == "3"


def test_a_part_of_a_gibibyte_is_rounded_up() -> None:
    assert render(CPU, cpu_kv_gib=1.5).env["VLLM_CPU_KVCACHE_SPACE"] == "2"
    assert render(CPU, cpu_kv_gib=0.25).env["VLLM_CPU_KVCACHE_SPACE"] == "1"


def test_vllm_serve_runs_as_a_module_where_its_console_command_does_not() -> None:
    found = Installation(python="python", version="0.32.0", device="cpu")
    spec = ServerSpec(model="arm", env={"VLLM_CPU_KVCACHE_SPACE": "7"})
    command = own.render(["vllm", "serve", "/models/m", "--x"], spec, found, "0", "")
    assert command.argv == ("python", "-m", "vllm.entrypoints.openai.api_server", "--model", "/models/m", "--x")
    assert command.env["VLLM_CPU_KVCACHE_SPACE"] == "7", "the command's own variables win"
    assert own.render(["vllm", "serve", "--model", "m"], spec, found, "0", "").argv[3:] == ("--model", "m")


def test_a_command_with_an_interpreter_of_its_own_is_left_as_it_is() -> None:
    words = ["/opt/other/bin/python", "-m", "vllm.entrypoints.openai.api_server", "--model", "m"]
    assert own.runs(words)
    command = own.render(words, ServerSpec(model="arm"), None, "0", "")
    assert list(command.argv) == words
    assert "PYTHONPATH" not in command.env
    assert not own.runs(["python", "-m", "sglang.launch_server"])


def test_the_served_regime_is_left_to_the_engine_or_said() -> None:
    plain = " ".join(render(GPU, prefix_caching=None).argv)
    assert "caching" not in plain
    assert "chunked" not in plain
    argv = render(GPU, prefix_caching=True, chunked_prefill=False, async_scheduling=False).argv
    assert {"--enable-prefix-caching", "--no-enable-chunked-prefill", "--no-async-scheduling"} <= set(argv)

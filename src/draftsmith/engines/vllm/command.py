"""Command line and environment of a vLLM server: text from pure functions."""

from __future__ import annotations

import json
import math
import os
import re
from pathlib import Path
from typing import Any

import draftsmith
from draftsmith.contract.errors import ConfigError, PrerequisiteError
from draftsmith.contract.speculation import CORPUS
from draftsmith.engines.base import Command, Features, Installation, ServerSpec

MODULE = "vllm.entrypoints.openai.api_server"  # the `vllm` console command fails with the CPU build
SOURCE_ROOT = str(Path(draftsmith.__file__).resolve().parent.parent)
CONNECTOR_MODULE = "draftsmith.work.inside.hidden_states"
CONNECTOR_CLASS = "HiddenStatesConnector"
CAPTURE_BATCHED_TOKENS = 4096
FOREIGN = frozenset({"adaptive", "adaptive_config", "eagle_topk", "num_steps"})  # another engine's keys

# Decided by ServerSpec's own fields: given twice, the server would not be what its specification says.
RESERVED = frozenset(
    {
        "--model",
        "--served-model-name",
        "--host",
        "--port",
        "--max-model-len",
        "--max-num-seqs",
        "--speculative-config",
        "-sc",
        "--spec-method",
        "--spec-model",
        "--spec-tokens",
        "--enforce-eager",
        "--no-enforce-eager",
        "--enable-prefix-caching",
        "--no-enable-prefix-caching",
        "--enable-chunked-prefill",
        "--no-enable-chunked-prefill",
        "--async-scheduling",
        "--no-async-scheduling",
        "--gpu-memory-utilization",
        "--per-request-spec-decode-metrics",
        "--middleware",
        "--kv-transfer-config",
    }
)

PRIVACY = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
}


def render(
    spec: ServerSpec, installed: Installation, known: Features, *, threads: str = "", pythonpath: str = ""
) -> Command:
    """The command for `spec`. `threads`: cores for the CPU build unless the specification names them; `pythonpath`:
    what the engine's PYTHONPATH should keep.

    Raises ConfigError for contradictions, PrerequisiteError for a method that is not supported.
    """
    check(spec, installed, known)
    argv = [
        installed.python,
        "-m",
        MODULE,
        "--model",
        spec.model,
        "--served-model-name",
        spec.served_name,
        "--host",
        spec.host,
        "--port",
        str(spec.port),
        "--max-model-len",
        str(spec.max_model_len),
        "--max-num-seqs",
        str(spec.max_num_seqs),
        *switch("prefix-caching", spec.prefix_caching),
    ]
    if spec.capture is None:
        argv += [*switch("chunked-prefill", spec.chunked_prefill), *_async(spec.async_scheduling)]
    if spec.enforce_eager:
        argv.append("--enforce-eager")
    if spec.gpu_memory_share is not None and installed.device == "cuda":
        argv += ["--gpu-memory-utilization", f"{spec.gpu_memory_share:g}"]
    if spec.tensor_parallel > 1 and installed.device == "cuda":
        argv += ["--tensor-parallel-size", str(spec.tensor_parallel)]
    if spec.spec_config is not None:
        argv += ["--speculative-config", compact(spec.spec_config)]
        if spec.per_request_metrics and known.per_request_metrics:
            argv += ["--per-request-spec-decode-metrics", "summary"]
    if spec.capture is not None:
        argv += capture_flags(spec)
    for name in spec.middleware:
        argv += ["--middleware", name]
    return Command(argv=(*argv, *spec.flags), env=environment(spec, installed, threads, pythonpath))


def switch(name: str, wanted: bool | None) -> list[str]:
    """The flag that switches a feature on or off; none to leave it as the engine has it."""
    return [] if wanted is None else [f"--enable-{name}" if wanted else f"--no-enable-{name}"]


def _async(wanted: bool | None) -> list[str]:
    return [] if wanted is None else ["--async-scheduling" if wanted else "--no-async-scheduling"]


def check(spec: ServerSpec, installed: Installation, known: Features) -> None:
    """Refuse what would contradict itself or what this release does not know."""
    twice = [flag for flag in spec.flags if re.split("[=.]", flag, maxsplit=1)[0].replace("_", "-") in RESERVED]
    if twice:
        raise ConfigError(
            f"engine flags that Draftsmith decides itself: {', '.join(twice)}",
            "remove them from engine.flags and use the setting of the same meaning",
        )
    if spec.capture is not None and (spec.spec_config is not None or spec.prefix_caching is not False):
        raise ConfigError(
            "a capture server can neither speculate nor cache prefixes", "start a server of its own for the capture"
        )
    foreign = FOREIGN & set(spec.spec_config or {})
    if foreign:
        raise ConfigError(f"vLLM's speculative config has no {', '.join(sorted(foreign))}", "leave it out")
    if CORPUS in (spec.spec_config or {}):
        raise ConfigError(f"vLLM takes no {CORPUS}", "suffix decoding drafts from what the server itself has answered")
    method = (spec.spec_config or {}).get("method")
    if method is None:
        return
    if not known.supports(method):
        raise PrerequisiteError(
            f"speculation method {method!r} is not known to vLLM {installed.version} on {installed.device}",
            f"use one of {', '.join(sorted(known.methods))}",
        )
    if method == "suffix" and not installed.suffix:
        raise PrerequisiteError(
            "suffix decoding needs the package arctic-inference", f"install it for {installed.python}, or drop the arm"
        )


def capture_flags(spec: ServerSpec) -> list[str]:
    """Flags of a server that saves hidden states.

    Chunked prefill is off: states of a prompt arrive in one piece. So is asynchronous scheduling: with it the states of
    answers that the server itself gives are those of other steps, on a GPU with 0.26 in six requests of twelve.
    """
    if spec.capture is None:
        return []
    layers = {"eagle_aux_hidden_state_layer_ids": sorted(set(spec.capture.layer_ids))}
    speculation = {
        "method": "extract_hidden_states",
        "num_speculative_tokens": 1,
        "draft_model_config": {"hf_config": layers},
    }
    transfer = {
        "kv_connector": CONNECTOR_CLASS,
        "kv_connector_module_path": CONNECTOR_MODULE,
        "kv_role": "kv_producer",
        "kv_connector_extra_config": {
            "shared_storage_path": spec.capture.storage,
            "use_synchronization_lock": False,
        },
    }
    return [
        "--no-enable-chunked-prefill",
        "--no-async-scheduling",
        "--max-num-batched-tokens",
        str(max(CAPTURE_BATCHED_TOKENS, spec.max_model_len)),
        "--speculative-config",
        compact(speculation),
        "--kv-transfer-config",
        compact(transfer),
    ]


def environment(spec: ServerSpec, installed: Installation, threads: str, pythonpath: str) -> dict[str, str]:
    """What is added to the environment. The specification's own `env` wins, but PYTHONPATH is only extended."""
    env = dict(PRIVACY)
    if installed.device == "cpu":
        env["VLLM_CPU_KVCACHE_SPACE"] = str(whole_gib(spec.cpu_kv_gib))
        env["VLLM_USE_AOT_COMPILE"] = "0"  # with it on, the CPU build's cached artifact fails to load: compiled anew
        if bind := spec.cpu_threads or threads:
            env["VLLM_CPU_OMP_THREADS_BIND"] = bind
    elif not installed.flashinfer:
        env["VLLM_USE_FLASHINFER_SAMPLER"] = "0"
    env.update(spec.env)
    # The capture connector is loaded by the engine, whose interpreter need not have Draftsmith installed.
    paths = [SOURCE_ROOT, *spec.env.get("PYTHONPATH", pythonpath).split(os.pathsep)]
    env["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(path for path in paths if path))
    return env


def whole_gib(size: float) -> int:
    """`size` GiB rounded up: the engine reads the setting as an integer and fails on anything else."""
    return max(1, math.ceil(size))


def cores(numbers: set[int]) -> str:
    """CPU numbers as ranges: {0, 1, 2, 5} -> `0-2,5`."""
    ranges: list[list[int]] = []
    for number in sorted(numbers):
        if ranges and number == ranges[-1][1] + 1:
            ranges[-1][1] = number
        else:
            ranges.append([number, number])
    return ",".join(f"{a}-{b}" if b > a else str(a) for a, b in ranges)


def compact(value: Any) -> str:
    """JSON without spaces, keys in order, so that equal configurations are equal text."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)

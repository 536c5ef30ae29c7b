"""What SGLang's own log says: facts for the record, and the stage of a start. Format of 0.5.17.

A field that the log does not show is None. Nothing is assumed from the command line. The version is not in the log.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping
from typing import Any

from draftsmith.contract.measure import EngineFacts
from draftsmith.engines.diagnosis import clean
from draftsmith.engines.printed import SECRET, top_level, word
from draftsmith.engines.tracebacks import read_line

ARGUMENTS = re.compile(r"server_args=ServerArgs\((?P<arguments>.*)\)\s*$")
SIZES = re.compile(
    r"max_total_num_tokens=(?P<tokens>\d+).*?max_running_requests=(?P<sequences>\d+), context_len=(?P<length>\d+)"
)
KV_DTYPE = re.compile(r"KV Cache is allocated\. dtype: torch\.(\w+)")
SERVER_PID = re.compile(r"Started server process \[(\d+)\]")

# Of the settings that it prints, defaults included: those that change times.
SETTINGS = (
    "attention_backend",
    "chunked_prefill_size",
    "disable_overlap_schedule",
    "dp_size",
    "enable_dp_attention",
    "enable_mixed_chunk",
    "ep_size",
    "kv_cache_dtype",
    "max_prefill_tokens",
    "moe_runner_backend",
    "num_continuous_decode_steps",
    "page_size",
    "pp_size",
    "quantization",
    "sampling_backend",
    "schedule_conservativeness",
    "schedule_policy",
    "tp_size",
)
# Lines that tell of a feature that was switched off or changed; SGLang gives its lines no level.
TELLING = re.compile(
    r"(?i)\b(?:disable[sd]?|disabling|adjusted|reset|forced|fall(?:s|ing)? back|not support\w*|ignored)\b"
)
ABOUT = re.compile(
    r"(?i)cuda graph|speculative|overlap|radix|draft|max_running_requests|chunked prefill|attention backend"
)
LOSSY = ("speculative_accept_threshold_single", "speculative_accept_threshold_acc")

STAGES: tuple[tuple[str, str], ...] = (
    ("server_args=ServerArgs(", "reading the configuration"),
    ("Init torch distributed begin", "starting the engine process"),
    ("Load weight begin", "loading weights"),
    ("Load weight end", "weights loaded"),
    ("KV Cache is allocated", "allocating the KV cache"),
    ("CUDA graph begin", "capturing graphs"),
    ("CUDA graph end", "graphs captured"),
    ("max_total_num_tokens=", "engine ready, starting the API"),
    ("Uvicorn running on", "opening the port"),
    ("The server is fired up", "ready"),
)


def stage(lines: Iterable[str]) -> str:
    """The latest stage that the lines speak of."""
    reached = "starting Python"
    for line in lines:
        for mark, phrase in STAGES:
            if mark in line:
                reached = phrase
    return reached


def facts(text: str, start_id: str, version: str | None = None) -> EngineFacts:
    """Read the log of one server start. `version`: as the server itself said it, elsewhere."""
    lines = [read_line(line).text.strip() for line in clean(text)]
    printed = next((match["arguments"] for line in lines if (match := ARGUMENTS.search(line))), "")
    named = {key: value.strip("'\"") for key, value in top_level(printed, "=").items()}
    sizes = next((match for line in lines if (match := SIZES.search(line))), None)
    return described(
        named,
        version=version,
        start_id=start_id,
        pid=next((int(match[1]) for line in lines if (match := SERVER_PID.search(line))), None),
        dtype=_dtype(named.get("dtype"), lines),
        kv_tokens=int(sizes["tokens"]) if sizes else None,
        max_model_len=int(sizes["length"]) if sizes else None,
        max_num_seqs=int(sizes["sequences"]) if sizes else None,
        warnings=_warnings(lines, named),
    )


def facts_of_info(info: Mapping[str, Any], start_id: str, *, kv_tokens: int | None, length: int | None) -> EngineFacts:
    """The same of a server whose log is not here, from its answer to /server_info and the sizes among its metrics."""
    named = {key: str(value) for key, value in info.items() if not isinstance(value, dict | list)}
    graphs = info.get("cuda_graph_config")
    if isinstance(graphs, dict):
        phases = {phase: graph.get("backend") for phase, graph in graphs.items() if isinstance(graph, dict)}
        named["cuda_graph_config"] = ", ".join(f"{k}=PhaseConfig(backend='{v}'" for k, v in phases.items())
    return described(
        named,
        version=named.get("version"),
        start_id=start_id,
        pid=None,
        dtype=None if named.get("dtype") == "auto" else named.get("dtype"),
        kv_tokens=kv_tokens or _number(named.get("max_total_num_tokens")),
        max_model_len=length or _number(named.get("context_length")),
        max_num_seqs=_number(named.get("max_running_requests")),
        warnings=_warnings([], named),
    )


def described(named: Mapping[str, str], **seen: Any) -> EngineFacts:
    """Facts from the server's arguments as text, and what was `seen` elsewhere."""
    no_graph, no_radix, no_overlap = (
        _flag(named.get(f"disable_{feature}")) for feature in ("cuda_graph", "radix_cache", "overlap_schedule")
    )
    tokens, chunk = _number(named.get("speculative_num_draft_tokens")), _number(named.get("chunked_prefill_size"))
    method = _method(named)
    return EngineFacts(
        engine="sglang",
        device=named.get("device"),
        enforce_eager=no_graph,
        compile_mode=_compiled(named.get("enable_torch_compile")),
        graph_mode=_graphs(named.get("cuda_graph_config", ""), no_graph),
        prefix_caching=None if no_radix is None else not no_radix,
        chunked_prefill=None if chunk is None else chunk > 0,
        async_scheduling=None if no_overlap is None else not no_overlap,
        settings={key: word(named[key]) for key in SETTINGS if key in named and not SECRET.search(key)},
        spec_method=method,
        num_speculative_tokens=tokens - 1 if tokens and method else None,
        **seen,
    )


def _method(named: Mapping[str, str]) -> str | None:
    """The method in Draftsmith's words. SGLang turns NEXTN into EAGLE with the target itself as the draft."""
    algorithm = named.get("speculative_algorithm")
    if algorithm in (None, "None"):
        return None
    name = str(algorithm).lower()
    draft = named.get("speculative_draft_model_path")
    if name == "eagle" and draft in (None, "None", named.get("model_path")):
        return "mtp"
    return {"standalone": "draft_model", "nextn": "mtp"}.get(name, name)


def _warnings(lines: list[str], named: dict[str, str]) -> tuple[str, ...]:
    kept = [
        line for line in lines if TELLING.search(line) and ABOUT.search(line) and not line.startswith("server_args=")
    ]
    kept += [
        f"{name} is {named[name]}: drafts are accepted that the target would not"
        for name in LOSSY
        if _lossy(named, name)
    ]
    return tuple(dict.fromkeys(kept))


def _lossy(named: dict[str, str], name: str) -> bool:
    try:
        return float(named.get(name, "1")) < 1
    except ValueError:
        return False


def _dtype(text: str | None, lines: list[str]) -> str | None:
    """`auto` says nothing: then what the KV cache was allocated with."""
    if text not in (None, "auto"):
        return text
    return next((match[1] for line in lines if (match := KV_DTYPE.search(line))), None)


def _compiled(text: str | None) -> str | None:
    flag = _flag(text)
    return None if flag is None else "torch.compile" if flag else "none"


def _graphs(config: str, disabled: bool | None) -> str | None:
    """Backend of the CUDA graphs by phase: `decode=full, prefill=disabled`."""
    phases = re.findall(r"(\w+)=PhaseConfig\(backend='?(\w+)", config)
    if disabled:
        return "none"
    return ", ".join(f"{phase}={backend}" for phase, backend in sorted(phases)) or None


def _flag(text: str | None) -> bool | None:
    return ast.literal_eval(text) if text in {"True", "False"} else None


def _number(text: str | None) -> int | None:
    return int(text) if text and re.fullmatch(r"-?\d+", text) else None

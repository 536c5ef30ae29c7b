"""What vLLM's own log says: facts for the record, and the stage of a start. Formats of 0.24 and 0.32.

A field that the log does not show is None. Nothing is assumed from the command line.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable

from draftsmith.contract.measure import EngineFacts
from draftsmith.engines.diagnosis import clean
from draftsmith.engines.printed import SECRET, top_level, word

PREFIX = re.compile(
    r"^(\([\w -]+pid=\d+\)\s+)?(?P<level>DEBUG|INFO|WARNING|ERROR|CRITICAL) \d\d-\d\d [\d:]+ \[[^\]]*\]\s?"
)

CONFIG_LINE = re.compile(r"Initializing a V1 LLM engine \(v(?P<version>[^)]+)\) with config: (?P<config>.*)")
ARGUMENTS_LINE = re.compile(r"non-default args: (?P<arguments>\{.*\})")
KV_TOKENS = re.compile(r"KV cache size: ([\d,]+) tokens")
GRAPH_CHANGE = re.compile(r"[Ss]etting cudagraph_mode(?:=| to )([A-Z_]+)(?= because|$|\.|;)")
BATCHED = re.compile(r"max_num_batched_tokens[= ]+(\d+)")
SERVER_PID = re.compile(r"Started server process \[(\d+)\]")
SHARING = re.compile(
    r"(?:Sharing|Shared) target model|Keeping separate (?:embedding|lm_head)|embedding will be loaded separately"
)
ASYNC = re.compile(r"[Aa]sync(?:hronous)? scheduling is (enabled|disabled)")
ASYNC_OFF = "Async scheduling not supported"
RUNNER_V2 = "Using V2 Model Runner"
RUNNER_V1 = "using the V1 model runner instead"
INITIALISED = "init engine (profile"

# Of the configuration the engine prints, defaults included: what the mode does not hold and times depend on.
CONFIGURED = (
    "quantization",
    "kv_cache_dtype",
    "tensor_parallel_size",
    "pipeline_parallel_size",
    "data_parallel_size",
    "decode_context_parallel_size",
)
# Arguments in which compared servers differ on purpose, or which are facts of their own.
OWN = frozenset(
    {
        "host",
        "port",
        "uds",
        "model",
        "model_tag",
        "served_model_name",
        "speculative_config",
        "spec_method",
        "spec_model",
        "spec_tokens",
        "per_request_spec_decode_metrics",
        "max_model_len",
        "max_num_seqs",
        "enable_prefix_caching",
        "enforce_eager",
        "dtype",
        "gpu_memory_utilization",
        "kv_cache_memory_bytes",
        "middleware",
        "worker_extension_cls",
        "disable_log_stats",
        "enable_log_requests",
        "uvicorn_log_level",
    }
)

# A warning is kept if it can change speed or acceptance; machine-specific chatter would make equal servers differ.
TELLING = (
    "cudagraph",
    "CUDA graph",
    "speculative",
    "Speculative",
    "spec decode",
    "Async scheduling",
    "chunked prefill",
    "eager",
    "Inductor compilation was disabled",
    "model runner",
    "max_num_batched_tokens",
    "prefix caching",
    "min_p",
    "KV cache",
    "OpenMP",
    "tcmalloc",
    "rope",
    "draft",
)

STAGES: tuple[tuple[str, str], ...] = (
    ("non-default args", "reading the configuration"),
    ("Initializing a V1 LLM engine", "starting the engine process"),
    ("Starting to load model", "loading weights"),
    ("Loading drafter model", "loading the draft"),
    ("Loading weights took", "weights loaded"),
    ("Warming up model for the compilation", "compiling"),
    ("Dynamo bytecode transform", "compiling"),
    ("Compiling a graph", "compiling"),
    ("Warming up done", "allocating the KV cache"),
    ("Available KV cache memory", "allocating the KV cache"),
    ("Capturing CUDA graph", "capturing graphs"),
    ("Capturing model for", "capturing graphs of the draft"),
    ("Graph capturing finished", "graphs captured"),
    ("init engine (profile", "engine ready, starting the API"),
    ("Starting vLLM server on", "opening the port"),
    ("Application startup complete", "ready"),
)


def message(line: str) -> str:
    """A log line without process, level, time and place."""
    return PREFIX.sub("", line).strip()


def stage(lines: Iterable[str]) -> str:
    """The latest stage that the lines speak of."""
    reached = "starting Python"
    for line in lines:
        for mark, phrase in STAGES:
            if mark in line:
                reached = phrase
    return reached


def facts(text: str, start_id: str) -> EngineFacts:
    """Read the log of one server start."""
    lines = clean(text)
    config, version = "", None
    arguments: dict[str, str] = {}
    for line in lines:
        if match := ARGUMENTS_LINE.search(line):
            arguments = top_level(match["arguments"][1:-1], ": ")
        if match := CONFIG_LINE.search(line):
            config, version = match["config"], match["version"]
    named = top_level(config, "=")
    compilation = named.get("compilation_config", "")
    speculative = named.get("speculative_config", "")
    sequences = arguments.get("'max_num_seqs'")
    return EngineFacts(
        version=version,
        start_id=start_id,
        pid=_first(SERVER_PID, lines, int),
        device=named.get("device_config"),
        dtype=_strip(named.get("dtype"), "torch."),
        enforce_eager=_flag(named.get("enforce_eager")),
        compile_mode=_enum(compilation, "mode"),
        graph_mode=_graph_mode(lines, compilation),
        runner=_runner(lines),
        kv_tokens=_first(KV_TOKENS, lines, lambda digits: int(digits.replace(",", ""))),
        max_model_len=_number(named.get("max_seq_len")),
        max_num_seqs=_number(sequences),
        prefix_caching=_flag(named.get("enable_prefix_caching")),
        chunked_prefill=_flag(named.get("enable_chunked_prefill")),
        async_scheduling=_async(lines),
        memory_share=_share(arguments.get("'gpu_memory_utilization'")),
        max_batched_tokens=_number(arguments.get("'max_num_batched_tokens'")) or _batched(lines),
        settings=_settings(named, arguments),
        spec_method=_search(r"method='([^']+)'", speculative),
        num_speculative_tokens=_number(_search(r"num_spec_tokens=(\d+)", speculative)),
        sharing=_unique(message(line) for line in lines if SHARING.search(line)),
        warnings=_unique(message(line) for line in lines if _telling(line)),
    )


def _settings(named: dict[str, str], arguments: dict[str, str]) -> dict[str, str]:
    """What else was set, by the engine's own word, as far as two servers have to agree in it."""
    settings = {name: named[name] for name in CONFIGURED if name in named}
    settings |= {key.strip("'\""): value for key, value in arguments.items()}
    return {key: word(value) for key, value in sorted(settings.items()) if key not in OWN and not SECRET.search(key)}


def _graph_mode(lines: list[str], compilation: str) -> str | None:
    """The configured graph mode, unless the worker changed it afterwards."""
    mode = _enum(compilation, "cudagraph_mode")
    after = False
    for line in lines:
        after = after or CONFIG_LINE.search(line) is not None
        if after and (change := GRAPH_CHANGE.search(line)):
            mode = change[1]
    return mode


def _async(lines: list[str]) -> bool | None:
    """Whether steps are scheduled ahead; a method that cannot says so in a warning."""
    if any(ASYNC_OFF in line for line in lines):
        return False
    result = next((match for line in lines if (match := ASYNC.search(line))), None)
    return result[1] == "enabled" if result else None


def _share(value: str | None) -> float | None:
    try:
        return float(value) if value is not None else None
    except ValueError:
        return None


def _batched(lines: list[str]) -> int | None:
    """The engine's own limit of tokens a step, which it prints with chunked prefill."""
    return _first(BATCHED, lines, int)


def _runner(lines: list[str]) -> str | None:
    """V2 announces itself on every platform; V1 does so only where V2 had been wanted."""
    if any(RUNNER_V2 in line for line in lines):
        return "V2"
    return "V1" if any(RUNNER_V1 in line or INITIALISED in line for line in lines) else None


def _telling(line: str) -> bool:
    match = PREFIX.match(line)
    return match is not None and match["level"] == "WARNING" and any(word in line for word in TELLING)


def _enum(text: str, name: str) -> str | None:
    return _search(rf"'{name}': <\w+\.(\w+):", text)


def _search(pattern: str, text: str) -> str | None:
    match = re.search(pattern, text)
    return match[1] if match else None


def _first(pattern: re.Pattern[str], lines: Iterable[str], convert: Callable[[str], int]) -> int | None:
    for line in lines:
        if match := pattern.search(line):
            return convert(match[1])
    return None


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdigit() else None


def _flag(text: str | None) -> bool | None:
    return ast.literal_eval(text) if text in {"True", "False"} else None


def _strip(text: str | None, prefix: str) -> str | None:
    return text.removeprefix(prefix) if text else None


def _unique(items: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(items))

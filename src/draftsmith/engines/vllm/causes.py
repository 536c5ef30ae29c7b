"""Why a vLLM server did not start or went away: its log and exit code turned into one sentence and a next step."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass

from draftsmith.engines.vllm.log import PREFIX, clean, message

TAIL_LINES = 30
TAIL_WIDTH = 400

# Lines that may carry what a user wrote (--enable-log-requests, DEBUG): never shown.
PRIVATE = re.compile(
    r"Received request|Generated response|prompts?[\'\"]?[=:]|prompt_token_ids|messages[\'\"]?[=:]", re.IGNORECASE
)

HARMLESS = re.compile(r"^(?:\([\w -]+pid=\d+\)\s+)?(?:DEBUG|INFO|WARNING)\b")
NOISE = re.compile(r"it/s\]|s/it\]|nanobind|leaked|resource_tracker|^usage:|^\s+\[-")


@dataclass(frozen=True)
class Diagnosis:
    """`recognised` False: no known pattern matched, the cause is only the last error line."""

    cause: str
    next_step: str
    recognised: bool = True


# (pattern, cause, next step), the most specific first. `{1}` stands for the pattern's first group.
CAUSES: tuple[tuple[str, str, str], ...] = (
    (
        r"torchvision::nms does not exist|operator torchvision",
        "torchvision does not fit the installed torch and breaks every model load",
        "uninstall torchvision, torchaudio and torchcodec from the engine's environment",
    ),
    (
        r"unrecognized arguments: ([^\n]+)",
        "vLLM does not know the flag {1}",
        "remove it from engine.flags, or install a vLLM that has it",
    ),
    (
        r"error: argument ([\w/ -]+): ([^\n]+)",
        "vLLM refuses the flag {1}: {2}",
        "correct its value in engine.flags",
    ),
    (
        r"address already in use|Errno 98",
        "the port is taken by another process",
        "leave the port out to have a free one chosen, or stop what listens there",
    ),
    (
        r"No space left on device|Disk quota exceeded",
        "the disk is full",
        "free space: for hidden states in the workspace, for compiled code in VLLM_CACHE_ROOT, and in the temporary folder",
    ),
    (
        r"per-request-spec-decode-metrics requires speculative decoding",
        "per-request metrics were asked of a server that does not speculate",
        "remove --per-request-spec-decode-metrics from engine.flags",
    ),
    (
        r"Value error, (Number of speculative tokens[^\n\[]*|num_speculative_tokens[^\n\[]*)",
        "the speculative config is not valid: {1}",
        "correct the speculative config",
    ),
    (
        r"same vocabulary size|[Dd]raft[^\n]*vocab[^\n]*(?:mismatch|does not match|differ)",
        "the draft cannot be loaded: its vocabulary does not fit the target's",
        "train the draft for this target, or check its vocabulary map",
    ),
    (
        r"Invalid repository ID or local directory|Repo id must be in the form|OfflineModeIsEnabled|"
        r"couldn't connect to|LocalEntryNotFoundError|is not a local folder",
        "the model or draft folder does not exist (nothing is downloaded: the engine runs offline)",
        "check the path of the target and of the draft",
    ),
    (
        r"Cannot find any model weights|no safetensors|Cannot find the config file|does not appear to have a file named",
        "the model or draft folder lacks files",
        "check that the folder holds config.json, the tokenizer and *.safetensors",
    ),
    (
        r"validation errors? for SpeculativeConfig\n([\w.]*)\n?\s*([^\n\[]{0,160})",
        "the speculative config is not valid: {1} {2}",
        "correct the speculative config of this arm",
    ),
    (
        r"[Mm]odel architectures \[([^\]]*)\] are not supported",
        "this vLLM does not support the architecture {1}",
        "check `architectures` in the model's config.json, or install a vLLM that supports it",
    ),
    (
        r"Transformers does not recognize this architecture|model type `([^`]*)`",
        "the model type {1} is not known to the engine's transformers",
        "check `model_type` in config.json, or install a newer transformers in the engine's environment",
    ),
    (
        r"SafetensorError|HeaderTooLarge|InvalidHeader|MetadataIncompleteBuffer",
        "a weight file is damaged",
        "copy or export the checkpoint again and compare its hashes",
    ),
    (
        r"CUDA out of memory|torch\.(?:cuda\.)?OutOfMemoryError",
        "the GPU ran out of memory",
        "lower engine.gpu_memory_share, engine.max_model_len or engine.max_num_seqs, or stop what else uses the GPU",
    ),
    (
        r"Free memory on device[^\n]*less than desired",
        "the GPU has less free memory than the share asked for",
        "lower engine.gpu_memory_share, or stop what else uses the GPU",
    ),
    (
        r"less than requested memory for kv|No available memory for the cache blocks|larger than the available KV cache|"
        r"estimated maximum model length|exceeds available memory|invalid KV cache",
        "there is too little memory for the KV cache at this context length",
        "give more (engine.cpu_kv_gib or engine.gpu_memory_share), or lower engine.max_model_len",
    ),
    (
        r"can't allocate memory|DefaultCPUAllocator|std::bad_alloc|MemoryError|Cannot allocate memory",
        "the machine ran out of memory",
        "lower engine.cpu_kv_gib, or stop other programs",
    ),
    (
        r"size mismatch|Attempted to load weight \(|shape mismatch|"
        r"AssertionError: [^\n]*loaded_weight|The size of tensor a|loaded_weight\.shape",
        "weights do not fit the model they are loaded into (shape mismatch)",
        "check that the checkpoint matches its config.json, and that the draft was made for this target",
    ),
    (
        r"(?:KeyError:|no module or parameter named) ?'?(\w+\.[\w.]+)",
        "the checkpoint holds a weight that the model does not have: {1}",
        "check that the checkpoint matches its config.json, and that the draft's method is right",
    ),
    (
        r"No module named '?([\w.]+)",
        "the engine's environment lacks the module {1}",
        "install it for engine.python",
    ),
    (
        r"Failed to infer device type|libcuda\.so|no NVIDIA driver|NVIDIA driver on your system is too old|No CUDA GPUs are available",
        "the engine finds no device that its build supports",
        "check the driver with nvidia-smi, or use the CPU build",
    ),
)

KILLED = Diagnosis(
    "the engine's process was killed (signal 9), which the kernel does when memory runs out",
    "lower engine.cpu_kv_gib, engine.max_num_seqs or the number of servers kept up, or add memory",
)
WORKER_DIED = re.compile(
    r"Worker proc [\w-]+ died unexpectedly|WorkerProc (?:initialization )?failed|EngineDeadError|Failed core proc\(s\): \{[^}]"
)
CODE_OF_KILL = (-signal.SIGKILL, 128 + signal.SIGKILL)
KILLED_CHILD = re.compile(r"Failed core proc\(s\): \{[^}]*(?:-9|137)|exit ?code[:=]? ?(?:-9|137)")


def diagnose(text: str, exit_code: int | None) -> Diagnosis:
    """Name the cause from a server's log and its exit code (None = still running).

    Only errors and lines without a level (tracebacks) are looked at: warnings speak of things that went on working.
    """
    lines = [message(line) for line in clean(text) if not HARMLESS.match(line)]
    plain = "\n".join(line for line in lines if not line.startswith("usage:"))
    for pattern, cause, step in CAUSES:
        if found := re.search(pattern, plain):
            return Diagnosis(_fill(cause, found), step)
    if exit_code in CODE_OF_KILL or KILLED_CHILD.search(plain):
        return KILLED
    if exit_code == 127 and "cannot run" in plain:
        return Diagnosis("the engine's interpreter cannot be run", "set engine.python to a working Python with vLLM")
    if WORKER_DIED.search(plain):
        return Diagnosis(
            "a worker process of the engine died without a word",
            "look for the out-of-memory killer in the kernel's log",
        )
    if exit_code is not None and exit_code < 0:
        name = signal.Signals(-exit_code).name if -exit_code in set(signal.Signals) else str(-exit_code)
        return Diagnosis(f"the engine's process was ended by {name}", "find out who sent the signal, and start again")
    last = _last_error(lines)
    described = f"with code {exit_code}" if exit_code is not None else "(it still runs)"
    return Diagnosis(
        f"the engine failed {described}: {last}" if last else f"the engine stopped {described} and gave no reason",
        "read the end of its log",
        recognised=False,
    )


def tail(text: str, lines: int = TAIL_LINES) -> str:
    """The last lines without stack frames, progress bars and anything that may be a prompt.

    The frames of three processes would push the root cause out of any short tail.
    """
    kept = [line for line in clean(text) if not PRIVATE.search(line) and not NOISE.search(line) and not _frame(line)]
    return "\n".join(line[:TAIL_WIDTH] for line in kept[-lines:])


def _fill(template: str, found: re.Match[str]) -> str:
    for number, group in enumerate(found.groups(), start=1):
        template = template.replace(f"{{{number}}}", (group or "").strip().rstrip("."))
    return " ".join(re.sub(r"\{\d\}", "", template).split())


def _frame(line: str) -> bool:
    text = PREFIX.sub("", line)
    return text.startswith(("  File ", "    "))


def _last_error(lines: list[str]) -> str | None:
    for line in reversed(lines):
        if re.match(r"[\w.]*(?:Error|Exception)\b", line) and not PRIVATE.search(line):
            return line[:TAIL_WIDTH]
    return None

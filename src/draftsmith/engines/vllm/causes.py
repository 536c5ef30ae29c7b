"""Why a vLLM server did not start or went away: its log and exit code turned into one sentence and a next step."""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass

from draftsmith.engines import tracebacks
from draftsmith.engines.vllm.log import clean

TAIL_LINES = 30
TAIL_WIDTH = 400

# Lines that may carry what a user wrote (--enable-log-requests, DEBUG): never shown.
PRIVATE = re.compile(
    r"Received request|Generated response|prompts?[\'\"]?[=:]|prompt_token_ids|messages[\'\"]?[=:]", re.IGNORECASE
)

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
        r"an illegal memory access was encountered|CUDA error: misaligned address|CUDA error: unspecified launch failure",
        "a kernel on the GPU read or wrote memory that is not its own (illegal memory access)",
        "this is a fault of the engine or a wrong draft: lint the draft, start with CUDA_LAUNCH_BLOCKING=1 to see the place",
    ),
    (
        r"device-side assert triggered",
        "a kernel on the GPU stopped at an assertion, often a token id outside the vocabulary",
        "lint the draft (its vocabulary map), and start with CUDA_LAUNCH_BLOCKING=1 to see the place",
    ),
    (
        r"no kernel image is available for execution",
        "the engine was not built for this GPU",
        "install a build of vLLM for this GPU's compute capability",
    ),
    (
        r"must have the same dtype|expected (?:scalar type|mat1 and mat2)[^\n]*(?:but (?:found|got)|same dtype)|[Kk][Vv] cache d?type[^\n]*(?:mismatch|not supported)",
        "tensors of different data types met, for example in the KV cache of draft and target",
        "give the draft the target's dtype, and leave --kv-cache-dtype out or check that the draft supports it",
    ),
    (
        r"does not support (?:the )?EAGLE-?3 interface|[Mm]odel does not support EAGLE-?3",
        "this model hands out no hidden states for EAGLE3 in this vLLM",
        "use a method without hidden states (ngram, suffix, a draft model), or a vLLM that supports the model",
    ),
    (
        r"Unsupported model_type ([\w.-]+) for [Ee]agle-?3|(?:EAGLE-?3|[Ee]agle-?3) is (?:only|not) supported (?:for|by) ([^\n]{0,80})",
        "this vLLM serves no EAGLE3 draft for the model type {1} {2}",
        "use a method without hidden states (ngram, suffix, a draft model), or a vLLM that supports the model",
    ),
    (
        r"[Ww]orld size \(?(\d+)\)? is larger than the number of available GPUs \((\d+)\)|(?:CUDA error: )?invalid device ordinal",
        "the server wants more GPUs than there are {1} {2}",
        "lower --tensor-parallel-size, or use a machine with more GPUs",
    ),
    (
        r"(?:must be divisible by|is not divisible by) (?:tensor parallel|the tensor)[^\n]*|attention heads \(?\d*\)? must be divisible[^\n]*",
        "the number of attention heads does not divide by the tensor-parallel size",
        "choose another --tensor-parallel-size; a draft may need draft_tensor_parallel_size = 1",
    ),
    (
        r"User-specified max_model_len \((\d+)\) is greater than the derived max_model_len",
        "the context length {1} is longer than the model's own",
        "lower engine.max_model_len to the model's max_position_embeddings",
    ),
    (
        r"trust_remote_code=True",
        "the model comes with code of its own, which the engine runs only if it is told to",
        "use a checkpoint whose architecture the engine has; add --trust-remote-code only for code that you have read",
    ),
    (
        r"GatedRepoError|401 Client Error|Access to model [^\n]* is restricted",
        "the model is not freely available and no copy of it is here",
        "download it by hand with its licence accepted, and give the folder",
    ),
    (
        r"NCCL error[^\n]*|ncclInternalError|ncclSystemError|ncclUnhandledCudaError",
        "the GPUs could not talk to each other (NCCL)",
        "start with NCCL_DEBUG=INFO to see why; in a container check the size of /dev/shm",
    ),
    (
        r"unable to (?:mmap|allocate|open) shared memory|/dev/shm[^\n]*No space|[Ss]hared memory[^\n]*(?:too small|No space)",
        "the shared memory (/dev/shm) is too small",
        "give the container more (docker --shm-size, an emptyDir of medium Memory)",
    ),
    (
        r"Too many open files",
        "the process may not open more files",
        "raise the limit (ulimit -n)",
    ),
    (
        r"Permission denied: '?([^'\n]*)",
        "the engine may not read or write a file",
        "check the owner and mode of the model, the cache and the workspace",
    ),
    (
        r"Bfloat16 is only supported on GPUs with compute capability",
        "this GPU has no bfloat16",
        "add --dtype float16 to engine.flags",
    ),
    (
        r"undefined symbol: (\w+)|version `(GLIBC\w*_[\d.]+)' not found|CXXABI_[\d.]+",
        "a library of the engine does not fit the others (missing symbol {1}{2})",
        "install vLLM and torch of versions that belong together",
    ),
    (
        r"(?:nvcc|ninja|gcc|g\+\+|cc)'? ?(?:was )?not found|Failed to find C compiler|Could not find nvcc",
        "the engine compiles a kernel at the start and there is no compiler",
        "install a C compiler (and nvcc where it is asked for), or start with enforce_eager to see whether it goes without",
    ),
    (
        r"CUDA out of memory|CUDA error: out of memory|torch\.(?:cuda\.)?OutOfMemoryError",
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
CRASHES = frozenset({signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE})
CODE_OF_KILL = (-signal.SIGKILL, 128 + signal.SIGKILL)
KILLED_CHILD = re.compile(r"Failed core proc\(s\): \{[^}]*(?:-9|137)|exit ?code[:=]? ?(?:-9|137)")


def diagnose(text: str, exit_code: int | None) -> Diagnosis:
    """Name the cause from a server's log and its exit code (None = still running).

    Only errors and lines without a level (tracebacks) are looked at: warnings speak of things that went on working. Where
    the log has a true error, it alone decides; what another process says of it (EngineDeadError) does not.
    """
    lines = tracebacks.read_lines(clean(text))
    failure = tracebacks.cause(lines)
    plain = "\n".join(line.text.strip() for line in lines if not line.text.startswith("usage:"))
    if found := _known(failure.text if failure else plain):
        return found
    if exit_code in CODE_OF_KILL or KILLED_CHILD.search(plain):
        return KILLED
    if exit_code == 127 and "cannot run" in plain:
        return Diagnosis("the engine's interpreter cannot be run", "set engine.python to a working Python with vLLM")
    if failure is None and WORKER_DIED.search(plain):
        return Diagnosis(
            "a worker process of the engine died without a word",
            "look for the out-of-memory killer in the kernel's log",
        )
    if exit_code is not None and exit_code < 0 and -exit_code not in CRASHES:
        name = signal.Signals(-exit_code).name if -exit_code in set(signal.Signals) else str(-exit_code)
        return Diagnosis(f"the engine's process was ended by {name}", "find out who sent the signal, and start again")
    if failure is None and (crash := _crash(plain, exit_code)):
        return crash
    last = failure.error[:TAIL_WIDTH] if failure and not PRIVATE.search(failure.error) else None
    described = f"with code {exit_code}" if exit_code is not None else "(it still runs)"
    return Diagnosis(
        f"the engine failed {described}: {last}" if last else f"the engine stopped {described} and gave no reason",
        "read the end of its log",
        recognised=False,
    )


def _known(text: str) -> Diagnosis | None:
    for pattern, cause, step in CAUSES:
        if found := re.search(pattern, text):
            return Diagnosis(_fill(cause, found), step)
    return None


def _crash(text: str, exit_code: int | None) -> Diagnosis | None:
    """A crash in native code, which leaves no traceback."""
    found = re.search(r"!!!!!!! (Segfault) encountered|Fatal Python error: ([\w ]+)|(Bus error)", text)
    if not found and (exit_code is None or -exit_code not in CRASHES):
        return None
    what = next(filter(None, found.groups())) if found else signal.Signals(-(exit_code or 0)).name
    return Diagnosis(
        f"the engine crashed in native code ({what})",
        "read the end of its log; a bus error often means that /dev/shm is too small",
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
    text = tracebacks.read_line(line).text
    return text.startswith(("  File ", "    "))

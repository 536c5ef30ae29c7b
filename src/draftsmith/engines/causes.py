"""Texts of failures that any engine on PyTorch and CUDA may log: pattern, cause, next step."""

from __future__ import annotations

Cause = tuple[str, str, str]

# The most specific first. `{1}` stands for the pattern's first group.
CAUSES: tuple[Cause, ...] = (
    (
        r"torchvision::nms does not exist|operator torchvision",
        "torchvision does not fit the installed torch and breaks every model load",
        "uninstall torchvision, torchaudio and torchcodec from the engine's environment",
    ),
    (
        r"address already in use|Errno 98",
        "the port is taken by another process",
        "leave the port out to have a free one chosen, or stop what listens there",
    ),
    (
        r"No space left on device|Disk quota exceeded",
        "the disk is full",
        "free space: for hidden states in the workspace, for compiled code in the engine's cache, and in the temporary folder",
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
        r"[Mm]odel architectures \[([^\]]*)\] are not supported",
        "this engine does not support the architecture {1}",
        "check `architectures` in the model's config.json, or install a release that supports it",
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
        "install a build for this GPU's compute capability",
    ),
    (
        r"must have the same dtype|expected (?:scalar type|mat1 and mat2)[^\n]*(?:but (?:found|got)|same dtype)|[Kk][Vv] cache d?type[^\n]*(?:mismatch|not supported)",
        "tensors of different data types met, for example in the KV cache of draft and target",
        "give the draft the target's dtype, and leave --kv-cache-dtype out or check that the draft supports it",
    ),
    (
        r"does not support (?:the )?EAGLE-?3 interface|[Mm]odel does not support EAGLE-?3",
        "this model hands out no hidden states for EAGLE3 in this engine",
        "use a method without hidden states (ngram, suffix, a draft model), or a release that supports the model",
    ),
    (
        r"Unsupported model_type ([\w.-]+) for [Ee]agle-?3|(?:EAGLE-?3|[Ee]agle-?3) is (?:only|not) supported (?:for|by) ([^\n]{0,80})",
        "this engine serves no EAGLE3 draft for the model type {1} {2}",
        "use a method without hidden states (ngram, suffix, a draft model), or a release that supports the model",
    ),
    (
        r"(?:must be divisible by|is not divisible by) (?:tensor parallel|the tensor)[^\n]*|attention heads \(?\d*\)? must be divisible[^\n]*",
        "the number of attention heads does not divide by the tensor-parallel size",
        "choose another --tensor-parallel-size; a draft may need draft_tensor_parallel_size = 1",
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
        "install engine and torch of versions that belong together",
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

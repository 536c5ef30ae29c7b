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
        r"couldn't connect to|LocalEntryNotFoundError|is not a local folder|RepositoryNotFoundError|Max retries exceeded",
        "the model or draft folder does not exist (nothing is downloaded: the engine runs offline)",
        "check the path of the target and of the draft",
    ),
    (
        r"Cannot find any model weights|no safetensors|Cannot find the config file|does not appear to have a file named|"
        r"Can't load tokenizer for",
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
        r"SafetensorError|HeaderTooLarge|InvalidHeader|MetadataIncompleteBuffer|PytorchStreamReader failed|UnpicklingError",
        "a weight file is damaged",
        "copy or export the checkpoint again and compare its hashes",
    ),
    (
        r"(an illegal memory access|an illegal instruction) was encountered|CUDA error: (misaligned address|unspecified launch failure)",
        "a kernel on the GPU went wrong: {1}{2}",
        "this is a fault of the engine or a wrong draft: lint the draft, start with CUDA_LAUNCH_BLOCKING=1 to see the place",
    ),
    (
        r"device-side assert triggered",
        "a kernel on the GPU stopped at an assertion, often a token id outside the vocabulary",
        "lint the draft (its vocabulary map), and start with CUDA_LAUNCH_BLOCKING=1 to see the place",
    ),
    (
        r"uncorrectable ECC error|fallen off the bus|CUDA error: hardware",
        "the GPU reports a fault of its own",
        "look for Xid messages in the kernel's log, and let the machine's administrator reset or replace the GPU",
    ),
    (
        r"CUBLAS_STATUS_(\w+)",
        "a matrix kernel of CUDA failed (CUBLAS_STATUS_{1})",
        "often memory: lower engine.gpu_memory_share; else start with CUDA_LAUNCH_BLOCKING=1 to see the place",
    ),
    (
        r"OutOfResources: out of resource: shared memory",
        "a kernel needs more shared memory than a block on this GPU has",
        "choose another attention backend, or a release that knows this GPU",
    ),
    (
        r"no kernel image is available for execution",
        "the engine was not built for this GPU",
        "install a build for this GPU's compute capability",
    ),
    (
        r"[Qq]uantization method (\S+) is not supported for the current GPU",
        "this GPU cannot compute with the quantisation {1}",
        "use a checkpoint of another quantisation, or a newer GPU",
    ),
    (
        r"Quantization method specified in the model config \((\S+)\) does not match[^\n]*\((\S+)\)",
        "the model is quantised with {1} and the command asks for {2}",
        "leave --quantization out: the model says it itself",
    ),
    (
        r"(?:Unknown|Invalid) quantization method:? ([\w-]+)",
        "this engine does not know the quantisation {1}",
        "use a checkpoint of another quantisation, or install a release that has it",
    ),
    (
        r"FlashAttention only supports|Selected backend [^\n]* is not valid|Cannot use FlashAttention[^\n]*|FlashInfer requires",
        "the attention backend does not fit this GPU, model or KV cache",
        "choose another attention backend, or leave the choice to the engine",
    ),
    (
        r"must have the same dtype|expected (?:scalar type|mat1 and mat2)[^\n]*(?:but (?:found|got)|same dtype)|[Kk][Vv] cache d?type[^\n]*(?:mismatch|not supported)",
        "tensors of different data types met, for example in the KV cache of draft and target",
        "give the draft the target's dtype, and leave --kv-cache-dtype out or check that the draft supports it",
    ),
    (
        r"does not support (?:the )?EAGLE-?3 interface|[Mm]odel does not support EAGLE-?3|"
        r"has no attribute '(?:set_eagle3_layers_to_capture|set_aux_hidden_state_layers|get_eagle3_aux_hidden_state_layers)'",
        "this model hands out no hidden states for EAGLE3 in this engine",
        "use a method without hidden states (ngram, suffix, a draft model), or a release that supports the model",
    ),
    (
        r"Unsupported model_type ([\w.-]+) for [Ee]agle-?3|(?:EAGLE-?3|[Ee]agle-?3) is not supported (?:for|by) ([^\n]{0,80})",
        "this engine serves no EAGLE3 draft for the model type {1} {2}",
        "use a method without hidden states (ngram, suffix, a draft model), or a release that supports the model",
    ),
    (
        r"(?:EAGLE-?3|[Ee]agle-?3) is only supported (?:for|by) ([^\n]{0,120})",
        "this engine serves EAGLE3 drafts of other models only: {1}",
        "use a method without hidden states (ngram, suffix, a draft model), or a release that supports the model",
    ),
    (
        r"'(\w+)' object has no attribute '(?:set_embed\w*|get_embed_and_head|hot_token_id)'",
        "the model that was given as draft is none: {1} has no draft's parts",
        "name the draft's folder, and check `architectures` in its config.json",
    ),
    (
        r"[Ss]peculative decoding (?:with [^\n]{0,60} )?is not (?:yet )?supported[^\n]{0,80}",
        "this engine does not speculate in this configuration",
        "leave out what its message names, or use a release that can",
    ),
    (
        r"(?:Unknown|Invalid|Unsupported) speculative (?:decoding )?(?:method|algorithm):? '?([\w-]+)",
        "this engine does not know the speculative method {1}",
        "use a release that has it, or another method",
    ),
    (
        r"'(\w*Config)' object has no attribute '(\w+)'",
        "config.json of the model or draft lacks `{2}` ({1})",
        "export the checkpoint again, or install a release that reads its config.json",
    ),
    (
        r"(?:must be divisible by|is not divisible by) (?:tensor parallel|the tensor)[^\n]*|attention heads \(?\d*\)? must be divisible[^\n]*"
        r"|AssertionError: \d+ is not divisible by \d+",
        "a size of the model (attention heads, width, vocabulary) does not divide by the tensor-parallel size",
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
        r"NCCL [Ee]rror[^\n]*|ncclInternalError|ncclSystemError|ncclUnhandledCudaError",
        "the GPUs could not talk to each other (NCCL)",
        "start with NCCL_DEBUG=INFO to see why; in a container check the size of /dev/shm",
    ),
    (
        r"Timed out after \d+ seconds waiting for clients|DistStoreError",
        "the workers did not find each other in time",
        "check that all nodes reach the first one's address and port, and that every worker started",
    ),
    (
        r"TimeoutError: RPC call to (\w+) timed out",
        "a worker did not answer in time ({1})",
        "a hang between GPUs or a long compilation: start with NCCL_DEBUG=INFO, and look where the workers stand with py-spy",
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
        r"FileNotFoundError: \[Errno 2\] No such file or directory: '([^'\n]*)",
        "a file that the engine needs is not there: {1}",
        "check the folders of model and draft, and what engine.flags name",
    ),
    (
        r"error downloading or loading vocab file",
        "the vocabulary of harmony (gpt-oss) is not on this machine, and the engine is offline",
        "download the tiktoken files once and set TIKTOKEN_ENCODINGS_BASE in engine.env",
    ),
    (
        r"Bfloat16 is only supported on GPUs with compute capability",
        "this GPU has no bfloat16",
        "add --dtype float16 to engine.flags",
    ),
    (
        r"undefined symbol: (\w+)|version `((?:GLIBC\w*|CXXABI)_[\d.]+)' not found|([\w.+-]+): cannot open shared object file",
        "a library of the engine does not fit the others, or is missing ({1}{2}{3})",
        "install engine and torch of versions that belong together",
    ),
    (
        r"cannot import name '(\w+)' from '([\w.]+)'|module '([\w.]+)' has no attribute '(\w+)'",
        "packages of the engine do not fit each other: {2}{3} has no {1}{4}",
        "install the versions that this release of the engine asks for",
    ),
    (
        r"(?:nvcc|ninja|gcc|g\+\+|cc)'? ?(?:was )?not found|Failed to find C compiler|Could not find nvcc",
        "the engine compiles a kernel at the start and there is no compiler",
        "install a C compiler (and nvcc where it is asked for), or start with enforce_eager to see whether it goes without",
    ),
    (
        r"ptxas fatal|[Nn]inja build failed|CalledProcessError: Command '\[?'?[^\n]{0,200}\b(?:ninja|nvcc|gcc|g\+\+|clang|cc)\b",
        "compiling a kernel failed",
        "its message stands above in the log: mostly a CUDA toolkit that does not know this GPU, or headers that are missing",
    ),
    (
        r"Cannot re-initialize CUDA in forked subprocess",
        "CUDA was in use before the engine forked its workers",
        "set VLLM_WORKER_MULTIPROC_METHOD=spawn in engine.env",
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
        r"estimated maximum model length|exceeds available memory|invalid KV cache|number of tokens that can be stored in KV cache",
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
        r"no module or parameter named '([\w.]+)|KeyError: '((?:[\w.]*\blayers\.\d+\.[\w.]+|[\w.]*\b\w+\.(?:weight|bias|scale)\w*|d2t|t2d))'",
        "the checkpoint holds a weight that the model does not have: {1}{2}",
        "check that the checkpoint matches its config.json, and that the draft's method is right",
    ),
    (
        r"[Ww]eights were not initialized from (?:the )?checkpoint:? ?([^\n]{0,120})",
        "the checkpoint lacks weights that the model needs: {1}",
        "export it again and compare its list of weights with the model's",
    ),
    (
        r"(mat1 and mat2 shapes cannot be multiplied|Sizes of tensors must match)[^\n]*",
        "tensors whose shapes do not fit each other met, often hidden states of another width or of more layers than the draft expects",
        "lint the draft against this target: hidden size and auxiliary layers",
    ),
    (
        r"No module named '?([\w.]+)",
        "the engine's environment lacks the module {1}",
        "install it for engine.python",
    ),
    (
        r"Error 802|system not yet initialized",
        "the GPUs of this machine are not initialised",
        "on machines with NVSwitch the fabric manager must run (`systemctl status nvidia-fabricmanager`)",
    ),
    (
        r"NVIDIA driver on your system is too old|Error 803|driver version is insufficient|forward compatibility was attempted",
        "the driver is too old for the CUDA that the engine was built with",
        "install a newer driver, or a build of the engine for an older CUDA",
    ),
    (
        r"invalid device ordinal",
        "the server wants more GPUs than there are",
        "lower the tensor-parallel size, or use a machine with more GPUs",
    ),
    (
        r"Failed to infer device type|libcuda\.so|no NVIDIA driver|No CUDA GPUs are available|CUDA driver initialization failed",
        "the engine finds no device that its build supports",
        "check the driver with nvidia-smi, or use the CPU build",
    ),
)

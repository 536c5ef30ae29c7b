"""Each kind of failure is named by its own text in the logs of both engines, on several GPUs too, and no other text is taken for it."""

from __future__ import annotations

import pytest

from draftsmith.engines.diagnosis import Diagnosis
from draftsmith.engines.sglang import causes as sglang
from draftsmith.engines.vllm import causes as vllm

FRAMES = ("Traceback (most recent call last):", '  File "/x/model.py", line 3, in load', "    run()")
KINDS = {
    "torch.AcceleratorError: CUDA error: an illegal memory access was encountered": "an illegal memory access",
    "RuntimeError: CUDA error: an illegal instruction was encountered": "an illegal instruction",
    "RuntimeError: CUDA error: misaligned address": "misaligned address",
    "RuntimeError: CUDA error: device-side assert triggered": "stopped at an assertion",
    "RuntimeError: CUDA error: uncorrectable ECC error encountered": "a fault of its own",
    "RuntimeError: CUDA error: CUBLAS_STATUS_EXECUTION_FAILED when calling `cublasGemmEx( handle`": "CUBLAS_STATUS_EXECUTION_FAILED",
    "triton.runtime.errors.OutOfResources: out of resource: shared memory, Required: 131072, Hardware limit: 101376.": "more shared memory than",
    "RuntimeError: CUDA error: no kernel image is available for execution on the device": "not built for this GPU",
    "RuntimeError: CUDA error: invalid device ordinal": "more GPUs than there are",
    "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.": "GPU ran out of memory",
    "OSError: [Errno 12] Cannot allocate memory": "the machine ran out of memory",
    "RuntimeError: query and key must have the same dtype": "different data types",
    "RuntimeError: Model does not support EAGLE3 interface but aux_hidden_state_outputs was requested": "no hidden states for EAGLE3",
    "AttributeError: 'Gemma3ForCausalLM' object has no attribute 'set_eagle3_layers_to_capture'": "no hidden states for",
    "ValueError: Unsupported model_type deepseek_v3 for Eagle3 speculator": "model type deepseek_v3",
    "AttributeError: 'Qwen2ForCausalLM' object has no attribute 'set_embed'": "Qwen2ForCausalLM has no draft's parts|no EAGLE3 draft",
    "AttributeError: 'LlamaConfig' object has no attribute 'draft_vocab_size'": "lacks `draft_vocab_size`|no EAGLE3 draft",
    "NotImplementedError: Speculative decoding is not yet supported with pipeline parallelism": "does not speculate in this",
    "ValueError: Model architectures ['NoSuchForCausalLM'] are not supported for now.": "architecture 'NoSuchForCausalLM'",
    "ValueError: The quantization method fp8 is not supported for the current GPU. Minimum capability: 89.": "quantisation fp8",
    "ValueError: Unknown quantization method: modelopt_fp4. Must be one of ['awq']": "know the quantisation modelopt_fp4",
    "RuntimeError: FlashAttention only supports Ampere GPUs or newer.": "attention backend does not fit",
    "ValueError: Total number of attention heads (40) must be divisible by tensor parallel size (3).": "tensor-parallel size",
    "AssertionError: 28 is not divisible by 8": "tensor-parallel size",
    "RuntimeError: NCCL Error 2: unhandled system error (run with NCCL_DEBUG=INFO for details)": "NCCL",
    "torch.distributed.DistStoreError: Timed out after 601 seconds waiting for clients. 1/2 clients joined.": "did not find each other",
    "RuntimeError: size mismatch for fc.weight: copying a param with shape torch.Size([4096, 8192])": "shape mismatch",
    "RuntimeError: mat1 and mat2 shapes cannot be multiplied (8x12288 and 15360x5120)": "whose shapes do not fit each other|another number or width of hidden states",
    "ValueError: There is no module or parameter named 'd2t' in Qwen3ForCausalLM": "does not have: d2t",
    "KeyError: 'layers.0.self_attn.qkv_proj.weight'": "does not have: layers.0.self_attn.qkv_proj.weight",
    "ValueError: Following weights were not initialized from checkpoint: {'fc.weight'}": "lacks weights that the model needs",
    "safetensors_rust.SafetensorError: Error while deserializing header: invalid header length": "damaged",
    "RuntimeError: PytorchStreamReader failed reading zip archive: failed finding central directory": "damaged",
    "OSError: Can't load tokenizer for '/models/m'. If you were trying to load it from": "lacks files",
    "FileNotFoundError: [Errno 2] No such file or directory: '/models/draft/x.json'": "is not there: /models/draft/x.json",
    "huggingface_hub.errors.HFValidationError: Repo id must be in the form 'repo_name' or": "does not exist",
    "PermissionError: [Errno 13] Permission denied: '/models/m'": "may not read",
    "OSError: [Errno 28] No space left on device": "the disk is full",
    "OSError: [Errno 24] Too many open files": "open more files",
    "OSError: [Errno 98] error while attempting to bind on address ('0.0.0.0', 8000): address already in use": "port is taken",
    "ModuleNotFoundError: No module named 'flash_attn'": "lacks the module flash_attn",
    "ImportError: cannot import name 'Llama' from 'transformers.models.llama' (/x.py)": "transformers.models.llama has no Llama",
    "ImportError: libcudart.so.12: cannot open shared object file: No such file or directory": "libcudart.so.12",
    "ImportError: /lib/libc.so.6: version `GLIBC_2.34' not found (required by /x.so)": "GLIBC_2.34",
    "RuntimeError: The NVIDIA driver on your system is too old (found version 12020).": "driver is too old",
    "RuntimeError: Unexpected error from cudaGetDeviceCount(). Error 802: system not yet initialized": "not initialised",
    "RuntimeError: Bfloat16 is only supported on GPUs with compute capability of at least 8.0.": "no bfloat16",
    "subprocess.CalledProcessError: Command '['ninja', '-v']' returned non-zero exit status 1.": "compiling a kernel failed",
    "RuntimeError: Failed to find C compiler. Please specify via CC environment variable.": "there is no compiler",
    "RuntimeError: Cannot re-initialize CUDA in forked subprocess. To use CUDA with": "before the engine forked",
    "ValueError: Loading /models/m requires you to execute the configuration file, set the option `trust_remote_code=True`": "code of its own",
}  # fmt: skip
OTHERS = (
    "KeyError: 'mlp'",
    "KeyError: 'request.priority'",
    "KeyError: 'chatcmpl-7f.0'",
    "IndexError: list index out of range",
    "AssertionError: the same request was added twice",
    "ValueError: the weight of an edge must be positive",
    "RuntimeError: the driver of the bus is too old",
    "AttributeError: 'Request' object has no attribute 'config'",
    "ValueError: top_k is not divisible by anything",
    "TimeoutError: the client did not answer in time",
    "json.decoder.JSONDecodeError: Expecting value: line 1 column 1 (char 0)",
)


def in_vllm(error: str) -> Diagnosis:
    """A worker of two fails at the start; everybody else says that somebody failed."""
    head = "(Worker_TP1 pid=9) ERROR 09-01 10:00:00 [multiproc_executor.py:597] "
    log = [f"{head}{line}" for line in ("WorkerProc failed to start.", *FRAMES, error)]
    noticed = "Exception: WorkerProc initialization failed due to an exception in a background process."
    log += [
        f"(EngineCore pid=3) ERROR 09-01 10:00:01 [core.py:712] {line}" for line in ("EngineCore failed to start.", *FRAMES, noticed)
    ]  # fmt: skip
    log += [f"(APIServer pid=1) {line}" for line in (*FRAMES, "RuntimeError: Engine core initialization failed. See root cause above. Failed core proc(s): {}")]  # fmt: skip
    return vllm.diagnose("\n".join(log), 1)


def in_sglang(error: str) -> Diagnosis:
    head = "[2026-11-26 17:36:52 TP1] "
    log = [f"{head}Scheduler hit an exception: {FRAMES[0]}", *FRAMES[1:], error, ""]
    log += ["[2026-11-26 17:36:53] Rank 0 scheduler is dead. Please check if there are relevant logs."]
    return sglang.diagnose("\n".join(log), 1)


@pytest.mark.parametrize("error", KINDS)
def test_a_failure_is_named_in_the_log_of_either_engine(error: str) -> None:
    for found in (in_vllm(error), in_sglang(error)):
        assert found.recognised, found.cause
        assert any(words in found.cause for words in KINDS[error].split("|"))
        assert "{" not in found.cause.replace("{'", ""), "every place in the sentence is filled"
        assert found.next_step


@pytest.mark.parametrize("error", OTHERS)
def test_what_is_of_no_known_kind_is_told_in_its_own_words(error: str) -> None:
    for found in (in_vllm(error), in_sglang(error)):
        assert not found.recognised, found.cause
        assert error in found.cause


@pytest.mark.parametrize(
    ("diagnose", "error", "said"),
    [
        (vllm.diagnose, "ValueError: max_num_batched_tokens (2048) is smaller than max_model_len (8192).", "2048"),
        (vllm.diagnose, "AssertionError: All drafting layers should belong to the same kv cache group", "speculative config"),
        (vllm.diagnose, "ValueError: The model's max seq len (9) is larger than the maximum number of tokens that can be stored in KV cache (5).", "KV cache"),
        (vllm.diagnose, "TimeoutError: RPC call to execute_model timed out.", "execute_model"),
        (sglang.diagnose, "RuntimeError: Not enough memory. Please try to increase --mem-fraction-static.", "KV cache"),
        (sglang.diagnose, "ValueError: The memory capacity is unbalanced. Some GPUs may be occupied by other processes.", "unequal free memory"),
        (sglang.diagnose, "ValueError: User-specified context_length (9) is greater than the derived context_length (5).", "longer than the"),
    ],
)  # fmt: skip
def test_texts_of_one_engine_alone(diagnose: object, error: str, said: str) -> None:
    assert callable(diagnose)
    found = diagnose("\n".join((*FRAMES, error)), 1)
    assert found.recognised
    assert said in found.cause

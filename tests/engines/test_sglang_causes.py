"""Why an SGLang server failed, in one sentence. The errors are of 0.5.17's source, or such as users have posted of its releases."""

from __future__ import annotations

import pytest
from material import shared

from draftsmith.engines.sglang import causes
from draftsmith.engines.tracebacks import read_line

START = """[2026-11-26 17:36:11 TP0] Scheduler hit an exception: Traceback (most recent call last):
  File "/x/sglang/srt/managers/scheduler.py", line 5064, in run_scheduler_process
    scheduler = Scheduler(server_args, port_args, gpu_id, tp_rank, dp_rank)
  File "/x/sglang/srt/model_executor/model_runner.py", line 410, in initialize
    self.load_model()
"""
FOLLOWS = """
[2026-11-26 17:36:12] Rank 0 scheduler is dead. Please check if there are relevant logs.
[2026-11-26 17:36:12] SIGQUIT received. signum=None, frame=None. It usually means one child failed.
[2026-11-26 17:36:12] Subprocess scheduler_0 (pid=1053) crashed with exit code -15. Triggering SIGQUIT for cleanup...
Traceback (most recent call last):
  File "/x/engine.py", line 1, in launch
    raise EOFError
EOFError
"""
COMMON_OPS = """ImportError:
[sgl_kernel] CRITICAL: Could not load any common_ops library!

Attempted locations:
1. Architecture-specific pattern: /x/sgl_kernel/sm100/common_ops.* - found files: ['/x/sgl_kernel/sm100/common_ops.abi3.so']
3. Standard Python import: common_ops - failed

Error details from previous import attempts:
- ImportError: libnvrtc.so.12: cannot open shared object file: No such file or directory
- ModuleNotFoundError: No module named 'common_ops'
"""


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("RuntimeError: Not enough memory. Please try to increase --mem-fraction-static. Current value: self.server_args.mem_fraction_static=0.2", "for the KV cache"),
        ("ValueError: Loaded weights leave no GPU memory for the KV cache under --mem-fraction-static=0.2. Raise --mem-fraction-static above 0.314 (minimum viable = 1 - available/pre = 0.3131).", "for the KV cache"),
        ("Exception: Capture cuda graph failed: CUDA out of memory. Tried to allocate 448.00 MiB. GPU 7 has a total capacity of 95.00 GiB", "while CUDA graphs were captured"),
        ("torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB.", "GPU ran out of memory"),
        ("RuntimeError: Decode out of memory. Try to lower your batch size.", "while the server answered (Decode)"),
        ("ValueError: The memory capacity is unbalanced. Some GPUs may be occupied by other processes. pre_model_load_memory=39.2", "unequal free memory"),
        ("ValueError: Warning: User-specified context_length (10000) is greater than the derived context_length (2048). This may lead to incorrect model outputs or CUDA errors.", "context length 10000 is longer than the 2048"),
        ("ValueError: pool memory leak detected! [full] total=9116160, available=768, evictable=9115392, protected=0", "memory leak"),
        ("ValueError: token_to_kv_pool_allocator memory leak detected! available_size=3189424, protected_size=0", "memory leak"),
        (COMMON_OPS, "kernels do not fit the installed torch"),
        ("AssertionError: FlashAttention v3 Backend requires SM>=80 and SM<=90. Please use `--attention-backend flashinfer`.", "no FlashAttention 3"),
        ("triton.runtime.errors.OutOfResources: out of resource: shared memory, Required: 106496, Hardware limit: 101376. Reducing block sizes or `num_stages` may help.", "more shared memory"),
        ("ValueError: speculative_eagle_topk(8) > 1 with page_size(16) > 1 is unstable and produces incorrect results for paged attention backends. This combination is only supported for the 'flashinfer' backend.", "cannot verify a tree"),
        ("ValueError: trtllm_mha backend only supports topk = 1 for speculative decoding.", "cannot verify a tree"),
        ("ValueError: Unknown speculative algorithm name: EAGLE4", "does not know the speculation method EAGLE4"),
        ("AttributeError: 'Phi3ForCausalLM' object has no attribute 'set_eagle3_layers_to_capture'", "hands out no hidden states"),
        ("AttributeError: 'Qwen2ForCausalLM' object has no attribute 'set_embed'", "no EAGLE3 draft"),
        ("AttributeError: 'LlamaForCausalLM' object has no attribute 'hot_token_id'", "no EAGLE3 draft"),
        ("AttributeError: 'LlamaConfig' object has no attribute 'draft_vocab_size'", "no EAGLE3 draft"),
        ("ValueError: Model architectures ['Eagle3DraftModel'] are not supported for now. Supported architectures: dict_keys(['LlamaForCausalLM'])", "another engine's notation"),
        ("ValueError: Model architectures ['NoSuchForCausalLM'] are not supported for now. Supported architectures: dict_keys(['LlamaForCausalLM'])", "does not support the architecture 'NoSuchForCausalLM'"),
        ("KeyError: 'midlayer.self_attn.qkv_proj.weight'", "does not have: midlayer.self_attn.qkv_proj.weight"),
        ("RuntimeError: mat1 and mat2 shapes cannot be multiplied (112x151552 and 12288x4096)", "another number or width of hidden states"),
        ("RuntimeError: size mismatch for fc.weight", "shape mismatch"),
        ("ValueError: STANDALONE speculative decoding requires the draft model to share the same vocabulary as the target model, but got target vocab_size=49152 and draft vocab_size=32000.", "another vocabulary than the target"),
        ("ValueError: External ngram corpus path does not exist: /data/answers.jsonl", "corpus: External ngram corpus path does not exist"),
        ("ValueError: Invalid external ngram corpus record at line 3: expected a JSON string.", "at line 3: expected a JSON string"),
        ("ValueError: External ngram corpus exceeds the configured token limit (100) at line 7 after loading 96 tokens.", "exceeds the configured token limit"),
        ("ValueError: speculative_ngram_external_sam_budget must be less than or equal to speculative_num_draft_tokens - 1 (3).", "no more than the 3 drafted tokens"),
        ("ValueError: Currently ngram speculative decoding does not support dp attention.", "refuses the speculative config: Currently ngram"),
        ("ValueError: --speculative-use-rejection-sampling requires --speculative-eagle-topk=1.", "refuses the speculative config: --speculative-use-rejection-sampling requires"),
        ("ValueError: --speculative-num-steps=9 is not in the adaptive config candidate_steps [1, 3, 7]. Pass one of those values.", "is not in the adaptive config"),
        ("AssertionError: shared logits buffer holds 128 rows but caller needs 256 (vocab_size=49152)", "adaptive steps may draft more tokens"),
        ("ValueError: DFLASH speculative decoding requires setting --speculative-draft-model-path.", "refuses the speculative config: DFLASH"),
    ],
)  # fmt: skip
def test_a_scheduler_that_failed_is_named_by_its_own_error(error: str, said: str) -> None:
    found = causes.diagnose(START + error + "\n" + FOLLOWS, 1)
    assert found.recognised
    assert said in found.cause
    assert "\n" not in found.cause
    assert found.next_step


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[2026-08-03 09:11:04 TP0] Scheduler watchdog timeout (self.watchdog_timeout=300, self.soft=False)\n", "longer than 300 s"),
        ("[2025-03-09 00:57:15 TP4] Watchdog timeout (self.watchdog_timeout=300)\n[2025-03-09 00:57:20] Received sigquit from a child process. It usually means the child failed.\n", "longer than 300 s"),
        ("[2026-11-26 17:37:00] Subprocess scheduler_0 (pid=1053) crashed with exit code -9. Triggering SIGQUIT for cleanup...\n", "killed (signal 9)"),
        ("launch_server.py: error: unrecognized arguments: --no-such\n", "does not know the flag --no-such"),
        ("launch_server.py: error: argument --attention-backend: invalid choice: 'fa9' (choose from 'triton', 'fa3')\n", "refuses the flag --attention-backend"),
        ("[2026-11-26 17:36:11] ERROR: [Errno 98] error while attempting to bind on address ('127.0.0.1', 30000): address already in use\n", "port is taken"),
    ],
)  # fmt: skip
def test_a_server_that_ended_without_a_traceback_is_named_too(text: str, said: str) -> None:
    assert said in causes.diagnose(text, 1).cause


def test_ranks_that_waited_for_another_one_are_not_the_cause() -> None:
    waited = (
        "ValueError: TP rank 0 could finish the model loading, but there are other ranks that didn't finish loading. "
        "It is likely due to unexpected failures (e.g., OOM) or a slow node.\n"
    )
    text = START.replace("TP0", "TP1") + "torch.OutOfMemoryError: CUDA out of memory.\n\n" + START + waited + FOLLOWS
    assert "GPU ran out of memory" in causes.diagnose(text, 1).cause


def test_a_soft_watchdog_ends_nothing() -> None:
    line = "[2026-08-03 09:11:04 TP0] Scheduler watchdog timeout (self.watchdog_timeout=300, self.soft=True)\n"
    assert not causes.diagnose(line, None).recognised


@pytest.mark.parametrize("name", ["base.log", "eagle.log"])
def test_a_living_servers_log_names_no_cause(name: str) -> None:
    assert not causes.diagnose(shared("cases", "sglang", name).read_text(), None).recognised
    assert read_line("[2026-11-26 17:36:52 TP1] Load weight begin.").process == "TP1"


def test_an_engine_that_kills_itself_after_an_error_was_not_killed_by_the_kernel() -> None:
    failed = causes.diagnose(START + "AssertionError: 3 rows but 4 are needed\n" + FOLLOWS, -9)
    assert "3 rows but 4 are needed" in failed.cause
    assert "memory" in failed.next_step, "and yet it may have been the kernel"
    alone = causes.diagnose("[2026-11-26 17:36:11] Load weight begin.\n", -9)
    assert "memory runs out" in alone.cause

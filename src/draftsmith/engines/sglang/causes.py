"""What SGLang logs when it does not start or goes away: its own texts, before those of every engine."""

from __future__ import annotations

from draftsmith.engines.causes import Cause
from draftsmith.engines.diagnosis import Diagnosis
from draftsmith.engines.diagnosis import diagnose as diagnose_log

OWN: tuple[Cause, ...] = (
    (
        r"unrecognized arguments: ([^\n]+)",
        "SGLang does not know the flag {1}",
        "remove it from engine.flags, or install an SGLang that has it",
    ),
    (
        r"error: argument ([\w/ -]+): ([^\n]+)",
        "SGLang refuses the flag {1}: {2}",
        "correct its value in engine.flags",
    ),
    (
        r"Not enough memory\. Please try to (?:in|de)crease --mem-fraction-static|Loaded weights leave no GPU memory for the KV cache",
        "there is too little memory for the KV cache",
        "raise engine.gpu_memory_share (SGLang's --mem-fraction-static), or lower engine.max_num_seqs",
    ),
    (
        r"[Cc]apture [\w -]*graph failed: [^\n]*out of memory",
        "the GPU ran out of memory while CUDA graphs were captured",
        "lower engine.gpu_memory_share, or add --cuda-graph-max-bs-decode with fewer sequences to engine.flags",
    ),
    (
        r"(Prefill|Decode) out of memory\. Try to lower your batch size",
        "the KV cache was full while the server answered ({1})",
        "lower engine.max_num_seqs, or raise engine.gpu_memory_share",
    ),
    (
        r"memory capacity is unbalanced",
        "the GPUs have unequal free memory: something else uses one of them",
        "stop what else uses the GPUs, or name free ones in CUDA_VISIBLE_DEVICES",
    ),
    (
        r"context_length \((\d+)\) is greater than the derived context_length \((\d+)\)",
        "the context length {1} is longer than the {2} of the model, or of its draft",
        "lower engine.max_model_len to the smaller max_position_embeddings of target and draft",
    ),
    (
        r"watchdog timeout \(self\.watchdog_timeout=([\d.]+)(?:, self\.soft=False)?\)|Watchdog timeout \(self\.watchdog_timeout=([\d.]+)\)",
        "one step took longer than {1}{2} s, and SGLang's watchdog ended the server",
        "look above in the log for what hung (a kernel that is compiled, NCCL), or raise --watchdog-timeout in engine.flags",
    ),
    (
        r"memory leak detected!",
        "SGLang found its count of the KV cache wrong and ended itself (memory leak detected)",
        "this is a fault of the engine: install another release, or try without what few use together (page size, chunks, a tree)",
    ),
    (
        r"[Cc]ould not load any common_ops",
        "SGLang's kernels do not fit the installed torch, CUDA or GPU",
        "install the sglang-kernel that this SGLang asks for, beside the torch that it was built with",
    ),
    (
        r"FlashAttention v3 Backend requires SM>=80 and SM<=90",
        "this GPU has no FlashAttention 3",
        "give another --attention-backend in engine.flags (flashinfer, triton)",
    ),
    (
        r"OutOfResources: out of resource: shared memory",
        "a Triton kernel wants more shared memory than this GPU has",
        "give another --attention-backend in engine.flags (flashinfer, fa3)",
    ),
    (
        r"speculative_eagle_topk[^\n]*> 1[^\n]*(?:only supported|unstable)|only supports? topk ?= ?1 for speculative decoding"
        r"|Chain speculative sampling supports only topk=1",
        "this attention backend or way to accept cannot verify a tree of drafts",
        "use eagle_topk = 1, or another --attention-backend",
    ),
    (
        r"Unknown speculative algorithm name: (\S+)",
        "SGLang does not know the speculation method {1}",
        "use one that this release has, or install a newer SGLang",
    ),
    (
        r"has no attribute '(?:set_eagle3_layers_to_capture|set_dflash_layers_to_capture|get_embed_and_head)'",
        "this model hands out no hidden states for drafts in this engine",
        "use a method without hidden states (ngram, a draft model), or a release that supports the model",
    ),
    (
        r"has no attribute '(?:hot_token_id|set_embed|set_embed_and_head|draft_vocab_size)'",
        "what was given as the draft is no EAGLE3 draft in SGLang's notation",
        "check `model` in the speculative config; convert a draft with `draftsmith convert DRAFT OUT --to sglang`",
    ),
    (
        r"[Mm]odel architectures \[[^\]]*(?:Eagle3DraftModel|Eagle3Speculator|DFlashSpeculator|DFlashDraft)[^\]]*\] are not supported",
        "the draft is in another engine's notation, which SGLang does not read",
        "convert it: draftsmith convert DRAFT OUT --to sglang",
    ),
    (
        r"mat1 and mat2 shapes cannot be multiplied \((\w+) and (\w+)\)",
        "the draft was made for another number or width of hidden states ({1} and {2})",
        "lint the draft for this target: its layer ids and sizes",
    ),
    (
        r"draft model to share the same vocabulary as the target",
        "the draft model has another vocabulary than the target",
        "use a draft model with the target's tokenizer",
    ),
    (
        r"((?:External ngram corpus path does not exist|Invalid (?:JSON in )?external ngram corpus|External ngram corpus exceeds)[^\n]*)",
        "SGLang cannot use the n-gram corpus: {1}",
        "each line is one JSON string: the text of an earlier answer; ngram_external_corpus_max_tokens bounds their tokens",
    ),
    (
        r"speculative_ngram_external_sam_budget must be less than or equal to[^\n(]*\((\d+)\)",
        "the n-gram corpus may give no more than the {1} drafted tokens",
        "lower ngram_external_sam_budget, or raise num_speculative_tokens",
    ),
    (
        r"((?:Currently )?\w+ speculative decoding (?:only supports|does not support|requires)[^\n]*|"
        r"--speculative-[\w-]+ (?:is incompatible with|requires|is only supported|must be)[^\n]*|"
        r"--speculative-num-steps=\d+ is not in the adaptive config[^\n]*|"
        r"Both --speculative-num-draft-tokens and --speculative-dflash-block-size[^\n]*)",
        "SGLang refuses the speculative config: {1}",
        "correct the speculative config of this arm, or the flag that excludes it",
    ),
    (
        r"shared logits buffer holds (\d+) rows but caller needs (\d+)",
        "adaptive steps may draft more tokens than the server was started with (room for {1} rows of logits, {2} are needed)",
        "give the largest number of steps as num_speculative_tokens (7 by SGLang's own list), or name fewer in adaptive_config",
    ),
)


def diagnose(text: str, exit_code: int | None) -> Diagnosis:
    """Name the cause from a server's log and its exit code (None = still running)."""
    return diagnose_log(text, exit_code, OWN)

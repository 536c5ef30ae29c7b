"""A speculative config as SGLang's flags. Pure.

`method`, `model` and `num_speculative_tokens` (tokens drafted at once) mean what they mean for vLLM. Besides:

    eagle_topk, num_steps    the shape of a tree of drafts: branches of a step, steps; without them a chain
    adaptive                 true: the number of steps follows acceptance and load; adaptive_config: its file
    external_corpus          earlier answers as a draft without training: an access log, or JSON strings, one a line; the server is
                             given them once it runs
    ngram_external_corpus_path
                             the same as a file of JSON strings that the server itself reads when it starts
    ngram_external_sam_budget
                             how many of the drafted tokens either may give

Every other key is a flag of the same name: `ngram_max_trie_depth` becomes `--speculative-ngram-max-trie-depth`.
"""

from __future__ import annotations

import json
from typing import Any

from draftsmith.contract.errors import ConfigError
from draftsmith.contract.speculation import CORPUS, Speculation

ALGORITHMS = {
    "eagle": "EAGLE",
    "eagle3": "EAGLE3",
    "mtp": "NEXTN",
    "nextn": "NEXTN",
    "draft_model": "STANDALONE",
    "standalone": "STANDALONE",
    "ngram": "NGRAM",
    "dflash": "DFLASH",
    "dspark": "DSPARK",
}
STEPPED = frozenset({"EAGLE", "EAGLE3", "NEXTN", "STANDALONE"})  # they draft in steps of `topk` branches
NEEDS_MODEL = frozenset({"EAGLE", "EAGLE3", "STANDALONE", "DFLASH"})
ADAPTS = frozenset({"EAGLE", "EAGLE3", "NEXTN"})
SYNTHETIC, LENGTH = "rejection_sample_method", "synthetic_acceptance_length"
# vLLM's n-gram lookup, where SGLang keeps a trie instead; and what a variable says here.
ELSEWHERE = frozenset({"prompt_lookup_max", "prompt_lookup_min", SYNTHETIC, LENGTH, CORPUS})
ACCEPTED = "SGLANG_SIMULATE_ACC_LEN"  # tokens of a verify call, the certain one included, on average
CORPUS_FILE, BUDGET = "ngram_external_corpus_path", "ngram_external_sam_budget"
DEFAULT_BUDGET_SHARE = 2  # a corpus without a budget gets half of the drafted tokens


def speculation_flags(speculation: Speculation) -> list[str]:
    """The flags that say a speculative config. Raises ConfigError for one that contradicts itself."""
    algorithm = ALGORITHMS.get(speculation.method or "", (speculation.method or "").upper())
    rest = {key: value for key, value in speculation.rest.items() if key not in ELSEWHERE}
    _check(algorithm, speculation, rest)
    flags = ["--speculative-algorithm", algorithm]
    if speculation.draft:
        flags += ["--speculative-draft-model-path", speculation.draft]
    if algorithm in STEPPED:
        flags += _steps(speculation, rest)
    elif speculation.k is not None:
        flags += ["--speculative-num-draft-tokens", str(speculation.k + 1)]  # SGLang counts the verified token too
    if (rest.get(CORPUS_FILE) or speculation.corpus) and BUDGET not in rest:
        rest[BUDGET] = max(1, (speculation.k or 1) // DEFAULT_BUDGET_SHARE)
    for key, value in sorted(rest.items()):
        name = f"--speculative-{key.removeprefix('speculative_').replace('_', '-')}"
        if value is not False:
            flags += [name] if value is True else [name, value if isinstance(value, str) else json.dumps(value)]
    return flags


def variables(speculation: Speculation) -> dict[str, str]:
    """What a speculative config says by variables: drafts are accepted at a chosen rate, and answers are no answers then."""
    length = speculation.rest.get(LENGTH)
    return {ACCEPTED: f"{length:g}"} if speculation.rest.get(SYNTHETIC) == "synthetic" and length else {}


def _steps(speculation: Speculation, rest: dict[str, Any]) -> list[str]:
    """Steps, branches and tokens of a chain or a tree; none where the engine may choose. Takes its keys out of `rest`."""
    if speculation.k is None and "num_steps" not in rest:
        return []
    topk = int(rest.pop("eagle_topk", 1))
    steps = int(rest.pop("num_steps", speculation.k or 1))
    drafted = speculation.k or steps
    if topk == 1 and drafted != steps:
        raise ConfigError(
            f"a chain of {steps} steps drafts {steps} tokens, not {drafted}",
            "leave num_steps out, or give eagle_topk for a tree",
        )
    return [
        *("--speculative-num-steps", str(steps)),
        *("--speculative-eagle-topk", str(topk)),
        *("--speculative-num-draft-tokens", str(drafted + 1)),
    ]


def _check(algorithm: str, speculation: Speculation, rest: dict[str, Any]) -> None:
    """Refuse what SGLang would refuse a minute later, or would leave out with no more than a line in its log."""
    if algorithm in NEEDS_MODEL and not speculation.draft:
        raise ConfigError(
            f"speculation method {speculation.method} needs a draft", "give `model` in the speculative config"
        )
    tree = rest.get("eagle_topk", 1) != 1
    if algorithm not in STEPPED and (tree or "num_steps" in rest):
        raise ConfigError(
            f"{speculation.method} drafts at one stroke: SGLang overrides num_steps and eagle_topk",
            "leave both out, and give num_speculative_tokens",
        )
    if rest.get("adaptive") and (algorithm not in ADAPTS or tree):
        raise ConfigError(
            f"adaptive steps need a chain of EAGLE or EAGLE3, not {speculation.method}{' with a tree' if tree else ''}",
            "SGLang would switch them off; leave `adaptive` out, or eagle_topk",
        )
    if "adaptive_config" in rest and not rest.get("adaptive"):
        raise ConfigError("adaptive_config without adaptive says nothing", 'add "adaptive": true')
    if speculation.corpus and rest.get(CORPUS_FILE):
        raise ConfigError(f"{CORPUS} and {CORPUS_FILE} are two corpora", "give one of them")
    if (speculation.corpus or any(key.startswith("ngram_") for key in rest)) and algorithm != "NGRAM":
        raise ConfigError(
            f"ngram_... settings and {CORPUS} are of the method ngram, not of {speculation.method}", "leave them out"
        )
    block = rest.get("dflash_block_size") or rest.get("dspark_block_size")
    wanted = None if speculation.k is None else speculation.k + (algorithm == "DFLASH")
    if block is not None and wanted is not None and int(block) != wanted:
        raise ConfigError(
            f"a block of {block} and {speculation.k} speculative tokens contradict each other",
            "give num_speculative_tokens alone",
        )
    if rest.get("use_rejection_sampling") and (tree or any(key.startswith("accept_threshold") for key in rest)):
        raise ConfigError(
            "use_rejection_sampling excludes a tree and accept_threshold_...", "choose one way to accept drafts"
        )

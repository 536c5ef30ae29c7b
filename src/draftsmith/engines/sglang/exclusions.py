"""What excludes what in SGLang, beyond the keys of a speculative config (flags.py): releases, steps, and the engine's flags.

SGLang refuses some of it a minute after the start, and switches some of it off with one line in its log. Pure, but for the
file that adaptive steps may name.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

from draftsmith.contract.errors import ConfigError, InputError, PrerequisiteError
from draftsmith.contract.speculation import CORPUS, Speculation
from draftsmith.engines.base import Features
from draftsmith.engines.sglang.flags import ALGORITHMS, BUDGET, CORPUS_FILE

ADAPTIVE, ADAPTIVE_FILE = "adaptive", "adaptive_config"
# Switches that turn adaptive steps off again without an error.
STILL = frozenset(
    {"--enable-dp-attention", "--enable-two-batch-overlap", "--enable-pdmux", "--enable-multi-layer-eagle"}
)
# Algorithm -> switches with which SGLang does not start.
REFUSED = {
    "STANDALONE": frozenset({"--enable-dp-attention"}),
    "NGRAM": frozenset({"--enable-dp-attention"}),
}
ONE_STAGE = frozenset({"DFLASH", "DSPARK"})  # no pipeline of several stages
TREE_BACKENDS = frozenset({"flashinfer", "fa3", "triton"})  # those that verify a tree over pages of several tokens


def require_possible(speculation: Speculation, flags: Sequence[str], known: Features) -> None:
    """Raise ConfigError, InputError or PrerequisiteError for a config that this release or these flags exclude."""
    _release(speculation, known)
    _steps(speculation, known)
    _budget(speculation)
    given = named(flags)
    algorithm = ALGORITHMS.get(speculation.method or "", "")
    excluded = set(given) & REFUSED.get(algorithm, frozenset())
    if speculation.rest.get(ADAPTIVE):
        excluded |= set(given) & STILL
    if algorithm in ONE_STAGE and given.get("--pp-size", given.get("--pipeline-parallel-size", "1")) != "1":
        excluded.add("--pp-size")
    if speculation.rest.get("use_rejection_sampling") and "--enable-deterministic-inference" in given:
        excluded.add("--enable-deterministic-inference")
    if int(speculation.rest.get("eagle_topk", 1)) > 1:
        excluded |= _against_a_tree(given)
    if excluded:
        label = "adaptive steps" if speculation.rest.get(ADAPTIVE) else f"method {speculation.method}"
        raise ConfigError(
            f"{label} and {', '.join(sorted(excluded))} exclude each other in SGLang", "leave one of them out"
        )


def _release(speculation: Speculation, known: Features) -> None:
    lacking = []
    if speculation.rest.get(ADAPTIVE) and not known.adaptive_steps:
        lacking.append("adaptive steps")
    if (speculation.corpus or speculation.rest.get(CORPUS_FILE)) and not known.corpus:
        lacking.append("a corpus of earlier answers")
    if lacking:
        raise PrerequisiteError(
            f"SGLang {known.release} has no {' and no '.join(lacking)}", "install SGLang 0.5.13 or newer"
        )


def _steps(speculation: Speculation, known: Features) -> None:
    """The first number of steps has to be one between which SGLang may move, and the most where it keeps no room for more."""
    steps = adaptive_steps(speculation, known)
    if not steps or speculation.k is None:
        return
    allowed = steps if known.adaptive_room else steps[-1:]
    if speculation.k not in allowed:
        why = "" if known.adaptive_room else f"; SGLang {known.release} keeps no room for more than it begins with"
        raise ConfigError(
            f"adaptive steps move between {', '.join(map(str, steps))}, and cannot begin with {speculation.k}{why}",
            f"give num_speculative_tokens = {allowed[-1]}, or leave it out",
        )


def adaptive_steps(speculation: Speculation, known: Features) -> tuple[int, ...] | None:
    """The numbers of steps between which a config moves, ascending; None if it does not, or its file is not here."""
    if not speculation.rest.get(ADAPTIVE):
        return None
    file = speculation.rest.get(ADAPTIVE_FILE)
    return known.adaptive_steps if file is None else _steps_of(Path(str(file)))


def _steps_of(file: Path) -> tuple[int, ...] | None:
    """The candidates of every batch size in a file of adaptive steps; None for one that is not here. Raises InputError."""
    try:
        result: Any = json.loads(file.read_bytes())
        return tuple(
            sorted({step for size, entry in result.items() if size.isdigit() for step in entry["candidate_steps"]})
        )
    except FileNotFoundError:
        return None
    except (OSError, ValueError, LookupError, AttributeError, TypeError):
        raise InputError(
            f"{file.name} is no file of adaptive steps", 'it looks like {"1": {"candidate_steps": [1, 3, 7]}}'
        ) from None


def _budget(speculation: Speculation) -> None:
    budget = speculation.rest.get(BUDGET)
    if isinstance(budget, int) and speculation.k is not None and not 0 <= budget <= speculation.k:
        raise ConfigError(
            f"of {speculation.k} drafted tokens, {BUDGET} = {budget} cannot come from {CORPUS}",
            "lower it, or raise num_speculative_tokens",
        )


def _against_a_tree(given: dict[str, str]) -> set[str]:
    backend, page = given.get("--attention-backend"), given.get("--page-size", "1")
    if backend == "trtllm_mha" or (page != "1" and backend is not None and backend not in TREE_BACKENDS):
        return {"--attention-backend"}
    return set()


def named(flags: Sequence[str]) -> dict[str, str]:
    """The flags among words with their values, an empty one for a switch."""
    names = {}
    for word, following in pairwise((*flags, "")):
        if word.startswith("--"):
            name, given, value = word.partition("=")
            names[name.replace("_", "-")] = value if given else "" if following.startswith("--") else following
    return names

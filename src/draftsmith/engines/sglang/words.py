"""The words of an SGLang container. Pure; see engines.container_command.

Forms that are met: `python -m sglang.launch_server --model-path MODEL ...` and `sglang serve ...`, each also inside
`sh -c '...'`. SGLang's images start no server by themselves, so flags alone are not read.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Mapping, Sequence
from typing import Any

from draftsmith.contract.errors import InputError
from draftsmith.contract.speculation import CORPUS, DRAFT, METHOD, K, SpecConfig, read
from draftsmith.engines import container_command
from draftsmith.engines.container_command import ContainerCommand, Flag, python_runs, refused
from draftsmith.engines.sglang.command import MODULE, OWN_MODELS
from draftsmith.engines.sglang.exclusions import named
from draftsmith.engines.sglang.flags import ALGORITHMS, STEPPED, speculation_flags

SPECULATIVE = "--speculative-"
ALGORITHM, DRAFTS = (
    ("--speculative-algorithm", "--speculative-algo"),
    ("--speculative-draft-model-path", "--speculative-draft-model"),
)
STEPS, TOPK, TOKENS = "num_steps", "eagle_topk", "num_draft_tokens"
METHODS = {"NEXTN": "mtp", "STANDALONE": "draft_model"} | {
    name: method for method, name in ALGORITHMS.items() if name not in ("NEXTN", "STANDALONE")
}


class SglangDialect:
    """See container_command.Dialect."""

    name, title = "sglang", "SGLang"
    counter_flags = ("--enable-metrics",)
    default_port = 30000
    model_flags = ("--model-path", "--model")
    many_values = frozenset(
        {"--lora-paths", "--lora-target-modules", "--cuda-graph-bs", "--cuda-graph-bs-decode", "--cuda-graph-bs-prefill",
         "--bucket-time-to-first-token", "--bucket-inter-token-latency", "--bucket-e2e-request-latency"}
    )  # fmt: skip

    def module(self) -> str:
        """See Dialect."""
        return MODULE

    def is_server(self, words: Sequence[str]) -> bool:
        """See Dialect."""
        return list(words[1:2]) == ["serve"] if posixpath.basename(words[0]) == "sglang" else python_runs(MODULE, words)

    def bare(self, args: Sequence[str]) -> int | None:
        """See Dialect."""
        return None

    def is_spec(self, flag: str) -> bool:
        """See Dialect."""
        return flag.startswith(SPECULATIVE)

    def spec_config(self, flags: Sequence[Flag]) -> SpecConfig:
        """See Dialect: the reverse of `flags.speculation_flags`."""
        given: dict[str, Any] = {}
        for item in flags:
            if not self.is_spec(item.flag):
                continue
            if item.word.variable or "$(" in (item.value or ""):
                raise refused(f"the value of {item.flag} is a variable", "write the value itself")
            if (name := _key(item.flag)) in given:
                raise refused(f"{item.flag} is there more than once", "leave one of them")
            given[name] = item.value if name in (METHOD, DRAFT) else _value(item.value)
        return _spec_config(given)

    def spec_words(self, config: SpecConfig) -> list[str]:
        """See Dialect."""
        given = read(config, "sglang")
        words = [] if given is None else speculation_flags(given)
        if given is not None and given.corpus:
            raise InputError(
                f"{CORPUS} is given to servers that are started here; a deployment reads a file when it starts",
                "write the answers as JSON strings on a volume that it mounts, and name them in ngram_external_corpus_path",
            )
        if any("$(" in word for word in words):
            raise InputError("the speculative config holds '$(', which Kubernetes expands", "rename the draft's folder")
        return words

    def variable_for(self, draft: Mapping[str, Any]) -> str | None:
        """See Dialect: its own class of EAGLE3 drafts does not read one key."""
        return OWN_MODELS if draft.get("norm_before_residual") else None


DIALECT = SglangDialect()


def own_config(words: Sequence[str]) -> SpecConfig:
    """What the words of a user's own command say of speculation. Raises InputError if they name no algorithm."""
    flags = {flag: value for flag, value in named(words).items() if flag.startswith(SPECULATIVE)}
    texts = {_key(flag): value or None for flag, value in flags.items()}
    return _spec_config({name: text if name in (METHOD, DRAFT) else _value(text) for name, text in texts.items()})


def read_command(command: list[str], args: list[str]) -> ContainerCommand:
    """Parse the command of a container. Raises InputError."""
    return container_command.read_command(DIALECT, command, args, image=False)


def _key(flag: str) -> str:
    name = {**dict.fromkeys(ALGORITHM, METHOD), **dict.fromkeys(DRAFTS, DRAFT)}.get(flag)
    return name or flag.removeprefix(SPECULATIVE).replace("-", "_")


def _spec_config(given: dict[str, Any]) -> SpecConfig:
    if not given:
        return None
    if not isinstance(given.get(METHOD), str):
        raise refused("it speculates and names no --speculative-algorithm", "give it, or leave the other flags out")
    return _config(str(given.pop(METHOD)).upper(), given)


def _value(text: str | None) -> Any:
    """A flag's value as JSON has it, so that it is written the same again; a flag without one is true."""
    if text is None:
        return True
    try:
        content = json.loads(text)
    except ValueError:
        return text
    return content if isinstance(content, int | float) and json.dumps(content) == text else text


def _config(algorithm: str, given: dict[str, Any]) -> dict[str, Any]:
    """Keys of a speculative config from SGLang's: it counts the verified token too, and steps apart from branches."""
    result: dict[str, Any] = {METHOD: METHODS.get(algorithm, algorithm.lower())}
    tokens = given.pop(TOKENS, None)
    if isinstance(tokens, int):
        result[K] = tokens - 1
    elif tokens is not None:
        raise refused(f"--speculative-num-draft-tokens is {tokens!r}, not a number", "write it as a number")
    if algorithm in STEPPED and given.get(TOPK, 1) == 1:
        steps = given.pop(STEPS, None)
        given.pop(TOPK, None)
        if isinstance(steps, int):
            result[K] = steps  # a chain: SGLang sets the number of tokens from the steps
    return result | given

"""The words of a vLLM container. Pure; see engines.container_command.

Forms that are met: `vllm serve MODEL ...`, `python -m vllm.entrypoints.openai.api_server ...`, flags alone where the
image starts vLLM itself, and each of them inside `sh -c '...'`.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Mapping, Sequence
from typing import Any

from draftsmith.contract.errors import InputError
from draftsmith.contract.speculation import SpecConfig
from draftsmith.engines import container_command
from draftsmith.engines.container_command import ContainerCommand, Flag, python_runs, refused

SPEC_FLAGS = frozenset({"--speculative-config", "-sc"})
# Other spellings of speculation: read by vLLM, not rewritten here.
SPEC_OTHERS = re.compile(
    r"--(spec-method|spec-model|spec-tokens|speculative-(model|draft|max|disable|token)[\w-]*|num-speculative-tokens|num-lookahead-slots)"
)
MODULE = "vllm.entrypoints.openai.api_server"


class VllmDialect:
    """See container_command.Dialect."""

    name, title = "vllm", "vLLM"
    counter_flags = ()
    default_port = 8000
    model_flags = ("--model",)
    many_values = frozenset(
        {"--served-model-name", "--lora-modules", "--cuda-graph-sizes", "--cudagraph-capture-sizes", "--middleware",
         "--allowed-origins", "--allowed-methods", "--allowed-headers", "--api-key"}
    )  # fmt: skip

    def module(self) -> str:
        """See Dialect."""
        return MODULE

    def is_server(self, words: Sequence[str]) -> bool:
        """See Dialect."""
        return list(words[1:2]) == ["serve"] if posixpath.basename(words[0]) == "vllm" else python_runs(MODULE, words)

    def bare(self, args: Sequence[str]) -> int | None:
        """See Dialect. Flags alone: the image's entry point is the server. A first word without a dash is the model, or a program."""
        if list(args[:2]) == ["vllm", "serve"] or (args and re.fullmatch(r"python[\d.]*", args[0])):
            return None
        return 1 if args and not args[0].startswith("-") else 0

    def is_spec(self, flag: str) -> bool:
        """See Dialect."""
        return flag in SPEC_FLAGS

    def spec_config(self, flags: Sequence[Flag]) -> SpecConfig:
        """See Dialect."""
        given = [(item.value, item.word) for item in flags if item.flag in SPEC_FLAGS]
        dotted = [item.flag for item in flags if item.flag.startswith("--speculative-config.")]
        others = [item.flag for item in flags if SPEC_OTHERS.fullmatch(item.flag)]
        if dotted or others:
            raise refused(f"it uses {(dotted + others)[0]}", "write it as one --speculative-config JSON")
        if len(given) > 1:
            raise refused("--speculative-config is there more than once", "leave one of them")
        if not given:
            return None
        value, word = given[0]
        if value is None or word.variable or "$(" in value:
            raise refused("the value of --speculative-config is a variable", "write the JSON itself")
        try:
            config = json.loads(value)
        except ValueError:
            config = ""
        if config is not None and not isinstance(config, dict):
            raise refused("--speculative-config is not a JSON object", "correct it")
        return config

    def spec_words(self, config: SpecConfig) -> list[str]:
        """See Dialect: the flag and its JSON."""
        return [] if config is None else ["--speculative-config", compact(config)]

    def variable_for(self, draft: Mapping[str, Any]) -> str | None:
        """See Dialect."""
        return None


DIALECT = VllmDialect()


def read_command(command: list[str], args: list[str], *, vllm_image: bool) -> ContainerCommand:
    """Parse the command of a container. `vllm_image`: the image is known to start vLLM without a command. Raises InputError."""
    return container_command.read_command(DIALECT, command, args, image=vllm_image)


def compact(config: dict[str, Any]) -> str:
    """The JSON that goes into the arguments. Raises InputError for text that Kubernetes would expand."""
    text = json.dumps(config, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    if "$(" in text:
        raise InputError("the speculative config holds '$(', which Kubernetes expands", "rename the draft's folder")
    return text

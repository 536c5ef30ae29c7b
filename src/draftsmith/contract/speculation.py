"""What a speculative configuration says. `None` stands for no speculation.

A speculative config is the JSON object that vLLM takes with `--speculative-config`; for another engine its adapter
translates the same keys into flags. Only `method`, `model` and `num_speculative_tokens` are read here; everything else
is the engine's own and is kept as it is.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from pydantic import Field

from draftsmith.contract.base import Frozen

SpecConfig = dict[str, Any] | None
METHOD, DRAFT, K = "method", "model", "num_speculative_tokens"
CORPUS = "external_corpus"
"""A file of earlier answers that a server is given once it runs, to draft from: an access log, or JSON strings, one a line."""
WITHOUT_DRAFT = frozenset({"ngram", "ngram_gpu", "suffix"})


class Speculation(Frozen):
    """A speculative config, read. Whatever is of a wrong type counts as not said: the engine will refuse it in its words."""

    method: str | None = None
    k: int | None = Field(None, description="tokens drafted at once")
    draft: str | None = Field(None, description="folder or name of the draft model")
    rest: dict[str, Any] = Field(default_factory=dict, description="the engine's other keys")

    @property
    def has_draft(self) -> bool:
        """Whether a trained draft may be behind it; a method that is not said may have one."""
        return self.method not in WITHOUT_DRAFT

    @property
    def corpus(self) -> str | None:
        """The file of earlier answers that it drafts from; None = none."""
        file = self.rest.get(CORPUS)
        return file if isinstance(file, str) else None

    @property
    def family(self) -> tuple[str | None, str | None]:
        """Method and draft: what one server keeps when only the length changes."""
        return self.method, self.draft

    @property
    def config(self) -> dict[str, Any]:
        """The speculative config again."""
        keys = {METHOD: self.method, DRAFT: self.draft, K: self.k}
        return {key: value for key, value in keys.items() if value is not None} | self.rest


class _Words(Frozen):
    """How an engine's command line spells speculation."""

    config: frozenset[str] = frozenset()
    method: frozenset[str] = frozenset()
    draft: frozenset[str] = frozenset()
    k: frozenset[str] = frozenset()
    verified: int = 0
    """What the number of draft tokens counts besides the drafted ones."""
    names: dict[str, str] = Field(default_factory=dict, description="the engine's names of methods, where they differ")

    @property
    def all(self) -> frozenset[str]:
        return self.config | self.method | self.draft | self.k


_WORDS = {
    "vllm": _Words(
        config=frozenset({"--speculative-config", "-sc"}),
        method=frozenset({"--spec-method"}),
        draft=frozenset({"--spec-model"}),
        k=frozenset({"--spec-tokens"}),
    ),
    "sglang": _Words(
        method=frozenset({"--speculative-algorithm", "--speculative-algo"}),
        draft=frozenset({"--speculative-draft-model-path", "--speculative-draft-model"}),
        k=frozenset({"--speculative-num-draft-tokens"}),
        verified=1,
        names={"standalone": "draft_model", "nextn": "mtp"},
    ),
}


def read(spec_config: SpecConfig, engine: str = "vllm") -> Speculation | None:
    """What a speculative config says; None = off. `engine`: the one it is for; all take the same three keys today."""
    if spec_config is None:
        return None
    method, draft, k = (spec_config.get(key) for key in (METHOD, DRAFT, K))
    rest = {key: value for key, value in spec_config.items() if key not in (METHOD, DRAFT, K)}
    return Speculation(
        method=method if isinstance(method, str) else None,
        k=k if isinstance(k, int) and not isinstance(k, bool) else None,
        draft=draft if isinstance(draft, str) else None,
        rest=rest,
    )


def read_words(words: Sequence[str], engine: str = "vllm") -> Speculation | None:
    """What the words of a server's command say; None if no word speaks of speculation."""
    flags = _WORDS[engine]
    fields: dict[str, Any] = {}
    spoken = False
    for word, following in pairwise((*words, "")):
        name, given, text = word.partition("=")
        value = text if given else following
        spoken = spoken or name in flags.all
        if name in flags.config:
            fields |= _object(value)
        elif name in flags.method:
            fields[METHOD] = flags.names.get(value.lower(), value.lower())
        elif name in flags.draft:
            fields[DRAFT] = value
        elif name in flags.k:
            fields[K] = int(value) - flags.verified if value.isdigit() else None
    return read(fields, engine) if spoken else None


def _object(text: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}

"""What the stand-in answers: rendering, greedy decoding, a log of real requests."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from vllm.tiny_llama import TinyLlama

START, END = "<|start|>", "<|end|>"


class Model:
    """Tokenizer and weights of one folder."""

    def __init__(self, folder: Path) -> None:
        self.llama = TinyLlama(folder)
        self.tokenizer: Any = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.end = self.tokenizer.token_to_id(END)
        self.memory = folder / "answers"

    def prompt(self, body: dict[str, Any]) -> list[int]:
        if "messages" not in body:
            return list(body["prompt"])
        turns = "".join(f"{START}{turn['role']}\n{turn['content']}{END}\n" for turn in body["messages"])
        return list(self.tokenizer.encode(f"{turns}{START}assistant\n", add_special_tokens=False).ids)

    def remembered(self, prompt: list[int], limit: int) -> list[int] | None:
        """The greedy answer from an earlier start, so that times do not depend on what else the machine does."""
        with contextlib.suppress(OSError, ValueError):
            found: list[int] = json.loads(self._place(prompt).read_text())
            if len(found) >= limit or found[-1] == self.end:
                return found[:limit]
        return None

    def remember(self, prompt: list[int], output: list[int]) -> None:
        place = self._place(prompt)
        if self.remembered(prompt, len(output)) is None:
            place.parent.mkdir(exist_ok=True)
            part = place.with_suffix(f".{os.getpid()}.{id(output)}")
            part.write_text(json.dumps(output))
            part.rename(place)

    def _place(self, prompt: list[int]) -> Path:
        return self.memory / f"{hashlib.sha256(json.dumps(prompt).encode()).hexdigest()}.json"

    def text(self, ids: list[int]) -> str:
        return str(self.tokenizer.decode(ids, skip_special_tokens=True))


class Decoding:
    """One request: greedy tokens as they are asked for, and the residual stream of every token that was fed."""

    def __init__(self, model: Model, prompt: list[int], limit: int, known: list[int] | None = None) -> None:
        self.model, self.prompt, self.limit, self.known = model, prompt, limit, known
        self.output: list[int] = []
        self.finish: str | None = None
        self.streams: list[np.ndarray] = []
        self._cache: list[Any] = []

    def tokens(self) -> Iterator[int]:
        feed = self.prompt
        while self.finish is None:
            if self.known is None:
                logits, stream = self.model.llama.step(feed, self._cache)
                self.streams.append(stream)
            token = int(logits.argmax()) if self.known is None else self.known[len(self.output)]
            self.output.append(token)
            if token == self.model.end:
                self.finish = "stop"
            elif len(self.output) >= self.limit:
                self.finish = "length"
            feed = [token]
            yield token
        if self.known is None:
            self.model.remember(self.prompt, self.output)

    def fed(self) -> tuple[list[int], np.ndarray]:
        """Ids that were fed to the model, and their states [T, layers + 1, H]."""
        return [*self.prompt, *self.output[:-1]], np.concatenate(self.streams)


def say(text: str) -> None:
    print(text, file=sys.stdout, flush=True)

"""A little chat service: a byte-level tokenizer with turn markers, and a log of what it answered."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from draftsmith.contract.access import AccessRecord, SpecStats, Timing
from draftsmith.contract.config import CorpusConfig
from draftsmith.contract.corpus import CorpusManifest
from draftsmith.contract.draft import TargetFacts
from draftsmith.corpus.build import build_corpus

START, END, VOCAB = "<|start|>", "<|end|>", 300
WORDS = (
    "river", "stone", "market", "winter", "lamp", "garden", "ticket", "engine", "paper", "coffee",
    "window", "bridge", "doctor", "island", "mirror", "candle", "forest", "harbour", "kitchen", "ladder",
    "meadow", "needle", "orchard", "pillow", "quarry", "ribbon", "saddle", "tunnel", "valley", "wagon",
)  # fmt: skip


def write_tokenizer(folder: Path) -> Path:
    """256 byte tokens, <|start|> and <|end|>."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    tokenizer = Tokenizer(
        models.BPE(vocab={c: i for i, c in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}, merges=[])
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(text, special=True, normalized=False) for text in (START, END)])
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


class Service:
    """Renders messages as the engine would, and logs requests a second apart."""

    def __init__(self, folder: Path) -> None:
        from tokenizers import Tokenizer

        self.folder = write_tokenizer(folder)
        self.tokenizer: Any = Tokenizer.from_file(str(folder / "tokenizer.json"))
        self.target = TargetFacts(
            path=str(folder), architecture="LlamaForCausalLM", model_type="llama", num_layers=4, hidden_size=8,
            vocab_size=VOCAB, max_position_embeddings=4096, dtype="bfloat16", weight_bytes=1, sha256="target",
            tokenizer_sha256="tokenizer",
        )  # fmt: skip
        self.log: list[AccessRecord] = []

    def ids(self, text: str) -> list[int]:
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def render(self, messages: list[dict[str, Any]]) -> list[int]:
        turns = "".join(f"{START}{m['role']}\n{m['content']}{END}\n" for m in messages)
        return self.ids(f"{turns}{START}assistant\n")

    def ask(self, *turns: str, answer: str, system: str | None = None, **changes: Any) -> AccessRecord:
        """Log one request; `turns` alternate user and assistant and end with the user."""
        messages = [{"role": "system", "content": system}] if system else []
        messages += [{"role": "assistant" if n % 2 else "user", "content": text} for n, text in enumerate(turns)]
        fields: dict[str, Any] = {
            "id": f"r{len(self.log)}", "messages": messages, "completion": answer, "finish_reason": "stop",
            "prompt_token_ids": self.render(messages), "output_token_ids": self.ids(answer + END),
            "timing": Timing(start_unix_s=1_000_000.0 + len(self.log)), "params": {"max_tokens": 64, "temperature": 0},
        }  # fmt: skip
        record = AccessRecord(**{**fields, **changes})
        self.log.append(record)
        return record

    def chatter(self, count: int, seed: int = 0, **changes: Any) -> None:
        """Unrelated requests of random words."""
        draw = random.Random(seed)
        for _ in range(count):
            question, answer = (" ".join(draw.choices(WORDS, k=12)) for _ in range(2))
            spec = SpecStats(drafts=10, draft_tokens=30, accepted_tokens=draw.randrange(31))
            self.ask(question, answer=answer, system="Answer briefly.", **{"spec": spec, **changes})

    def build(self, out: Path, config: CorpusConfig | None = None, **options: Any) -> CorpusManifest:
        return build_corpus(
            self.log, out, target=self.target, tokenizer_path=self.folder, config=config or CorpusConfig(), **options
        )

"""The served model's tokenizer and chat template: counts, ids, prompts as the engine would see them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from draftsmith.contract.errors import InputError
from draftsmith.traffic.pieces import PieceCounter

Messages = Sequence[dict[str, Any]]


@dataclass
class Counter:
    """Counts tokens of texts with one tokenizer, in one process."""

    tokenizer: Any
    name: str
    vocab_size: int
    template: Any = None
    _pieces: PieceCounter = field(init=False)

    def __post_init__(self) -> None:
        self._pieces = PieceCounter(self.tokenizer)

    def count(self, text: str) -> int:
        """Tokens of `text`, special tokens inside it included, none added."""
        return self._pieces.count([text])[0]

    def count_all(self, texts: Sequence[str]) -> list[int]:
        """`count` of many texts: what is new in them is encoded together, so give as many at once as memory allows."""
        return self._pieces.count(texts)

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`, none added."""
        return list(self.tokenizer.encode(text, add_special_tokens=False).ids)

    def render(self, messages: Messages) -> str:
        """The prompt as the chat template writes it; the contents joined by newlines where there is no template."""
        if self.template is not None:
            try:
                return str(self.template.render(messages=list(messages), add_generation_prompt=True))
            except Exception:  # noqa: S110  # a template may raise anything on shapes it does not know
                pass
        return "\n".join(content(message) for message in messages)


def content(message: dict[str, Any]) -> str:
    """The text of one message, parts joined; empty if it has none."""
    said = message.get("content")
    if isinstance(said, str):
        return said
    if isinstance(said, list):
        return "\n".join(str(part.get("text") or "") if isinstance(part, dict) else str(part) for part in said)
    return ""


def load_counter(path: Path) -> Counter:
    """Read tokenizer.json from a file or its folder, with the chat template beside it. Raises InputError."""
    file = path / "tokenizer.json" if path.is_dir() else path
    try:
        raw = file.read_bytes()
    except OSError:
        raise InputError(
            f"no tokenizer at {file.name!r}", "give --tokenizer a tokenizer.json or a folder with one"
        ) from None
    from tokenizers import Tokenizer

    try:
        tokenizer = Tokenizer.from_str(raw.decode("utf-8"))
    except Exception as error:  # the library raises bare Exception
        raise InputError(
            f"{file.name} is not a tokenizer: {error}", "give a tokenizer.json of Hugging Face kind"
        ) from None
    tokenizer.no_padding()
    tokenizer.no_truncation()
    name = f"{file.parent.name or file.name} sha256:{hashlib.sha256(raw).hexdigest()[:16]}"
    template = _template(file.parent)
    described = name if template is not None else f"{name} (no chat template)"
    return Counter(tokenizer, described, tokenizer.get_vocab_size(with_added_tokens=True), template)


def _template(folder: Path) -> Any:
    """The chat template, compiled in a sandbox; None if there is none that compiles."""
    source, special = _template_source(folder)
    if source is None:
        return None
    from jinja2.exceptions import TemplateError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    def refuse(message: str) -> str:
        raise TemplateError(message)

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    environment.globals |= {"raise_exception": refuse, "strftime_now": lambda _: "2025-01-01", **special}
    environment.filters["tojson"] = lambda value, **_: json.dumps(value, ensure_ascii=False)
    try:
        return environment.from_string(source)
    except TemplateError:
        return None


def _template_source(folder: Path) -> tuple[str | None, dict[str, str]]:
    try:
        settings = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        settings = {}
    special = {}
    for key in ("bos_token", "eos_token", "unk_token", "pad_token"):
        value = settings.get(key)
        special[key] = value.get("content", "") if isinstance(value, dict) else (value or "")
    source = settings.get("chat_template")
    if isinstance(source, list):
        source = next((one.get("template") for one in source if one.get("name") == "default"), None)
    beside = folder / "chat_template.jinja"
    if source is None and beside.exists():
        source = beside.read_text(encoding="utf-8")
    return source, special


def check_ids(counter: Counter, ids: Sequence[int], said: str | None, seen: list[bool]) -> None:
    """Refuse a tokenizer that did not make the log's own ids. `seen` collects agreement over records.

    Raises InputError if an id lies outside the vocabulary, or if decoded answers keep disagreeing with the logged text.
    """
    advice = "give --tokenizer the served model's own tokenizer.json"
    if ids and max(ids) >= counter.vocab_size:
        raise InputError(
            f"the log holds token id {max(ids)}, but the tokenizer knows only {counter.vocab_size}: it is another model's",
            advice,
        )
    if said is None or not ids or len(seen) >= 50:
        return
    decoded = counter.tokenizer.decode(list(ids), skip_special_tokens=True)
    seen.append(_close(decoded.strip(), said.strip()))
    if len(seen) >= 5 and sum(seen) < 0.5 * len(seen):
        raise InputError("the tokenizer decodes the log's token ids to other text: it is another model's", advice)


def _close(decoded: str, said: str) -> bool:
    """Equal, or one inside the other: stop strings and reasoning parts may be cut from the logged text."""
    return decoded == said or (bool(said) and (said in decoded or decoded[:40] == said[:40]))

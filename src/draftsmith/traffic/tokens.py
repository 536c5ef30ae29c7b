"""The served model's tokenizer and chat template: counts, ids, prompts as the engine would see them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from draftsmith.contract.errors import InputError
from draftsmith.traffic.agreement import agrees
from draftsmith.traffic.pieces import PieceCounter

Messages = Sequence[dict[str, Any]]
COMPARED_RECORDS = 50


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

    def decode(self, ids: Sequence[int], leave_out_special: bool) -> str:
        """The text of token ids."""
        return str(self.tokenizer.decode(list(ids), skip_special_tokens=leave_out_special))

    def render(self, messages: Messages, tools: Any = None) -> str:
        """The prompt as the chat template writes it; the contents joined by newlines where there is no template."""
        if self.template is not None:
            try:
                request = {"tools": tools} if tools else {}
                listed = [templated(message) for message in messages]
                return str(self.template.render(messages=listed, add_generation_prompt=True, **request))
            except Exception:  # noqa: S110  # a template may raise anything on shapes it does not know
                pass
        return "\n".join(content(message) for message in messages)


def templated(message: dict[str, Any]) -> dict[str, Any]:
    """A message as engines hand it to a template: text parts joined, arguments of calls as objects."""
    calls = message.get("tool_calls")
    if not calls and type(message.get("content")) is str:
        return message
    made = {**message, "content": content({**message, "tool_calls": None})}
    if isinstance(calls, list):
        made["tool_calls"] = [_call(call) for call in calls]
    return made


def _call(call: Any) -> Any:
    function = call.get("function") if isinstance(call, dict) else None
    written = function.get("arguments") if isinstance(function, dict) else None
    if not isinstance(function, dict) or not isinstance(written, str):
        return call
    try:
        return {**call, "function": {**function, "arguments": json.loads(written)}}
    except (ValueError, RecursionError):
        return call


def content(message: dict[str, Any]) -> str:
    """All text of one message: its parts joined, and the calls in it; empty if it has none."""
    text = message.get("content")
    if isinstance(text, list):
        text = "\n".join(str(part.get("text") or "") if isinstance(part, dict) else str(part) for part in text)
    text = text if isinstance(text, str) else ""
    calls = message.get("tool_calls")
    if isinstance(calls, list) and calls:
        written = [
            json.dumps(call.get("function", call), ensure_ascii=False) for call in calls if isinstance(call, dict)
        ]
        text = "\n".join([text, *written] if text else written)
    return text


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
        source = next((item.get("template") for item in source if item.get("name") == "default"), None)
    beside = folder / "chat_template.jinja"
    if source is None and beside.exists():
        source = beside.read_text(encoding="utf-8")
    return source, special


@dataclass
class IdCheck:
    """Tells a tokenizer that did not make the log's own ids. Counts over records; the majority decides, not one record."""

    agreed: int = 0
    disagreed: int = 0
    inside: int = 0
    outside: int = 0
    highest: int = 0

    def look(self, counter: Counter, fields: Mapping[str, Any]) -> bool:
        """Whether the ids of a record can be used. Raises InputError once most records speak against the tokenizer."""
        both = [ids for key in ("prompt_token_ids", "output_token_ids") if (ids := fields.get(key))]
        if not both:
            return True
        top = max(map(max, both))
        if top >= counter.vocab_size:
            self.outside, self.highest = self.outside + 1, max(self.highest, top)
            self.judge(counter.vocab_size, least=5)
            return False
        self.inside += 1
        if self.agreed + self.disagreed < COMPARED_RECORDS:
            same = agrees(
                fields.get("completion"), fields.get("answer"), fields.get("output_token_ids"), counter.decode
            )
            self.agreed, self.disagreed = self.agreed + (same is True), self.disagreed + (same is False)
            self.judge(counter.vocab_size, least=5)
        return True

    def add(self, other: IdCheck) -> None:
        """Take in the counts of another process."""
        self.agreed, self.disagreed = self.agreed + other.agreed, self.disagreed + other.disagreed
        self.inside, self.outside = self.inside + other.inside, self.outside + other.outside
        self.highest = max(self.highest, other.highest)

    def judge(self, vocab_size: int, least: int = 1) -> None:
        """Raise InputError if most of at least `least` records speak against the tokenizer."""
        advice = "give --tokenizer the served model's own tokenizer.json"
        if self.outside > self.inside and self.outside + self.inside >= least:
            raise InputError(
                f"the log holds token id {self.highest}, but the tokenizer knows only {vocab_size}: it is another model's",
                advice,
            )
        if self.disagreed > self.agreed and self.agreed + self.disagreed >= 5:
            raise InputError("the tokenizer decodes the log's token ids to other text: it is another model's", advice)

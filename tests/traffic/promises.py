"""What every importer promises of any document, and of a faithful one."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from draftsmith.contract.access import AccessRecord
from draftsmith.contract.errors import InputError
from draftsmith.traffic.importers import detect, keeps_record, read_records
from draftsmith.traffic.importers.catalog import find
from draftsmith.traffic.importers.parameters import CHECKS
from draftsmith.traffic.importers.reading import shape_of
from draftsmith.traffic.importers.wrappers import unwrapped

from .mutating import MAX_BYTES
from .written import Format, Talk

NO_LOSS = frozenset({"session entry that is no message", "trace without a generation", "no model call among the spans"})
_REASON = re.compile(r"[A-Za-z0-9 ,.:'()/_-]{3,100}")


class FaultError(AssertionError):
    """A document that broke a promise. The first argument is the promise in a few words."""


@dataclass(frozen=True)
class Outcome:
    """What became of one document: records, and reasons with their counts. `format` is that of its first line that is known."""

    records: list[AccessRecord]
    reasons: Counter[str]
    format: str = ""

    @property
    def marks(self) -> frozenset[str]:
        """What is particular about it, for telling whether a document is worth keeping."""
        found = {f"{self.format}: {reason}" for reason in self.reasons}
        for one in self.records[:20]:
            roles = "".join(sorted({str(message["role"])[0] for message in one.messages or ()}))
            has = [key for key in ("completion", "timing", "prompt_token_ids", "output_token_ids", "adapter", "finish_reason", "spec", "conversation")
                   if getattr(one, key) is not None]  # fmt: skip
            parts = [key for key in ("reasoning", "calls", "refusal") if one.answer and getattr(one.answer, key)]
            found |= {
                f"roles {roles}",
                f"{self.format} has {' '.join(has)}",
                f"parts {' '.join(parts)}",
                *(f"param {key}" for key in one.params),
            }
        return frozenset(found)


def outcome(path: Path) -> Outcome:
    """Read one document. Whatever is raised but InputError is a fault."""
    reasons: Counter[str] = Counter()

    def skip(reason: str, where: str, raw: bytes) -> None:
        reasons[reason] += 1

    records: list[AccessRecord] = []
    try:
        for one in read_records([str(path)], on_skip=skip):
            records.append(one)
    except InputError:
        if records:
            raise FaultError("an error after records") from None
    return Outcome(records, reasons, _format(path.read_bytes()[:MAX_BYTES]))


def _format(data: bytes) -> str:
    try:
        return detect(data.decode("utf-8", "replace").split("\n"))
    except InputError:
        return shape_of(data)


def check_hostile(data: bytes, found: Outcome) -> None:
    """What holds for any bytes."""
    if (
        data.strip()
        and not data.startswith(b"\x1f\x8b")
        and not found.records
        and not found.reasons
        and _says_something(data)
    ):
        raise FaultError("a document vanished")
    if "record does not fit the schema" in found.reasons:
        raise FaultError("a record that does not fit the schema")
    for reason in found.reasons:
        if not _REASON.fullmatch(reason):
            raise FaultError("a reason that may hold text of the log", reason[:80])
    for one in found.records:
        _check_record(one)
    kept = sum(times for reason, times in found.reasons.items() if not keeps_record(reason))
    if len(found.records) + kept < _values(data):
        raise FaultError("lines without a record or a reason")


def _check_record(one: AccessRecord) -> None:
    for message in one.messages or ():
        content = message.get("content")
        if not isinstance(message.get("role"), str) or not isinstance(content, str | list):
            raise FaultError("a message that no engine takes")
        if isinstance(content, list) and not all(
            isinstance(part, dict) and isinstance(part.get("text"), str) for part in content
        ):
            raise FaultError("a part of a message that is no text")
        for call in message.get("tool_calls") or ():
            inner = call.get("function") if isinstance(call, dict) else None
            if (
                not isinstance(inner, dict)
                or not isinstance(inner.get("name"), str)
                or not isinstance(inner.get("arguments"), str)
            ):
                raise FaultError("a tool call that no engine takes")
    for key, value in one.params.items():
        try:
            same = key not in CHECKS or CHECKS[key](value) == value
        except (ValueError, TypeError):
            same = False
        if not same:
            raise FaultError("a parameter that no engine takes", key)
    try:
        AccessRecord.model_validate_json(one.model_dump_json())
    except ValueError:
        raise FaultError("a record that cannot be read again") from None


def _says_something(data: bytes) -> bool:
    """Whether there is more than empty lists and the frame of server-sent events."""
    if shape_of(data[: 1 << 16]) == "csv" and len(data.split(b"\n")) <= 2:
        return False  # a header says nothing
    return bool(
        re.sub(rb"(?m)^(?:data:\s*(?:\[DONE\])?|event:.*|id:.*|retry:.*|:.*)\s*$|[\[\],\s]|\xef\xbb\xbf", b"", data)
    )


def _values(data: bytes) -> int:
    """Lines that must each give something: those of formats whose lines do not hang together."""
    if data.startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd")) or shape_of(data[: 1 << 16]) != "lines":
        return 0
    least = 0
    for line in data.removeprefix(b"\xef\xbb\xbf").split(b"\n"):
        if not line.strip() or line[:1] in b"deir:":
            continue
        try:
            value = json.loads(line)
        except (ValueError, RecursionError):
            least += 1
            continue
        one = find("json", value) if isinstance(value, dict) else None
        # What wraps other values may wrap some that hang together.
        least += (
            one.session is None if one is not None else not isinstance(value, dict) or unwrapped(value, None) is None
        )
    return least


def texts(record: AccessRecord) -> list[tuple[str, str]]:
    """(role, text) of the prompt, parts of a message joined."""
    made = []
    for message in record.messages or ():
        content = message["content"]
        said = content if isinstance(content, str) else "".join(part["text"] for part in content)
        made.append((message["role"], said))
    return made


def check_faithful(one: Format, talks: list[Talk], found: Outcome) -> None:
    """What went in came out: as many records, their text, reasoning and calls, and no loss of any name."""
    if len(found.records) != len(talks):
        raise FaultError("another number of records", len(talks), len(found.records), dict(found.reasons))
    lost = set(found.reasons) - NO_LOSS
    if lost:
        raise FaultError("a loss where nothing is lost", sorted(lost))
    left = {record.id: record for record in found.records}
    for place, talk in enumerate(talks):
        record = left.get(talk.id, found.records[place])
        if one.prompt and texts(record) != [(message["role"], message["content"]) for message in talk.messages()]:
            raise FaultError("another prompt", texts(record), talk.messages())
        if not one.answer:
            continue
        if record.completion != talk.completion():
            raise FaultError("another answer", record.completion, talk.completion())
        if record.answer is not None and (record.answer.reasoning or "") != talk.reasoning:
            raise FaultError("another reasoning", record.answer.reasoning, talk.reasoning)
        if record.answer is not None and [call.name for call in record.answer.calls] != (
            [talk.call[0]] if talk.call else []
        ):
            raise FaultError("other calls")

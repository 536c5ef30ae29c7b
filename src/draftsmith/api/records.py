"""A log as Draftsmith reads it, record by record: how an importer is checked by eye, and any log becomes a native one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from draftsmith.contract.access import AccessRecord
from draftsmith.contract.errors import InputError

RAW_SHOWN = 4096


@dataclass
class Understood:
    """Counts of what `rows` gave so far. `skipped` and `noted` are by reason; a noted record is kept."""

    records: int = 0
    skipped: Counter[str] = field(default_factory=Counter)
    noted: Counter[str] = field(default_factory=Counter)

    def as_json(self) -> dict[str, Any]:
        """The counts for scripts."""
        return {"records": self.records, "skipped": dict(self.skipped), "noted": dict(self.noted)}

    def sentence(self) -> str:
        """One line for people."""
        parts = [f"{self.records} records"]
        for word, reasons in (("skipped", self.skipped), ("noted", self.noted)):
            if reasons:
                listed = ", ".join(f"{reason}: {times}" for reason, times in reasons.most_common())
                parts.append(f"{reasons.total()} {word} ({listed})")
        return "; ".join(parts)


def rows(
    sources: Sequence[str], format: str | None, counts: Understood, *, skipped: bool = False, limit: int | None = None
) -> Iterator[dict[str, Any]]:
    """The records of a log as lines of a native log, or with `skipped` the rest: `{where, reason, kept, raw}`.

    `kept`: the record is there, and the reason names what was lost of it. A request with media is no record of text: it is among the
    rest, with what was read of it as `record` instead of `raw`. Fills `counts` on the way. Raises InputError for sources
    that do not exist or a format that is not known; a log without one usable record is an error unless `skipped` is asked for.
    """
    from draftsmith.traffic.importers import MEDIA, keeps_record, read_records

    waiting: list[dict[str, Any]] = []

    def skip(reason: str, where: str, raw: bytes) -> None:
        kept = keeps_record(reason)
        (counts.noted if kept else counts.skipped)[reason] += 1
        if skipped:
            shown = raw[:RAW_SHOWN].decode("utf-8", "replace")
            waiting.append({"where": where, "reason": reason, "kept": kept, **({"raw": shown} if shown else {})})

    def media(record: AccessRecord, where: str) -> None:
        counts.skipped[MEDIA] += 1
        if skipped:
            waiting.append({"where": where, "reason": MEDIA, "kept": False, "record": _line(record)})

    try:
        for record in read_records(sources, format, skip, media):
            counts.records += 1
            if not skipped:
                yield _line(record)
            yield from waiting
            waiting.clear()
            if limit is not None and counts.records >= limit:
                return
    except InputError:
        if not (skipped and counts.skipped):
            raise
    yield from waiting


def _line(record: AccessRecord) -> dict[str, Any]:
    return record.model_dump(mode="json", by_alias=True, exclude_none=True)

"""Importers: any known traffic log becomes a stream of access records. What goes in comes out, or is counted by its reason.

answering.py    what was answered: response bodies of any API, streamed or not, wherever a log puts them
asking.py       what was asked: request bodies of any API, wherever a log puts them
base.py         what every importer shares: the seam, the skip, and careful readers for values that logs get wrong
benches.py      results of benchmark tools, a request each
bodies.py       a request and its answer, each in any dialect, as the fields of one record
catalog.py      the one list of formats
conversations.py conversations, a request for every answer in them: data sets and agents' trajectories
counts.py       token counts in every spelling: OpenAI, Responses, Anthropic, Gemini, Bedrock, Ollama, Langfuse, SGLang
engine_logs.py  request logs of vLLM and SGLang in all their versions, and of TGI's router
folding.py      streams as logs hold them: server-sent events as text, lists of chunks, or a chunk a line
gateways.py     gateways and observability stores: LiteLLM, Envoy AI gateway, Langfuse, TensorZero
kinds.py        what the types of parts mean, in every dialect
layout.py       formats as data: where in a record the prompt, the answer, the counts and the times are
nesting.py      calls inside calls: an SDK and the library under it both log the same request
normalise.py    the one place that decides whether a record can be used
openai.py       API shapes
otel.py         calls of models among spans
pairing.py      batch prompts and batch answers live in two files
parameters.py   sampling parameters at the border
parts.py        messages of any dialect become `Message`s
plain.py        native access logs, and the plain shapes that people write by hand
pyrepr.py       values as Python prints them in logs, read in linear time
reading.py      from blocks of bytes to records: which shape a file has, one value at a time, every failure counted
servers.py      what servers send: streamed chunks of any API, and TGI's own answers
sessions.py     sessions of coding agents: Claude Code and Codex write a line for every message
sources.py      from what the user named to blocks of bytes
spans.py        spans and events out of every container that carries them, with their attributes as one flat object
stores.py       gateways and servers whose records a layout describes
stream.py       one pass over all sources, in order, in this process
tables.py       CSV and its kin
trace_stores.py stores of traces whose records a layout describes: Braintrust, Weave, LangSmith, Datadog
traces.py       published traces: token counts and, at most, arrivals
unknown.py      what is said of a value that no importer knows
wrappers.py     lists of records inside one object: pages of an API, exports, search results
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import orjson

from draftsmith.contract.access import AccessRecord
from draftsmith.contract.errors import InputError
from draftsmith.traffic.importers.base import Fields, Importer, SkipError
from draftsmith.traffic.importers.bodies import MEDIA
from draftsmith.traffic.importers.catalog import CATALOG, find, nearest
from draftsmith.traffic.importers.stream import Located, open_files, read_files, stream
from draftsmith.traffic.importers.tables import looks_like_table
from draftsmith.traffic.importers.unknown import starting_map

__all__ = ["CATALOG", "MEDIA", "Importer", "Located", "SkipError", "detect", "keeps_record", "read_records", "stream"]

_FIELDS = frozenset(AccessRecord.model_fields) - {"schema_"}


def detect(lines: Sequence[str]) -> str:
    """The format of sample lines. Raises InputError if none of them is known."""
    for line in lines:
        try:
            value = orjson.loads(line)
        except orjson.JSONDecodeError:
            cells = dict.fromkeys(cell.strip() for cell in line.split(","))
            result = (
                find("text", line) or find("csv", cells) or (find("json", cells) if looks_like_table(line) else None)
            )
        else:
            result = find("json", value) if isinstance(value, dict) else None
        if result:
            return result.name
    raise InputError("the format of the traffic is not known", f"use one of: {', '.join(CATALOG)}")


def read_records(
    sources: Sequence[str],
    format: str | None = None,
    on_skip: Callable[[str, str, bytes], None] | None = None,
    on_media: Callable[[AccessRecord, str], None] | None = None,
) -> Iterator[AccessRecord]:
    """Stream the records of files, globs, folders, '-' or URLs, in bounded memory. All of them are text.

    `on_skip(reason, "file:line", raw bytes)` hears of every value that gave no record, and of records kept with a flaw. Requests
    with media are left out under the reason MEDIA; `on_media(record, "file:line")`, where it is given, hears of them instead.
    Raises InputError if a source does not exist, or if it gave no usable record at all.
    """
    reasons: dict[str, int] = {}
    made = 0

    def skip(reason: str, where: str, raw: bytes) -> None:
        reasons[reason] = reasons.get(reason, 0) + 1
        if on_skip:
            on_skip(reason, where, raw)

    def with_media(record: AccessRecord, where: str) -> None:
        if on_media is None:
            skip(MEDIA, where, b"")
            return
        reasons[MEDIA] = reasons.get(MEDIA, 0) + 1
        on_media(record, where)

    files = open_files(sources, format)
    for item in read_files(files, skip):
        record = to_record(item.fields, item.where)
        if record is None:
            skip("record does not fit the schema", item.where, b"")
            continue
        if record.media:
            with_media(record, item.where)
            continue
        made += 1
        yield record
    if not made:
        raise no_usable_record(reasons, next((file.reader.strange for file in files if file.reader.strange), ()))


def to_record(fields: Fields, where: str) -> AccessRecord | None:
    """An AccessRecord; its id is the place in the log where the log has none. None if the fields do not fit."""
    try:
        kept = {key: value for key, value in fields.items() if key in _FIELDS and value is not None}
        return AccessRecord.model_validate({"id": where, **kept})
    except ValueError:
        return None


def keeps_record(reason: str) -> bool:
    """Whether a reason names what was lost of a record that is kept, and not why there is no record."""
    return "(kept" in reason or reason.endswith("(left out)")


def no_usable_record(reasons: dict[str, int], strange: Sequence[str] = ()) -> InputError:
    """The error for traffic without one usable record, with the reasons counted.

    `strange`: names of the fields of a value that no format knows. They, and never values, are shown.
    """
    counts = ", ".join(f"{reason}: {number}" for reason, number in sorted(reasons.items())) or "the sources are empty"
    message = f"no usable request in the traffic ({counts})"
    if not strange:
        return InputError(message, "name the format with --format, or see --rejects")
    near = nearest(strange)
    like = f"; nearest known format: {near}" if near else ""
    start = starting_map(strange).replace("\n", "\n    ")
    return InputError(
        f"{message}; fields seen: {', '.join(strange)}{like}",
        "convert it to a known format (docs/profile.md), or say where things are: give --map FILE.toml with lines such as\n    "
        + start,
    )

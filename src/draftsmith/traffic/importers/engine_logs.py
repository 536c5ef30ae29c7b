"""Request logs of vLLM and SGLang in all their versions, and of TGI's router.

What a client wrote is never read as log lines: a line is read from its head, and a quoted prompt is passed over as a whole. The lines of
one request (prompt, parameters, answer) are joined by its id.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from draftsmith.traffic.importers import parts
from draftsmith.traffic.importers.answering import answer_of, finish_of
from draftsmith.traffic.importers.asking import prompt_of
from draftsmith.traffic.importers.base import Fields, Importer, SkipError, embedded, mapping, timing
from draftsmith.traffic.importers.bodies import answer_fields, both, request_fields
from draftsmith.traffic.importers.parameters import asked
from draftsmith.traffic.importers.pyrepr import evaluated, inside, named, quoted

OPEN_REQUESTS = 20_000
"""Requests of a log that wait for their answer; of more, the oldest is given without it."""
NO_REQUEST = "log line without a request"
Found = Iterator[tuple[int, Fields | SkipError]]


class Waiting:
    """Requests by id until they are complete."""

    def __init__(self) -> None:
        self._open: dict[str, Fields] = {}
        self._lines: dict[str, int] = {}

    def get(self, name: str, number: int) -> Fields:
        """The request of this id, opened if it is new."""
        self._lines[name] = number
        return self._open.setdefault(name, {"id": name})

    def known(self, name: str) -> bool:
        """Whether a request of this id waits."""
        return name in self._open

    def take(self, name: str) -> tuple[int, Fields | SkipError]:
        """The request, which no longer waits."""
        return self._lines.pop(name), self._open.pop(name)

    def overflow(self) -> Found:
        """The oldest request, if too many wait."""
        if len(self._open) > OPEN_REQUESTS:
            yield self.take(next(iter(self._open)))

    def rest(self) -> Found:
        """All that still wait."""
        for name in list(self._open):
            yield self.take(name)


_HEAD = re.compile(
    r"^(?:\x1b\[[\d;]*m)*(?:\[[\d\-:T., +Z/]{5,40}\]\s*)?[^'\"\[]{0,200}?\[?[\w/.\-]{1,80}\.py:\d+\](?:\x1b\[[\d;]*m)*\s+"
    r"(?P<what>Received request|Generated response|Request) (?P<id>\S{1,300}?)(?P<details> details)?"
    r"(?: \((?P<stream>streaming (?:delta|complete))\))?(?P<late> details)?: ?"
)
_VLLM_LINE = re.compile(
    r"\b(?:Received request|Generated response|Avg prompt throughput|EngineCore)\b|\b[\w/]+\.py:\d+\]"
)
_NEUTRAL: dict[str, Any] = {
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
    "repetition_penalty": 1.0,
    "min_p": 0.0,
    "min_tokens": 0,
    "skip_special_tokens": True,
    "bad_words": [],
    "stop_token_ids": [],
}
_NEUTRAL |= {"n": 1, "top_p": 1.0, "top_k": -1, "ignore_eos": False, "stop": []}


class VllmLog:
    """vLLM up to 0.11 writes prompt and parameters in one line, later versions in two; `--enable-log-outputs` adds answers."""

    def __init__(self) -> None:
        self._waiting = Waiting()

    def add(self, number: int, value: Any) -> Found:
        """One line."""
        head = _HEAD.match(value)
        if not head:
            raise SkipError(NO_REQUEST)
        name, event, at = head["id"], head["what"], head.end()
        if event == "Request" and not head["details"]:
            raise SkipError(NO_REQUEST)
        try:
            if event == "Generated response":
                yield from self._answer(number, value, at, head)
            else:
                _fill(self._waiting.get(name, number), value, at)
                yield from self._waiting.overflow()
        except ValueError:
            raise SkipError("request line that cannot be read") from None

    def _answer(self, number: int, line: str, at: int, head: re.Match[str]) -> Found:
        name = head["id"]
        values = _values(line, at)
        fields = self._waiting.get(name, number)
        output, ids = values.get("output"), values.get("output_token_ids")
        if head["stream"] == "streaming delta":
            fields["pieces"] = [*fields.get("pieces", ()), output or ""]
            fields["output_token_ids"] = [*(fields.get("output_token_ids") or ()), *(ids or ())]
            fields["finish_reason"] = finish_of(values.get("finish_reason")) or fields.get("finish_reason")
            return
        if ids:
            fields["output_token_ids"] = ids
        if head["details"] or head["late"]:
            return  # the text follows in a line of its own
        pieces = fields.pop("pieces", None)
        output = "".join(pieces) if not output and pieces else output
        lost = parts.Lost()
        if output:
            fields |= {
                key: value
                for key, value in answer_fields(answer_of(_plain(output), lost)).items()
                if key == "completion"
            }
        if values.get("finish_reason") != "streaming_complete":
            fields["finish_reason"] = finish_of(values.get("finish_reason"))
        yield self._waiting.take(name)

    def end(self) -> Found:
        """Requests without an answer."""
        for number, fields in self._waiting.rest():
            if isinstance(fields, dict) and (pieces := fields.pop("pieces", None)):
                fields["completion"] = "".join(pieces)
            yield number, fields


def _plain(text: str) -> dict[str, Any]:
    return {"role": "assistant", "content": text}


def _fill(fields: Fields, line: str, at: int) -> None:
    """What a line says of a request."""
    values = _values(line, at)
    if "prompt" in values:
        prompt = values["prompt"]
        if isinstance(prompt, str):
            fields["messages"] = [{"role": "user", "content": prompt}]
    if values.get("prompt_token_ids"):
        fields["prompt_token_ids"] = values["prompt_token_ids"]
    if values.get("params"):
        fields["params"] = values["params"]
    if values.get("adapter"):
        fields["adapter"] = values["adapter"]


_NAME = re.compile(r"[, ]*(\w{1,40}(?: shape| token ids)?): ?")
_CLASS = re.compile(r"[A-Za-z_][\w.]{0,60}(?=\()")
_BARE = re.compile(r"[^,]*+")


def _values(line: str, at: int) -> dict[str, Any]:
    """`name: value, name: value` from `at` on. Each value is passed over as a whole before the next name is looked for."""
    result: dict[str, Any] = {}
    while match := _NAME.match(line, at):
        name, at = match[1].replace(" token ids", "_token_ids"), match.end()
        begin = line[at : at + 1]
        if name in ("prompt", "output") or begin in ("'", '"'):
            result[name], at = quoted(line, at)
        elif begin in ("[", "(", "{"):
            items, end = inside(line, at)
            if name.endswith("_ids"):
                result[name] = [int(item) for item in items if item.strip().isdigit()] if _all_ids(items) else None
            at = end
        elif kind := _CLASS.match(line, at):
            values, at = named(line, kind.end())
            if kind[0] in ("SamplingParams", "BeamSearchParams"):
                result["params"] = _sampling(values)
            elif "LoRA" in kind[0]:
                result["adapter"] = evaluated(values.get("lora_name", "None"))
        else:
            bare = _BARE.match(line, at)
            text = (bare[0] if bare else "").strip()
            at = bare.end() if bare else len(line)
            if name == "finish_reason" and text not in ("None", ""):
                result[name] = text.rstrip(".")
    return result


def _all_ids(items: list[str]) -> bool:
    return all(item.strip().isdigit() for item in items if item.strip()) and any(item.strip() for item in items)


def _sampling(values: dict[str, str]) -> dict[str, Any]:
    """Parameters as logged, without those at the engine's neutral value: the client did not need to send them."""
    read = asked({key: evaluated(value) for key, value in values.items()})
    read.pop("stream", None)
    if read.get("top_k") == 0:
        del read["top_k"]
    return {key: value for key, value in read.items() if _NEUTRAL.get(key, ...) != value}


VLLM_LOG = Importer(
    "vllm-log",
    lambda line: bool(_VLLM_LINE.search(line[:2000])),
    kind="text",
    lacks=("arrivals", "latency"),
    what="the engine's text log with `--enable-log-requests` (prompts from 0.12 on at level DEBUG); answers with `--enable-log-outputs`",
    session=VllmLog,
)

_SGLANG = re.compile(r"^[^'\"]{0,120}?\b(?P<what>Receive|Finish)(?: OpenAI)?: obj=(?=[A-Z]\w{0,60}\()")


class SglangLog:
    """`Receive: obj=GenerateReqInput(...)` and `Finish: obj=..., out={...}` of `--log-requests`, as text or as JSON."""

    def __init__(self) -> None:
        self._waiting = Waiting()

    def add(self, number: int, value: Any) -> Found:
        """One line, or one JSON object."""
        if isinstance(value, str):
            yield from self._text(number, value)
            return
        obj, out = mapping(value.get("obj")), value.get("out")
        finished = str(value.get("event") or "").endswith("finished") or out is not None
        name = value.get("rid") or obj.get("rid")
        yield from self._take(number, name, obj, mapping(out) if finished else None, value.get("timestamp"))

    def _text(self, number: int, line: str) -> Found:
        head = _SGLANG.match(line)
        if not head:
            raise SkipError(NO_REQUEST)
        try:
            values, end = named(line, line.index("(", head.end()))
            out: dict[str, Any] | None = None
            if head["what"] == "Finish":
                begin = line.find("out=", end)
                if begin != -1 and begin - end < 4:
                    out = _printed(line, begin + 4)
        except ValueError:
            raise SkipError("request line that cannot be read") from None
        obj = {key: evaluated(value) for key, value in values.items()}
        stamp = line[1:20] if line[:1] == "[" else None
        yield from self._take(number, obj.get("rid"), obj, (out or {}) if head["what"] == "Finish" else None, stamp)

    def _take(self, number: int, name: Any, obj: dict[str, Any], out: dict[str, Any] | None, stamp: Any) -> Found:
        if isinstance(name, list):
            raise SkipError("several prompts in one request")
        if not isinstance(name, str) or not name:
            raise SkipError("request line without an id")
        fields = self._waiting.get(name, number)
        lost = parts.Lost()
        if obj.get("text") or obj.get("input_ids") or obj.get("sampling_params"):
            body = {"prompt": obj.get("text") or None, "sampling_params": obj.get("sampling_params")}
            made = request_fields(prompt_of(body, lost))
            fields |= {key: value for key, value in made.items() if value}
            if isinstance(obj.get("input_ids"), list) and obj["input_ids"] and type(obj["input_ids"][0]) is int:
                fields["prompt_token_ids"] = obj["input_ids"]
        for key in ("lora_path", "lora_name"):
            if isinstance(obj.get(key), str):
                fields["adapter"] = obj[key]
        if out is None:
            fields["received"] = obj.get("received_time") or stamp
            yield from self._waiting.overflow()
            return
        answer_read = answer_of(out, lost)
        if answer_read.finish == "abort" and (answer_read.message is None or not answer_read.message.text):
            self._waiting.take(name)
            raise SkipError("failed request")
        answer = answer_fields(answer_read)
        answer.pop("id", None)
        fields |= {key: value for key, value in answer.items() if value is not None}
        fields["timing"] = timing(fields.pop("received", None), latency_s=answer_read.latency_s)
        parts.noted(fields, lost)
        yield self._waiting.take(name)

    def end(self) -> Found:
        """Requests without an answer."""
        for number, fields in self._waiting.rest():
            if isinstance(fields, dict):
                fields["timing"] = timing(fields.pop("received", None))
            yield number, fields


def _printed(line: str, at: int) -> dict[str, Any]:
    """A dictionary as printed; entries that are no literals are left out."""
    values, end = named(line, at)
    whole = evaluated(line[at:end])
    return whole if isinstance(whole, dict) else {key: evaluated(value) for key, value in values.items()}


SGLANG_LOG = Importer(
    "sglang-log",
    lambda line: bool(_SGLANG.match(line[:400])),
    kind="text",
    what="SGLang's `--log-requests` (levels 2 and 3 hold text)",
    session=SglangLog,
)
SGLANG_JSON = Importer(
    "sglang-json",
    lambda row: "rid" in row and ("obj" in row or "out" in row) and ("event" in row or "obj" in row),
    what="the same with `--log-requests-format json`",
    marks=("rid", "obj", "out", "event"),
    session=SglangLog,
)

_RUST = re.compile(r"(\w{1,40}): (?:Some\()?(\"(?:[^\"\\]|\\.)*+\"|\[[^\]]*+\]|[\w.+-]{1,40})")
_TOOK = re.compile(r"([\d.]+)(ns|us|\u00b5s|ms|s)")
_UNITS = {"ns": 1e-9, "us": 1e-6, "\u00b5s": 1e-6, "ms": 1e-3, "s": 1.0}


def _rust_text(written: str) -> str | None:
    """A text as Rust prints it for debugging, or as JSON."""
    parsed = embedded(written) if written[:1] == '"' else None
    if parsed is None:
        parsed = evaluated(_CODE_POINT.sub(lambda match: f"\\U{int(match[1], 16):08x}", written))
    return parsed if isinstance(parsed, str) else written or None


_CODE_POINT = re.compile(r"\\u\{([0-9a-fA-F]{1,6})\}")


def _tgi_router(row: Any) -> Iterator[Fields]:
    span = row["span"]
    if str(row.get("level")).upper() == "ERROR":
        raise SkipError("failed request")
    inputs = _rust_text(str(span.get("inputs") or ""))
    values = {key: evaluated(value) for key, value in _RUST.findall(str(span.get("parameters") or ""))}
    fields = both(inputs, None, parts.Lost())
    took = _TOOK.fullmatch(str(span.get("total_time") or ""))
    latency = float(took[1]) * _UNITS[took[2]] if took else None
    fields["params"] = asked({key: value for key, value in values.items() if value is not None})
    end = timing(row.get("timestamp"))
    if end and isinstance(end["start_unix_s"], float) and latency is not None:
        fields["timing"] = {"start_unix_s": end["start_unix_s"] - latency, "latency_s": latency}
    yield fields


TGI_ROUTER = Importer(
    "tgi-router",
    lambda row: isinstance(row.get("span"), dict) and "total_time" in row["span"] and "inputs" in row["span"],
    _tgi_router,
    lacks=("answers", "counts"),
    what="JSON lines of TGI's router",
    marks=("span", "target", "level"),
)

_POSTED = re.compile(
    r"\"POST [^\s\"]{0,300}?/(?:completions|responses|messages|generate)\b[^\s\"]{0,100} HTTP/[\d.]+\" (?P<status>\d{3})\b"
)
_BODY = re.compile(r"\{(?:\\x22|\\\"|\")")
_ESCAPE = re.compile(r"\\x([0-9A-Fa-f]{2})")


def _access(line: Any) -> Iterator[Fields]:
    """An access log that holds request bodies. Quotes in them are escaped, so the line's own parts cannot be forged."""
    head = _POSTED.search(line)
    if not head:
        raise SkipError(NO_REQUEST)
    if int(head["status"]) >= 400:
        raise SkipError("failed request")
    begin = _BODY.search(line, head.end())
    end = line.rfind("}")
    if not begin or end < begin.start():
        raise SkipError("log line without a request body")
    written = line[begin.start() : end + 1]
    raw = _ESCAPE.sub(lambda match: chr(int(match[1], 16)), written)
    body = mapping(raw.encode("latin-1", "ignore").decode("utf-8", "replace") if raw != written else written)
    if not body:
        body = mapping(written.replace('\\"', '"').replace("\\\\", "\\"))
    if not body:
        raise SkipError("request body that cannot be read")
    yield both(body, None, parts.Lost())


ACCESS_LOG = Importer(
    "access-log",
    lambda line: bool(_POSTED.search(line[:4000])),
    _access,
    kind="text",
    lacks=("answers", "counts", "arrivals", "latency"),
    what="nginx and the like, with `$request_body`",
)

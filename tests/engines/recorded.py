"""What one server says, kept as files: its streams, its answers, its refusals, its counters and its log.

Small and without a path of the machine. `record_engine.py` makes a recording; the engine stories compare with it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from draftsmith.contract.wire import EventStream
from draftsmith.engines.base import Server

HERE = Path(__file__).parent / "recordings"
FILES = {
    "models": "models.json", "version": "version.json", "streams": "streams.json", "answers": "answers.json",
    "refusals": "refusals.json", "metrics": "metrics.txt", "log": "server.log",
}  # fmt: skip
SERIES = re.compile(r"^([a-z_]+:[\w:]+|process_start_time_seconds)(?:\{([^}]*)\})? (?=\S)", re.MULTILINE)
KEPT_EVENTS = 3  # of a stream: the first ones and the last ones tell every form that an event has
LONG_TIMEOUT_S = 120


@dataclass(frozen=True)
class Recording:
    """Replies of a server, by the name of what was sent. `streams`: the events of each."""

    models: Any
    version: Any
    streams: dict[str, list[Any]]
    answers: dict[str, Any]
    refusals: dict[str, Any]
    metrics: str
    log: str = field(repr=False)

    def write(self, folder: Path) -> None:
        """One file each, those that are JSON indented: a renewed recording is read as a difference."""
        folder.mkdir(parents=True, exist_ok=True)
        for name, file in FILES.items():
            value = getattr(self, name)
            text = value if isinstance(value, str) else json.dumps(value, indent=1, sort_keys=True) + "\n"
            (folder / file).write_text(text, encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Recording:
        texts = {name: (folder / file).read_text(encoding="utf-8") for name, file in FILES.items()}
        return cls(**{n: json.loads(t) if FILES[n].endswith(".json") else t for n, t in texts.items()})


MESSAGES = [{"role": "user", "content": "river stone river stone river"}]


def requests(model: str, *, speculates: bool) -> tuple[dict[str, Any], dict[str, Any]]:
    """(requests that are answered, requests that may be refused), by name, each a path and a body."""
    chat = {"model": model, "messages": MESSAGES, "temperature": 0, "max_tokens": 12, "return_token_ids": True}
    answered = {
        "chat": ("/v1/chat/completions", chat),
        "completion": ("/v1/completions", {k: v for k, v in chat.items() if k != "messages"} | {"prompt": [5, 6, 7, 8]}),
    }  # fmt: skip
    refused = {
        "another model": ("/v1/chat/completions", chat | {"model": "nobody"}),
        "longer than the context": ("/v1/chat/completions", chat | {"max_tokens": 100_000}),
    }
    if speculates:
        drawn = chat | {"temperature": 0.7, "seed": 1}
        refused["min_p"] = ("/v1/chat/completions", drawn | {"min_p": 0.1})
        refused["min_p of a greedy request"] = ("/v1/chat/completions", chat | {"min_p": 0.1})
        refused["logit_bias"] = ("/v1/chat/completions", drawn | {"logit_bias": {"5": 1.0}})
        refused["logit_bias of a greedy request"] = ("/v1/chat/completions", chat | {"logit_bias": {"5": 1.0}})
    return answered, refused


def record(server: Server, *, speculates: bool, hide: Mapping[str, str]) -> Recording:
    """Ask a ready server everything. `hide`: texts of this machine, and what stands for each in the recording."""
    url = server.url
    answered, refused = requests(server.spec.served_name, speculates=speculates)
    streams, answers = {}, {}
    for name, (path, body) in answered.items():
        streamed = body | {"stream": True, "stream_options": {"include_usage": True}}
        streams[name] = _stream(url + path, streamed)
        answers[name] = httpx.post(url + path, json=body, timeout=LONG_TIMEOUT_S).json()
    refusals = {}
    for name, (path, body) in refused.items():
        answer = httpx.post(url + path, json=body, timeout=LONG_TIMEOUT_S)
        refusals[name] = {"status": answer.status_code, "body": answer.json()}
    return Recording(
        models=json.loads(clean(httpx.get(f"{url}/v1/models").text, hide)),
        version=httpx.get(f"{url}/version").json(),
        streams=streams,
        answers=answers,
        refusals=refusals,
        metrics=series(httpx.get(f"{url}/metrics").text),
        log=clean(server.log.read_text(encoding="utf-8"), hide),
    )


def _stream(url: str, body: dict[str, Any]) -> list[Any]:
    events, reader = [], EventStream()
    with httpx.stream("POST", url, json=body, timeout=LONG_TIMEOUT_S) as response:
        assert response.status_code == 200, response.read()
        for data in response.iter_bytes():
            events += [json.loads(payload) for payload in reader.add(data)]
    events += [json.loads(payload) for payload in reader.end()]
    return events if len(events) <= 2 * KEPT_EVENTS else [*events[:KEPT_EVENTS], *events[-KEPT_EVENTS:]]


def clean(text: str, hide: Mapping[str, str]) -> str:
    """Without what is of one machine: the given texts, and every absolute path that is left."""
    for found, shown in hide.items():
        text = text.replace(found, shown)
    text = re.sub(r"file://[\w./+-]+", "file://{path}", text)
    return re.sub(r"(?<![\w.:/>}])/(?!v1|models/target)[\w.+-]+(?:/[\w.+-]+)+", "{path}", text)


def series(text: str) -> str:
    """The lines of /metrics that are the engine's own counters, without buckets and creation times."""
    lines = [
        line for line in text.splitlines() if SERIES.match(line) and not re.match(r"\w+:?\w*_(bucket|created)\b", line)
    ]
    return "\n".join(lines) + "\n"


def series_shapes(text: str) -> set[tuple[str, tuple[str, ...]]]:
    """(name, names of its labels) of every series."""
    found = SERIES.findall(text)
    return {(name, tuple(sorted(re.findall(r'(\w+)="', labels)))) for name, labels in found if "_created" not in name}


def shape(value: Any, path: str = "") -> set[tuple[str, str]]:
    """(path, kind of value) of everything in a JSON value. Elements of a list have one path; None has no kind."""
    if isinstance(value, dict):
        return {(path, "object")}.union(*(shape(item, f"{path}.{key}") for key, item in value.items()))
    if isinstance(value, list):
        return {(path, "list")}.union(*(shape(item, f"{path}[]") for item in value))
    kinds = {bool: "bool", int: "number", float: "number", str: "text", type(None): "none"}
    return {(path, kinds[type(value)])}


def strange(ours: Any, theirs: Any) -> set[tuple[str, str]]:
    """What `ours` says in another form than `theirs`, or `theirs` does not say at all. A value may be absent or None."""
    known = shape(theirs)
    paths = {path for path, _ in known}
    only_none = {path for path in paths if {kind for at, kind in known if at == path} == {"none"}}
    return {
        (path, kind)
        for path, kind in shape(ours) - known
        if (kind != "none" and path not in only_none) or path not in paths
    }

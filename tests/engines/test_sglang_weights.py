"""A draft's weights replaced in a running SGLang: what is sent, what is not, and what is proved. Answers as in the source of 0.5.22."""

from __future__ import annotations

import base64
import hashlib
import json
import pickle
import re
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from answering import answering
from safetensors.numpy import save_file

from draftsmith.contract.errors import EngineError
from draftsmith.engines.base import Installation
from draftsmith.engines.catalog import engine
from draftsmith.engines.sglang import engine as sglang_engine
from draftsmith.engines.sglang import weights

SESSION = ["/pause_generation", "/begin_weight_update", "/update_weights_from_tensor", "/end_weight_update"]
REFUSED = {"success": False, "message": "a weight-update session is already open; call end_weight_update() first"}


class Server(ThreadingHTTPServer):
    """Weights by role; `breaks` is the path that is refused, `spills`: an update reaches the target too."""

    asked: list[tuple[str, dict[str, Any]]]
    weights: dict[str, dict[str, bytes]]
    breaks: str | None = None
    spills = False

    def answer(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        self.asked.append((path, body))
        if path == self.breaks:
            return 400, REFUSED
        if path == "/weights_checker":
            held = self.weights[body["selector"]]
            digest = hashlib.sha256(b"".join(held[name] for name in sorted(held))).hexdigest()
            return 200, {"success": True, "message": "Success.", "ranks": [{"per_gpu_checksum": digest}]}
        if path == "/update_weights_from_tensor":
            for name, tensor in pickle.loads(base64.b64decode(body["serialized_named_tensors"][0])):
                for role in {body["selector"], *(["target"] if self.spills else [])}:
                    self.weights[role][name] = tensor.numpy().tobytes()
        return 200, {"success": True, "message": "Success"}


class Handler(BaseHTTPRequestHandler):
    server: Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        status, told = self.server.answer(self.path, body)
        self.send_response(status)
        self.end_headers()
        self.wfile.write(json.dumps(told).encode())

    def log_message(self, *_: object) -> None:
        """Nothing: tests are quiet."""


@pytest.fixture
def server() -> Iterator[Server]:
    with answering(Server(("127.0.0.1", 0), Handler)) as made:
        made.asked, made.weights = [], {"target": {"model.norm.weight": b"t"}, "draft": {"fc.weight": b"d"}}
        yield made


def draft(folder: Path, value: float, shift: int = 0) -> Path:
    folder.mkdir()
    tensors = {
        "fc.weight": np.full((2, 6), value, np.float32),
        "midlayer.mlp.up_proj.weight": np.ones((2, 2), np.float16),
    }
    kept = {"embed_tokens.weight": np.ones((4, 2), np.float32), "d2t": np.arange(3) + shift, "t2d": np.ones(4, bool)}
    save_file(tensors | kept, folder / "model.safetensors")
    return folder


def replace(server: Server, old: Path, new: Path) -> dict[str, Any]:
    return weights.replace(f"http://127.0.0.1:{server.server_port}", old, new, None, 2)


def test_the_draft_alone_is_replaced_while_requests_are_held(server: Server, tmp_path: Path) -> None:
    old, new = draft(tmp_path / "old", 1.0), draft(tmp_path / "new", 2.0)
    report = replace(server, old, new)
    assert report["sent"] == ["fc.weight", "midlayer.mlp.up_proj.weight"]
    paths = [path for path, _ in server.asked if path != "/weights_checker"]
    assert paths == [*SESSION, "/continue_generation"]
    bodies = dict(server.asked)
    assert bodies["/pause_generation"] == {"mode": "in_place"}
    assert bodies["/begin_weight_update"] == {"selector": "draft"}
    update = bodies["/update_weights_from_tensor"]
    assert (update["selector"], update["flush_cache"], len(update["serialized_named_tensors"])) == ("draft", False, 2)
    assert server.weights["draft"]["fc.weight"] == np.full((2, 6), 2.0, np.float32).tobytes()
    assert server.weights["target"] == {"model.norm.weight": b"t"}


def test_a_draft_with_another_vocabulary_map_needs_another_server(server: Server, tmp_path: Path) -> None:
    with pytest.raises(EngineError, match="differ in d2t"):
        replace(server, draft(tmp_path / "old", 1.0), draft(tmp_path / "new", 2.0, shift=1))
    assert server.asked == []


@pytest.mark.parametrize("path", SESSION)
def test_whatever_is_refused_requests_go_on(server: Server, tmp_path: Path, path: str) -> None:
    server.breaks = path
    with pytest.raises(EngineError, match=re.escape(f"{path}: status 400: a weight-update session is already open")):
        replace(server, draft(tmp_path / "old", 1.0), draft(tmp_path / "new", 2.0))
    asked = [asked for asked, _ in server.asked]
    if path != "/pause_generation":
        assert asked[-1] == "/continue_generation"
    assert ("/end_weight_update" in asked) is (path in SESSION[2:]), "a session that was opened is closed"


def test_a_target_that_changed_with_it_is_not_taken_for_a_swap(server: Server, tmp_path: Path) -> None:
    server.spills = True
    with pytest.raises(EngineError, match="target's weights are not what they were"):
        replace(server, draft(tmp_path / "old", 1.0), draft(tmp_path / "new", 2.0))


@pytest.mark.parametrize(("version", "can"), [("0.5.17", False), ("0.5.20", False), ("0.5.22", True), ("0.5.23", True)])
def test_only_releases_that_write_a_draft_alone_do_it(
    version: str, can: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = Installation(engine="sglang", python="python3", version=version, device="cuda")
    monkeypatch.setattr(sglang_engine, "installed", lambda python: found)
    told = engine("sglang", registry=tmp_path).no_swaps(None)
    assert told is None if can else "0.5.22 does" in str(told)

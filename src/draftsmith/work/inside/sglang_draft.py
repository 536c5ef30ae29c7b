"""Run by an SGLang's own interpreter: gives the weights of a draft to a running server (`/update_weights_from_tensor`).

    python sglang_draft.py URL DRAFT RANKS

Only the draft is written (`selector`). What it shares with the target or what its worker has copied at its start is left out: embeddings
and the vocabulary map; the caller has seen that they are the same. Requests in flight are held meanwhile, with their KV cache. Prints a
JSON object: what was sent, and the checksums of draft and target before and after. Exit code 1 with a sentence if the server refused.
"""

from __future__ import annotations

import base64
import json
import pickle
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from safetensors import safe_open

LEFT_OUT = ("embed_tokens", "d2t", "t2d")
CHUNK_BYTES = 64 << 20
TIMEOUT_S = 300.0
SELECTOR = "draft"


def post(url: str, path: str, body: dict[str, Any]) -> dict[str, Any]:
    """The server's answer. Raises RuntimeError with its words if it refuses."""
    request = urllib.request.Request(  # noqa: S310 - a server that Draftsmith started
        f"{url}{path}", json.dumps(body).encode(), {"Content-Type": "application/json"}, method="POST"
    )
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=TIMEOUT_S) as reply:
            content = json.loads(reply.read() or b"{}")
    except urllib.error.HTTPError as error:
        raise RuntimeError(f"{path}: status {error.code}: {_message(error.read())}") from None
    except OSError as error:
        raise RuntimeError(f"{path}: {type(error).__name__}") from None
    if isinstance(content, dict) and content.get("success") is False:
        raise RuntimeError(f"{path}: {content.get('message')}")
    return content if isinstance(content, dict) else {}


def payloads(draft: Path) -> Iterator[tuple[list[str], str]]:
    """Names of tensors and the tensors themselves, pickled by value, some at a time: no memory is shared with the server."""
    names: list[str] = []
    tensors: list[tuple[str, Any]] = []
    size = 0
    for file in sorted(draft.glob("*.safetensors")):
        with safe_open(str(file), framework="pt") as source:
            for name in source.keys():  # noqa: SIM118 - not a dict
                if any(part in name for part in LEFT_OUT):
                    continue
                tensor = source.get_tensor(name)
                names.append(name)
                tensors.append((name, tensor))
                size += tensor.numel() * tensor.element_size()
                if size >= CHUNK_BYTES:
                    yield names, _pickled(tensors)
                    names, tensors, size = [], [], 0
    if tensors:
        yield names, _pickled(tensors)


def checksum(url: str, selector: str) -> str | None:
    """The engine's own checksum of the weights of one role, over its ranks."""
    reply = post(url, "/weights_checker", {"action": "checksum", "selector": selector})
    ranks = reply.get("ranks") or []
    return ",".join(str(rank.get("per_gpu_checksum")) for rank in ranks) or reply.get("per_engine_checksum")


def replace(url: str, draft: Path, ranks: int) -> dict[str, Any]:
    """Hold the requests, write the draft, and let them go on, whatever happened between."""
    before = {role: checksum(url, role) for role in ("target", "draft")}
    sent: list[str] = []
    post(url, "/pause_generation", {"mode": "in_place"})
    try:
        post(url, "/begin_weight_update", {"selector": SELECTOR})
        try:
            for names, payload in payloads(draft):
                body = {"serialized_named_tensors": [payload] * ranks, "selector": SELECTOR, "flush_cache": False}
                post(url, "/update_weights_from_tensor", body)
                sent += names
        finally:
            post(url, "/end_weight_update", {})
        after = {role: checksum(url, role) for role in ("target", "draft")}
    finally:
        post(url, "/continue_generation", {})
    return {"sent": sent, "before": before, "after": after}


def _pickled(tensors: list[tuple[str, Any]]) -> str:
    return base64.b64encode(pickle.dumps(tensors)).decode()


def _message(body: bytes) -> str:
    try:
        return str(json.loads(body)["message"])
    except (ValueError, LookupError, TypeError):
        return "no reason was given"


def main(argv: list[str]) -> int:
    """See the module."""
    url, draft, ranks = argv
    try:
        print(json.dumps(replace(url, Path(draft), int(ranks))))
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

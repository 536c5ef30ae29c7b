"""A draft's weights replaced in a running vLLM: what it is started with, and the request that does it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import httpx

from draftsmith.contract.errors import EngineError
from draftsmith.engines.base import ServerSpec
from draftsmith.kit.files import private_dir, sha256_file, write_atomic

NAME = "draftsmith"
MODULES = "draftsmith.work.inside"
TIMEOUT_S = 300.0


def prepared(spec: ServerSpec, folder: Path, drafts: Path) -> ServerSpec:
    """`spec` with what a hot swap needs; unchanged where no draft is served. `drafts`: drafts are read under it alone.

    Writes a folder by which the engine's interpreter finds the plug-in, whether Draftsmith is installed there or not.
    """
    if not (spec.spec_config or {}).get("model"):
        return spec
    info = private_dir(folder / f"{NAME}_hot_swap-1.dist-info")
    write_atomic(info / "METADATA", f"Metadata-Version: 2.1\nName: {NAME}-hot-swap\nVersion: 1\n")
    write_atomic(info / "entry_points.txt", f"[vllm.endpoint_plugins]\n{NAME} = {MODULES}.hot_swap_endpoint:Plugin\n")
    paths = [str(folder), spec.env.get("PYTHONPATH") or os.environ.get("PYTHONPATH", "")]
    env = {
        **spec.env,
        "PYTHONPATH": os.pathsep.join(filter(None, paths)),
        "VLLM_PLUGINS": ",".join(filter(None, (spec.env.get("VLLM_PLUGINS", ""), NAME))),
        "DRAFTSMITH_DRAFTS": str(drafts),
    }
    flags = (
        "--weight-transfer-config", json.dumps({"backend": "draftsmith_draft"}),
        "--worker-extension-cls", f"{MODULES}.hot_swap_worker.DraftSwap",
    )  # fmt: skip
    return spec.model_copy(update={"env": env, "flags": (*spec.flags, *flags)})


def swap(url: str, draft: Path) -> dict[str, Any]:
    """Replace the served draft, and prove it: the live layers must be those of the file. Returns the engine's report.

    Raises EngineError if it was refused (nothing was changed) or could not be proved.
    """
    sha256 = sha256_file(draft / "model.safetensors")
    try:
        answer = httpx.post(
            f"{url}/v1/draft", json={"path": str(draft), "sha256": sha256}, timeout=TIMEOUT_S, trust_env=False
        )
        result: dict[str, Any] = answer.json()
    except (httpx.HTTPError, ValueError) as error:
        raise EngineError(f"the engine did not answer to a swap ({type(error).__name__})", "see its log") from None
    if answer.status_code != httpx.codes.OK:
        raise EngineError(f"the engine refused the swap: {result.get('error', answer.status_code)}", "see its log")
    if result["file_sha256"] != sha256 or result["live_sha256"] != result["expected_live_sha256"] or result["tainted"]:
        raise EngineError("after the swap the engine's live weights are not those of the draft", "restart the engine")
    return result

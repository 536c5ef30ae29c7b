"""Loaded by the engine as an endpoint plug-in: GET and POST /v1/draft, behind the server's API key.

One swap at a time; a client that hangs up leaves no engine paused; the prefix cache is cleared, for the KV of another draft
would stay in it.
"""

from __future__ import annotations

import asyncio
from typing import Any

from fastapi import APIRouter, FastAPI, Request
from fastapi.responses import JSONResponse

STAGE_POLL_S = 0.05
router = APIRouter()
_lock = asyncio.Lock()


@router.get("/v1/draft")
async def report(request: Request) -> Any:
    """What is loaded: digests of the file and of the live layers, swaps so far."""
    return (await request.app.state.engine_client.collective_rpc("draft_report"))[0]


@router.post("/v1/draft")
async def swap(request: Request) -> Any:
    """Replace the draft by that of a folder: {"path", "sha256"}. 409 while another swap runs, 422 if it is refused."""
    try:
        request_json = await request.json()
        path, sha256 = str(request_json["path"]), str(request_json["sha256"])
    except (ValueError, KeyError, TypeError):
        return JSONResponse({"error": 'give {"path": ..., "sha256": ...}'}, 422)
    if _lock.locked():
        return JSONResponse({"error": "another swap is in progress"}, 409)
    try:  # shielded: the client's end does not end the swap
        return await asyncio.shield(_swapped(request.app.state.engine_client, path, sha256))
    except Exception as error:
        return JSONResponse({"error": f"{type(error).__name__}: {error}"}, 422)


async def _swapped(engine: Any, path: str, sha256: str) -> Any:
    async with _lock:
        await engine.collective_rpc("draft_stage", args=(path, sha256))
        while not (state := (await engine.collective_rpc("draft_staged"))[0])["ready"]:
            if state["error"]:
                raise ValueError(state["error"])
            await asyncio.sleep(STAGE_POLL_S)
        await engine.pause_generation(mode="keep", clear_cache=True)
        try:
            await engine.collective_rpc("draft_swap", args=(path, sha256))
        finally:
            await engine.resume_generation()
        return (await engine.collective_rpc("draft_report"))[0]


class Plugin:
    """See vllm.endpoint_plugins."""

    name = "draftsmith"
    required_tasks = ("generate",)

    def attach_router(self, app: FastAPI) -> None:
        """Add the two routes."""
        app.include_router(router)

    async def init_state(self, engine_client: Any, state: Any, args: Any) -> None:
        """Nothing is kept."""

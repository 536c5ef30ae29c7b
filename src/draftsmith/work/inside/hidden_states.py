"""Loaded by the engine: vLLM's example hidden-states connector, made to work without CUDA.

vLLM names this module through `kv_connector_module_path`. On a GPU the parent's asynchronous copy is used as it is. On
CPU the parent dies (it pins memory and records CUDA events), so the copy is done here and now: the states already lie
in host memory. Files are written under a temporary name and renamed, readable by the owner alone.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from vllm.distributed.kv_transfer.kv_connector.v1.example_hidden_states_connector import (
    ExampleHiddenStatesConnector,
)


def _save(tensors: dict[str, torch.Tensor], target: Path) -> None:
    """Write and rename: under its final name a file is whole."""
    part = target.with_suffix(".part")
    save_file(tensors, part)
    part.rename(target)


class _Done:
    """Stands where the parent expects a CUDA event of a finished copy."""

    def query(self) -> bool:
        return True


class HiddenStatesConnector(ExampleHiddenStatesConnector):  # type: ignore[misc]  # vllm is not typed for mypy
    """Saves `hidden_states [tokens, layers, hidden]` and `token_ids [tokens]` of each finished request."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        os.umask(0o077)
        super().__init__(*args, **kwargs)

    @staticmethod
    def _write_tensors(tensors: dict[str, torch.Tensor], event: Any, filename: str, lock_fd: int | None) -> None:
        """The parent's writer thread on a GPU, with the rename."""
        try:
            event.synchronize()
            _save(tensors, Path(filename))
        finally:
            if lock_fd is not None:
                os.close(lock_fd)

    def _submit_async_write(self, pending: Any) -> None:
        cache = self._kv_cache
        if cache is not None and cache.device.type != "cpu":
            super()._submit_async_write(pending)
            return
        if not self._is_tp_rank_zero:
            return
        if cache is None:
            raise RuntimeError("hidden-states cache was not registered before the first save")
        blocks = torch.tensor(pending.block_ids, dtype=torch.long)
        offsets = torch.arange(self._block_size, dtype=torch.long)
        slots = (offsets[None, :] + blocks[:, None] * self._block_size).flatten()
        slots = slots[: pending.token_ids.shape[0]]
        states = cache[slots // self._block_size, :, slots % self._block_size].contiguous()
        target = Path(pending.filename)
        target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        lock = self._lock_fds.pop(pending.req_id, None)
        try:
            _save({"hidden_states": states, "token_ids": pending.token_ids.clone()}, target)
        finally:
            if lock is not None:
                os.close(lock)
        self._req_copy_events[pending.req_id] = _Done()

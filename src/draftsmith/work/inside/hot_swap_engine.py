"""Loaded by the engine as a backend of its weight transfer: it replaces a draft by the weights of a folder, all or nothing.

All work is done inside `update_weights`, which the worker carries out between two forward passes: none sees half a draft, and
a client that dies meanwhile leaves a whole one. Modules that the draft shares with the target are never touched. What is
loaded is read back from the live layers; on any error the former draft is put back from memory.

Seen with vLLM 0.32's CPU build and with 0.26 on an H200, CUDA graphs on, one rank. `assert_internals` names what is missing in another release.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as parse
from vllm.distributed.weight_transfer.base import WeightTransferEngine, WeightTransferInitInfo, WeightTransferUpdateInfo
from vllm.model_executor.model_loader import reload as reloading

from draftsmith.work.inside import hot_swap_weights as weights
from draftsmith.work.inside.hot_swap_weights import RefusedDraftError, Tensors

logger = logging.getLogger("vllm.draftsmith")
BACKEND = "draftsmith_draft"
ROOT = "DRAFTSMITH_DRAFTS"  # folder under which drafts are read
INTERNALS = ("initialize_layerwise_reload", "finalize_layerwise_reload")


def assert_internals() -> None:
    """Raise at start, with the reason, where this release of the engine lacks what a swap uses."""
    if missing := [name for name in INTERNALS if not hasattr(reloading, name)]:
        raise RuntimeError(f"this vLLM has no {', '.join(missing)}: a hot swap is not possible")


@dataclass
class Init(WeightTransferInitInfo):
    """Nothing is needed."""


@dataclass
class Update(WeightTransferUpdateInfo):
    """The folder of a draft, and the digest of its weights."""

    path: str
    sha256: str


class _Own:
    """The modules of a draft that are not the target's too: what a swap may touch."""

    def __init__(self, draft: torch.nn.Module, target: torch.nn.Module) -> None:
        shared = {id(module) for module in target.modules()}
        self._own = [module for module in draft.modules() if id(module) not in shared]

    def modules(self) -> Iterator[torch.nn.Module]:
        return iter(self._own)


class DraftTransfer(WeightTransferEngine[Init, Update]):
    """See the top of this file."""

    init_info_cls = Init
    update_info_cls = Update
    supports_draft_weight_update = True

    def __init__(self, config: Any, vllm_config: Any, device: Any, model: Any) -> None:
        super().__init__(config, vllm_config, device, model)
        assert_internals()
        folder = Path(vllm_config.speculative_config.draft_model_config.model)
        raw = (folder / weights.WEIGHTS).read_bytes()  # kept: what is put back on an error
        self.serving_config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        self.current, self.current_sha256 = parse(raw), hashlib.sha256(raw).hexdigest()
        self.expected = weights.shapes(self.current)
        self.swaps, self.tainted = 0, ""
        self._staged: dict[str, Any] = {}

    def init_transfer_engine(self, init_info: Init) -> None:
        """See WeightTransferEngine."""

    def start_weight_update(self) -> None:
        """Only the draft is replaced. Without this an update would reach the target."""
        if self.model is self._default_model:
            raise RefusedDraftError("this backend replaces the draft alone")

    def finish_weight_update(self) -> None:
        """See WeightTransferEngine."""

    def shutdown(self) -> None:
        """See WeightTransferEngine."""

    @staticmethod
    def trainer_send_weights(iterator: Any, trainer_args: Any) -> None:
        """Asked of every backend before vLLM 0.32. No trainer sends here: the file is read."""
        raise NotImplementedError("the weights are read from a folder")

    def update_weights(self, update_info: dict[str, Any]) -> None:
        """As the base, without its synchronisation, which no CPU has."""
        self.receive_weights(self.parse_update_info(update_info))
        if self.device.type != "cpu":
            torch.accelerator.synchronize()

    def receive_weights(self, info: Update) -> None:
        """Load a draft that was staged, or read it now; read it back; put the former one back on any error."""
        staged, self._staged = self._staged, {}
        tensors = staged.get("tensors") if staged.get("sha256") == info.sha256 else None
        if tensors is None:
            tensors = self._checked(Path(info.path), info.sha256, self.model)
        with torch.inference_mode():
            self._replace(tensors)
        self.current, self.current_sha256, self.tainted = tensors, info.sha256, ""
        self.swaps += 1
        logger.warning("draft swap %d: weights %s", self.swaps, info.sha256[:12])

    def _replace(self, tensors: Tensors) -> None:
        try:
            self._load(tensors)
        except BaseException as error:
            logger.exception("the draft could not be swapped; the former one is put back")
            try:
                self._load(self.current)
            except BaseException as second:
                self.tainted = f"{type(error).__name__}, then {type(second).__name__}"
            raise

    def stage(self, draft: torch.nn.Module, path: str, sha256: str) -> None:
        """Read and check in a thread, while the engine serves: the swap itself is then a matter of milliseconds."""
        state: dict[str, Any] = {"sha256": sha256}

        def work() -> None:
            try:
                state["tensors"] = self._checked(Path(path), sha256, draft)
            except BaseException as error:
                state["error"] = str(error) if isinstance(error, RefusedDraftError) else type(error).__name__

        self._staged = state
        threading.Thread(target=work, daemon=True).start()

    def staged(self) -> dict[str, Any]:
        """`ready`, or `error` with a sentence; neither while it is being read."""
        state = self._staged
        return {"ready": "tensors" in state, "error": state.get("error", "")}

    def report(self, draft: torch.nn.Module) -> dict[str, Any]:
        """What is loaded, by the file and by the live layers: equal digests are the proof."""
        have = weights.live(draft)
        wanted = weights.as_live(weights.fused(self._loadable(self.current, draft)), have)
        return {
            "file_sha256": self.current_sha256,
            "live_sha256": weights.digest(have),
            "expected_live_sha256": weights.digest({**have, **wanted}),
            "swaps": self.swaps,
            "tainted": self.tainted,
        }

    def _checked(self, folder: Path, sha256: str, draft: torch.nn.Module) -> Tensors:
        config, tensors = weights.read(folder, Path(os.environ.get(ROOT, "/")), sha256)
        vocab = self.vllm_config.model_config.get_vocab_size()
        weights.check(config, tensors, self.serving_config, self.expected, self._shared(draft), vocab)
        return tensors

    def _shared(self, draft: torch.nn.Module) -> Tensors:
        """Weights of the draft's modules that are the target's own."""
        target = {id(module) for module in self._default_model.modules()}
        parts: dict[str, Any] = {
            weights.SHARED[0]: getattr(draft.model, "embed_tokens", None),
            weights.SHARED[1]: getattr(draft, "lm_head", None),
        }
        return {name: part.weight for name, part in parts.items() if part is not None and id(part) in target}

    def _loadable(self, tensors: Tensors, draft: torch.nn.Module) -> Tensors:
        shared = self._shared(draft)
        return {name: tensor for name, tensor in tensors.items() if name not in shared}

    def _load(self, tensors: Tensors) -> None:
        """By the engine's own way of loading, on the draft's own modules, and read back."""
        loadable, own = self._loadable(tensors, self.model), _Own(self.model, self._default_model)
        reloading.initialize_layerwise_reload(own)
        try:
            self.model.load_weights(iter(loadable.items()))
        finally:
            reloading.finalize_layerwise_reload(own, self.model_config)
        wrong = weights.difference(weights.fused(loadable), weights.live(self.model))
        if wrong:
            raise RuntimeError(f"the loaded draft is not the file: {wrong}")

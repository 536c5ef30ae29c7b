"""Loaded by the engine through `--worker-extension-cls`: importing it registers the backend, before a model is loaded."""

from __future__ import annotations

from typing import Any

from vllm.distributed.weight_transfer.factory import WeightTransferEngineFactory

BACKEND = "draftsmith_draft"
if BACKEND not in WeightTransferEngineFactory._registry:  # a module may be imported in more than one way
    WeightTransferEngineFactory.register_engine(BACKEND, "draftsmith.work.inside.hot_swap_engine", "DraftTransfer")


class DraftSwap:
    """Methods that the endpoint calls in the worker."""

    weight_transfer_engine: Any
    _weight_update_active: bool
    get_draft_model: Any
    start_draft_weight_update: Any
    update_weights: Any
    finish_weight_update: Any

    def draft_report(self) -> dict[str, Any]:
        """What is loaded."""
        report: dict[str, Any] = self.weight_transfer_engine.report(self.get_draft_model())
        return report

    def draft_stage(self, path: str, sha256: str) -> None:
        """Begin to read a draft, while the engine serves."""
        self.weight_transfer_engine.stage(self.get_draft_model(), path, sha256)

    def draft_staged(self) -> dict[str, Any]:
        """How far that is."""
        staged: dict[str, Any] = self.weight_transfer_engine.staged()
        return staged

    def draft_swap(self, path: str, sha256: str) -> None:
        """Start, update, finish in one call: nothing comes between them."""
        if self._weight_update_active:  # somebody began by other endpoints and went away
            self.finish_weight_update()
        self.start_draft_weight_update()
        self.update_weights({"path": path, "sha256": sha256})
        self.finish_weight_update()

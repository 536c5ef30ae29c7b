"""The models that an engine knows, and whether it hands out their hidden states.

An installed engine is queried (`engines/vllm/registry.py`). A machine without one, such as a login node, goes by the
list of a known release in known_models.json, which `python -m draftsmith.engines.vllm.registry cuda` writes.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from pydantic import Field

from draftsmith.contract.base import Frozen

FORMAT = 3  # of a kept list; raised when what is read changes


class Model(Frozen):
    """One architecture. `last_state`: whether the state after the last layer (id L) is handed out too."""

    module: str
    hidden_states: bool = False
    last_state: bool = True
    multimodal: bool = False


class KnownModels(Frozen):
    """What one release of an engine knows on one kind of device, by architecture."""

    engine: str = "vLLM"
    version: str
    device: str
    models: dict[str, Model]
    model_types: frozenset[str] = Field(
        frozenset(), description="model_type values whose configuration is read without the model's own code"
    )
    format: int = FORMAT

    def __str__(self) -> str:
        return f"{self.engine} {self.version}"


@lru_cache(maxsize=1)
def shipped() -> KnownModels:
    """The list of a known release."""
    return KnownModels.model_validate_json(Path(__file__).with_name("known_models.json").read_text(encoding="utf-8"))

"""What an engine knows is read from its source: without importing it, by device, and kept by version."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from draftsmith.contract.errors import PrerequisiteError
from draftsmith.engines.models import shipped
from draftsmith.engines.vllm.registry import known_models, read_registry

REGISTRY = """
_TEXT_GENERATION_MODELS = {
    "PlainForCausalLM": ("plain", "PlainForCausalLM"),
    "ChildForCausalLM": ("child", "ChildForCausalLM"),
    "PlatformForCausalLM": ("vllm.models.platform", "PlatformForCausalLM"),
}
_MULTIMODAL_MODELS: dict[str, tuple[str, str]] = {"SeeingForConditionalGeneration": ("child", "Seeing")}
_EMBEDDING_MODELS = {"Embedder": ("plain", "PlainForCausalLM")}
"""
PLAIN = "class PlainForCausalLM:\n    pass\n"
CHILD = """
from typing import Generic
from .interfaces import SupportsEagle3 as Hands, Other
class Base(Hands, Generic[int]):
    def forward(self):
        return self._maybe_add_hidden_state([], 1, 2, 3)
class ChildForCausalLM(Base):
    pass
class Seeing(Base, Other):
    pass
"""
PLATFORM = """
from vllm.platforms import current_platform
if current_platform.is_cuda():
    from .nvidia import PlatformForCausalLM
else:
    from vllm.model_executor.models.child import ChildForCausalLM as PlatformForCausalLM
"""
NVIDIA = """
from vllm.model_executor.models.interfaces import SupportsEagle3
class PlatformForCausalLM(SupportsEagle3):
    def forward(self):
        for idx in range(3):
            if idx in self.aux_hidden_state_layers:
                pass
"""


def engine(root: Path) -> Path:
    """A package laid out as vLLM is."""
    files = {
        "model_executor/models/registry.py": REGISTRY,
        "model_executor/models/plain.py": PLAIN,
        "model_executor/models/child.py": CHILD,
        "model_executor/models/interfaces.py": "class SupportsEagle3:\n    pass\nclass Other:\n    pass\n",
        "models/platform/__init__.py": PLATFORM,
        "models/platform/nvidia.py": NVIDIA,
        "transformers_utils/config.py": "_CONFIG_REGISTRY = LazyConfigDict(own_type='OwnConfig')\n",
    }
    for name, text in files.items():
        path = root / "vllm" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (root / "vllm" / "__init__.py").write_text("raise RuntimeError('it was imported')\n")
    return root / "vllm"


def test_the_interface_is_found_through_bases_imports_and_platforms(tmp_path: Path) -> None:
    found = read_registry(engine(tmp_path), "1.2", "cuda")
    states = {name: (model.hidden_states, model.last_state, model.multimodal) for name, model in found.models.items()}
    assert states == {
        "PlainForCausalLM": (False, True, False),
        "ChildForCausalLM": (True, True, False),
        "PlatformForCausalLM": (True, False, False),
        "SeeingForConditionalGeneration": (True, True, True),
    }
    assert read_registry(tmp_path / "vllm", "1.2", "cpu").models["PlatformForCausalLM"].last_state
    assert found.model_types == frozenset(), "no transformers: what it knows is not known"


def test_model_types_are_those_of_vllm_and_of_its_transformers_wherever_that_lies(tmp_path: Path) -> None:
    auto = tmp_path / "system" / "transformers" / "models" / "auto"
    auto.mkdir(parents=True)
    (auto / "configuration_auto.py").write_text("CONFIG_MAPPING_NAMES = OrderedDict([('llama', 'LlamaConfig')])\n")
    found = read_registry(engine(tmp_path / "site"), "1.2", "cuda", tmp_path / "system" / "transformers")
    assert found.model_types == {"own_type", "llama"}


def test_an_engine_that_is_laid_out_otherwise_is_named(tmp_path: Path) -> None:
    with pytest.raises(PrerequisiteError, match="list of models"):
        read_registry(tmp_path, "9.9", "cuda")


def test_what_was_read_is_kept_by_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = engine(tmp_path / "site")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("draftsmith.engines.vllm.registry.locate", lambda python=None, name="": package)
    known_models.cache_clear()
    first = known_models("7.7", "cuda")
    known_models.cache_clear()
    (package / "model_executor/models/registry.py").unlink()
    assert known_models("7.7", "cuda") == first, "from the kept list"
    [kept] = (tmp_path / "cache" / "draftsmith").iterdir()
    kept.write_text(json.dumps({"torn": True}))
    known_models.cache_clear()
    with pytest.raises(PrerequisiteError):
        known_models("7.7", "cuda")
    known_models.cache_clear()


@pytest.mark.foreign
def test_the_installed_engine_agrees_with_the_shipped_list() -> None:
    """The list for machines without an engine is that of this release; when it is not, write it again."""
    from draftsmith.engines.vllm.features import installed
    from draftsmith.engines.vllm.registry import locate

    try:
        found = installed()
    except PrerequisiteError:
        pytest.skip("vLLM is not installed here")
    if found.version != shipped().version:
        pytest.skip(f"vLLM {found.version} is installed, the list is of {shipped().version}")
    assert read_registry(locate(), found.version, "cuda") == shipped()

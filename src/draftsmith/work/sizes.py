"""Bytes that a decode step reads, from the files: for the speed of light."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from draftsmith.contract.draft import TargetFacts
from draftsmith.contract.errors import InputError
from draftsmith.contract.jobs import PublishPlan
from draftsmith.contract.measure import ComparisonPlan, EngineFacts
from draftsmith.contract.model_size import CACHE_BYTES
from draftsmith.kit.files import read_json
from draftsmith.report.sol import SolInputs
from draftsmith.store.scrub import from_names
from draftsmith.trainers.draft_folder import read_draft
from draftsmith.trainers.model_size import model_size, weights_read
from draftsmith.trainers.target_config import read_config
from draftsmith.trainers.weights import read_tensors, weight_files

NOT_READ = frozenset({"embed_tokens.weight", "d2t", "t2d"})  # a step looks up a row of the first; maps are small


def sol_inputs(target: TargetFacts, facts: EngineFacts | None, drafts: dict[str, int]) -> SolInputs:
    """What a step of this target reads. `facts`: of the baseline's server, for its GPUs and the type of its cache."""
    folder = Path(target.path)
    size = model_size(read_config(folder))
    dense, routed = weights_read(read_tensors(weight_files(folder)), target.num_layers, target.tied_embeddings)
    settings = facts.settings if facts else {}
    unknown = None
    if size is None:
        unknown = "config.json does not say what a step reads of this architecture"
    elif bool(routed) != bool(size.routed):
        unknown = "weights and config.json do not agree on which of them are experts"
    return SolInputs(
        weight_bytes=dense,
        routed_bytes=routed,
        size=size,
        devices=devices(settings),
        cache_element_bytes=1 if "fp8" in settings.get("kv_cache_dtype", "") else CACHE_BYTES,
        draft_bytes=drafts,
        unknown=unknown,
    )


def devices(settings: Mapping[str, str]) -> int:
    """GPUs of one server, by what the engine's log says of its parallelism."""
    count = 1
    for name in ("tensor_parallel_size", "pipeline_parallel_size"):
        value = settings.get(name, "1")
        count *= int(value) if value.isdigit() else 1
    return count


def pass_bytes(draft: Path) -> int:
    """What one pass of a draft reads: its weights without embeddings and maps."""
    return sum(tensor.size for name, tensor in read_draft(draft).tensors.items() if name not in NOT_READ)


def draft_bytes(plan: PublishPlan, target: Path, trained: Path | None) -> dict[str, int]:
    """Bytes of one pass by arm. Drafts are looked up where the job ran; one that is gone is left out."""
    names = {**plan.names, "{target}": str(target)}
    frozen = plan.results["compare"].outputs.get("plan") if "compare" in plan.results else None
    if not frozen or not Path(frozen).exists():
        return {}
    sizes = {}
    for arm in ComparisonPlan.model_validate(read_json(Path(frozen))).arms:
        model = (arm.speculation.draft if arm.speculation else None) or ""
        model = str(from_names(model, names))
        folder = trained if arm.role == "candidate" and trained else Path(model)
        if model and folder.is_dir():
            try:
                sizes[arm.name] = pass_bytes(folder)
            except (InputError, OSError):
                continue
    return sizes

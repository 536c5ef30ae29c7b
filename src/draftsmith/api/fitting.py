"""Whether a target fits the GPUs that its servers get, and over how many it is split: said before anything starts."""

from __future__ import annotations

from pathlib import Path

from draftsmith import wiring
from draftsmith.contract.config import Config
from draftsmith.contract.errors import DraftsmithError, PrerequisiteError
from draftsmith.contract.fit import Fit
from draftsmith.kit import gpu, hardware
from draftsmith.trainers import fit as arithmetic
from draftsmith.trainers.target_config import read_config, text_config

ASSUMED_GIB = 79.6  # an 80 GB card as its driver counts it: for GPUs that cannot be looked at from here
MORE_MEMORY = "use GPUs with more memory, more of them, or an FP8 release of the model"


class Room:
    """The GPUs of one server: how large, how many there are at most, and whether that was seen or is assumed."""

    def __init__(self, gib: float, most: int, seen: bool) -> None:
        self.gib, self.most, self.seen = gib, most, seen

    def __str__(self) -> str:
        return "" if self.seen else " (assumed: set engine.gpu_memory_gib)"


def room(config: Config) -> Room | None:
    """The GPUs that servers of this configuration get; None on a CPU, or if it is unknown."""
    configured = config.engine.gpu_memory_gib
    if config.backend.kind != "local":
        if not wiring.environment_of_jobs(config) and _device(config) == "cpu":
            return None
        return Room(configured or ASSUMED_GIB, arithmetic.NODE, configured is not None)
    if _device(config) != "cuda":
        return None
    sizes = gpu.sizes_gib()
    if not sizes and configured is None:
        return None
    return Room(configured or min(sizes), len(sizes) or len(hardware.gpu_names()) or 1, True)


def fit_of(config: Config, folder: Path, weight_bytes: int, machine: Room, residents: int = 1) -> Fit:
    """Memory of one server of the target in `folder`, split as configured, or over the fewest GPUs that hold it; over all there are where none do."""
    shape, context = read_config(folder), config.engine.max_model_len
    gpus = config.engine.gpus or config.engine.split_by_flags
    result = None
    if gpus is None:
        result = arithmetic.fewest(shape, weight_bytes, machine.gib, context=context, most=machine.most)
        gpus = result.gpus if result else max(degree for degree in arithmetic.DEGREES if degree <= machine.most)
    return arithmetic.fit(
        shape,
        weight_bytes,
        gpus,
        machine.gib,
        context=context,
        residents=residents,
        flags=tuple(word for flag in config.engine.flags for word in flag.split()),
    )


def sized(config: Config, folder: Path, weight_bytes: int) -> Config:
    """The configuration with context and GPUs of a server settled. GPUs stay as they are where one is enough, or somebody said how many.

    Raises PrerequisiteError for a target that does not fit, with the arithmetic.
    """
    config = _within_reach(config, folder)
    machine = room(config)
    if machine is None:
        return config
    result = fit_of(config, folder, weight_bytes, machine)
    require_fit(result, machine, config)
    if result.gpus == config.engine.gpus_a_server:
        return config
    return config.model_copy(update={"engine": config.engine.model_copy(update={"gpus": result.gpus})})


def _within_reach(config: Config, folder: Path) -> Config:
    """With a context length that the target supports, unless one is configured: engines refuse to start with a longer one."""
    reach = text_config(read_config(folder)).get("max_position_embeddings")
    usual = type(config.engine).model_fields["max_model_len"].default
    if not isinstance(reach, int) or not 0 < reach < usual or config.engine.max_model_len != usual:
        return config
    return config.model_copy(update={"engine": config.engine.model_copy(update={"max_model_len": reach})})


def require_fit(fit: Fit, machine: Room, config: Config) -> None:
    """Raise PrerequisiteError if a server does not fit. GPUs whose size is only assumed refuse nothing but a bad split."""
    if fit.fits and fit.gpus > machine.most and machine.seen and config.backend.kind == "local":
        raise PrerequisiteError(
            f"a server of the target takes {fit.gpus} GPUs and {machine.most} are here",
            "set engine.gpus, or use more GPUs",
        )
    if fit.refused:
        raise PrerequisiteError(f"the target cannot be served on {fit.sentence}", "set engine.gpus to another number")
    if not fit.fits and machine.seen:
        raise PrerequisiteError(f"the target does not fit: {fit.sentence}", MORE_MEMORY)


def _device(config: Config) -> str:
    try:
        return wiring.engine(config).installation(config.engine.python, elsewhere=config.backend.kind != "local").device
    except DraftsmithError:
        return "cpu"

"""Job step: `specforge train`, continued from its last checkpoint, watched, every epoch exported for the engine.

    python -m draftsmith.work.inside.train_specforge --config RUN.yaml --metrics FILE --rows N --checkpoints DIR

Runs in the trainer's interpreter, alone or as one of torchrun's processes. Nothing installed is changed. Inside this
process only: SpecForge's log line becomes a JSON line in FILE, a checkpoint is exported as soon as it is saved, and
without an accelerator the loss is computed without a Triton kernel. Exit code 3: stopped on purpose, and the last line of FILE
says why.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import shutil
import sys
import time
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
import yaml  # type: ignore[import-untyped]
from safetensors.torch import save_file

from draftsmith.work.inside.training_watch import STOPPED, TrainingStopped, Watch

STATE = "training_state.pt"
WAIT_S, LOOK_S = 7200.0, 1.0
PER_POSITION = "eval/per_position_acc"


def rank() -> int:
    """This process among torchrun's; 0 if it is alone."""
    return int(os.environ.get("RANK", "0"))


def settle(config: dict[str, Any], rows: int, world: int) -> tuple[dict[str, Any], int]:
    """The run configuration for `world` processes, from the last checkpoint if there is one; steps of an epoch.

    SpecForge deals the rows out evenly and drops an incomplete batch. Raises ValueError if no batch is complete.
    """
    training = dict(config["training"])
    per_epoch = math.ceil(rows / world) // training["batch_size"]
    if per_epoch < 1:
        raise ValueError(f"{rows} rows on {world} processes do not fill a batch of {training['batch_size']}")
    training["save_interval"] = per_epoch
    if "eval_interval" in training:
        training["eval_interval"] = per_epoch
    model = dict(config["model"])
    checkpoints = saved(Path(config["output_dir"]), config["run_id"])
    if checkpoints:
        training["resume_from"] = str(checkpoints[max(checkpoints)])
        model.pop("draft_checkpoint_path", None)  # SpecForge refuses both: the checkpoint holds the later weights
    topology = {"trainer": {"nnodes": 1, "nproc_per_node": world}}  # only the product counts under torchrun
    return {**config, "training": training, "model": model, "deployment": topology}, per_epoch


def saved(output: Path, run_id: str) -> dict[int, Path]:
    """Complete checkpoints by their step."""
    folders = {int(p.name.rsplit("-step", 1)[1]): p for p in output.glob(f"{run_id}-step*")}
    return {step: folder for step, folder in folders.items() if (folder / STATE).is_file()}


def export(checkpoint: Path, draft_config: Path, out: Path) -> None:
    """The draft's weights without the target's embeddings, and its configuration. `out` appears by rename."""
    state = torch.load(checkpoint / STATE, map_location="cpu", weights_only=True)
    kept = {n: t.contiguous() for n, t in state["draft_state_dict"].items() if not n.startswith("embed_tokens")}
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True, mode=0o700)
    save_file(kept, part / "model.safetensors", metadata={"format": "pt"})
    shutil.copyfile(draft_config, part / "config.json")
    shutil.rmtree(out, ignore_errors=True)
    part.rename(out)


def record(values: Mapping[str, Any], step: int, per_epoch: int) -> dict[str, Any]:
    """One of SpecForge's log records as a line of the metrics file. Epochs count from 0."""
    epoch = (step - 1) // per_epoch
    if PER_POSITION in values:
        single = {f"position_{i}_acc_epoch": float(v) for i, v in enumerate(values[PER_POSITION])}
        return {"val": {"loss_epoch": float(values["eval/avg_loss"]), **single}, "epoch": epoch}
    numbers = {k: float(v) for k, v in values.items() if isinstance(v, int | float)}
    return {"train": numbers, "epoch": epoch, "global_step": step}


def attach(watch: Watch, per_epoch: int, exported: Exports) -> None:
    """Listen to SpecForge's logger and to its checkpoints."""
    from specforge.training import assembly  # type: ignore[import-untyped]
    from specforge.training.controller import TrainerController  # type: ignore[import-untyped]

    def listen(values: Mapping[str, Any], step: int) -> None:
        line = record(values, step, per_epoch)
        watch.write(line)
        watch.check(line)

    assembly._logger = listen
    save = TrainerController.save_checkpoint

    def save_and_export(self: Any, step: int) -> Any:
        done = save(self, step)
        exported.catch_up()
        return done

    TrainerController.save_checkpoint = save_and_export


class Exports:
    """Brings `checkpoints/<epoch>` up to date with what is saved. Only rank 0 writes. Older states are removed."""

    def __init__(self, config: dict[str, Any], per_epoch: int, out: Path) -> None:
        self.output, self.run_id = Path(config["output_dir"]), config["run_id"]
        self.draft_config = Path(config["model"]["draft_model_config"])
        self.per_epoch, self.out = per_epoch, out

    def catch_up(self) -> None:
        """Export what is missing, and keep only the newest training state: it is what a restart reads."""
        if rank():
            return
        checkpoints = saved(self.output, self.run_id)
        for step, folder in checkpoints.items():
            goal = self.out / str(step // self.per_epoch - 1)
            if step % self.per_epoch == 0 and not goal.is_dir():
                export(folder, self.draft_config, goal)
        for step in sorted(checkpoints)[:-1]:
            shutil.rmtree(checkpoints[step], ignore_errors=True)


def run_on_cpu() -> None:
    """SpecForge's loss is a Triton kernel; on a CPU the same sum is taken by torch, and nothing is compiled."""
    from specforge.algorithms.eagle3 import model  # type: ignore[import-untyped]

    class EagerLoss:
        @staticmethod
        def apply(logits: torch.Tensor, target: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
            log_p = torch.log_softmax(logits.float(), dim=2)
            return -torch.sum(mask * target * log_p, 2).mean()

    os.environ.setdefault("SPECFORGE_DEVICE", "cpu")
    torch.compiler.set_stance("force_eager")
    model.LogSoftmaxLoss = EagerLoss


def stand_in_for_accelerate() -> None:
    """SpecForge takes one function of accelerate, `set_seed`; transformers has the same."""
    try:
        import accelerate.utils  # type: ignore[import-not-found]  # noqa: F401
    except ModuleNotFoundError:
        import transformers

        utils = types.ModuleType("accelerate.utils")
        utils.set_seed = transformers.set_seed  # type: ignore[attr-defined]
        package = types.ModuleType("accelerate")
        package.utils = utils  # type: ignore[attr-defined]
        sys.modules |= {"accelerate": package, "accelerate.utils": utils}


def wait_for(path: Path) -> None:
    """Wait until rank 0 has made it. Raises TimeoutError."""
    deadline = time.monotonic() + WAIT_S
    while not path.exists():
        if time.monotonic() > deadline:
            raise TimeoutError(f"{path.name} did not appear within {WAIT_S:.0f} s")
        time.sleep(LOOK_S)


def main(argv: list[str]) -> int:
    """Run; returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", type=Path, required=True, help="SpecForge's run configuration")
    parser.add_argument("--metrics", type=Path, required=True, help="file that gets one JSON line a metric record")
    parser.add_argument("--rows", type=int, required=True, help="training rows")
    parser.add_argument("--checkpoints", type=Path, required=True, help="folder for one exported draft an epoch")
    parser.add_argument("--min-position0", type=float, default=0.15)
    parser.add_argument("--grace-epochs", type=int, default=2, help="epochs before --min-position0 applies")
    options = parser.parse_args(argv)
    wait_for(options.config)
    config = yaml.safe_load(options.config.read_text(encoding="utf-8"))
    wait_for(Path(config["data"]["hidden_states_path"]))
    config, per_epoch = settle(config, options.rows, int(os.environ.get("WORLD_SIZE", "1")))
    stand_in_for_accelerate()
    from specforge import cli  # type: ignore[import-untyped]

    if not torch.accelerator.is_available():
        run_on_cpu()
    options.metrics.parent.mkdir(parents=True, exist_ok=True)
    settled = options.metrics.with_name("specforge.settled.yaml")
    settled.write_text(json.dumps(config), encoding="utf-8")  # JSON is YAML
    exports = Exports(config, per_epoch, options.checkpoints)
    exports.catch_up()
    attach(Watch(options.metrics, options.min_position0, options.grace_epochs), per_epoch, exports)
    try:
        code: int = cli.main(["train", "--config", str(settled)])
    except TrainingStopped as stop:
        print(f"training stopped: {stop}", file=sys.stderr)
        return STOPPED
    exports.catch_up()
    return code


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

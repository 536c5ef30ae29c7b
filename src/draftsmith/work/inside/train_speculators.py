"""Job step: `speculators train`, on CPU as well, computing only what the loss needs, and watched while it runs.

    python -m draftsmith.work.inside.train_speculators --metrics FILE [options] -- <speculators train flags>

Nothing installed is changed. Inside this process only: without an accelerator the trainer's device is the CPU, the
EAGLE3 forward is the sparse one where it covers the model, and the draft's output head may be trained. Each metric
record of speculators becomes one JSON line in FILE. Exit code 3 means training was stopped on purpose; the last line
of FILE then holds the diagnosis.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch
from speculators.train import checkpointer, cli, trainer
from speculators.train.config import TrainConfig

from draftsmith.kit.precision import quick_bfloat16
from draftsmith.work.inside import muon, sparse_eagle3
from draftsmith.work.inside.training_watch import STOPPED, TrainingStopped, Watch

FEWEST_CHANNELS_ON_GPU = 1024
"""Below it a GPU waits for the sparse forward's many small launches (decision 0002): slower at 576, faster at 2,048."""


def attach(watch: Watch) -> None:
    """Listen to speculators' metric logger; its set-up replaces all handlers, so this comes after it."""
    set_up = cli.setup_metric_logger

    def set_up_and_listen(*args: Any, **kwargs: Any) -> None:
        set_up(*args, **kwargs)
        logging.getLogger("speculators.metrics").addHandler(watch)

    cli.setup_metric_logger = set_up_and_listen


def run_on_cpu() -> None:
    """Point the trainer at the CPU: it assumes an accelerator in five places."""

    class CpuTimer(trainer._StepTimer):
        def mark(self, name: str) -> None:
            self.mark_value(name, time.perf_counter())

        def now(self) -> float | None:
            return time.perf_counter() if self.enabled else None

    class CpuTrainer(trainer.Trainer):
        def setup_trainer(self) -> None:
            self.device_type = "cpu"
            super().setup_trainer()

    trainer._StepTimer = CpuTimer
    trainer.get_local_rank = lambda: "cpu"
    checkpointer.get_current_device = lambda: "cpu"
    cli.Trainer = CpuTrainer


def use_sparse_forward(least: int = 0) -> None:
    """Replace the EAGLE3 training forward by the sparse one for the models that it covers, from `least` channels on."""
    from speculators.models.eagle3.core import Eagle3DraftModel

    dense = Eagle3DraftModel.forward

    def forward(self: Any, *args: Any, **kwargs: Any) -> Any:
        small = self.config.transformer_layer_config.hidden_size < least
        if small or args or kwargs.get("loss_mask") is None or not sparse_eagle3.supports(self):
            return dense(self, *args, **kwargs)
        return sparse_eagle3.forward(self, **kwargs)

    Eagle3DraftModel.forward = forward


def train_in_float32() -> None:
    """Let the weights that learn be float32, as in a fresh draft: a warm start reads them as they were saved, in
    bfloat16, where a small step is rounded away and autocast of another type does not compute."""
    build = cli.build_draft_model

    def build_in_float32(*args: Any, **kwargs: Any) -> Any:
        return build(*args, **kwargs).float()

    cli.build_draft_model = build_in_float32


def train_output_head() -> None:
    """Let the draft's own output head learn: it starts as the target's rows of the draft vocabulary."""
    build = cli.build_draft_model

    def build_and_unfreeze(*args: Any, **kwargs: Any) -> Any:
        model = build(*args, **kwargs)
        if "lm_head.weight" not in (model._keys_to_ignore_on_save or ()):  # a head that is not saved must not learn
            model.lm_head.weight.requires_grad_(True)
        return model

    cli.build_draft_model = build_and_unfreeze


def main(argv: list[str]) -> int:
    """Run; returns the exit code."""
    own, _, rest = (argv[: argv.index("--")], "--", argv[argv.index("--") + 1 :]) if "--" in argv else (argv, "--", [])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--metrics", type=Path, required=True, help="file that gets one JSON line a metric record")
    parser.add_argument("--min-position0", type=float, default=0.15)
    parser.add_argument("--grace-epochs", type=int, default=2, help="epochs before --min-position0 applies")
    parser.add_argument(
        "--forward",
        choices=["auto", "sparse", "stock"],
        default="auto",
        help="auto: the sparse one; on a GPU speculators' own (stock) for a small target",
    )
    parser.add_argument("--freeze-head", action="store_true", help="keep the target's output head in the draft")
    parser.add_argument("--compile", action="store_true", help="let speculators compile its forward (flex needs it)")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads; 0 = all")
    options = parser.parse_args(own)
    torch.set_num_threads(options.threads or os.cpu_count() or 1)
    if not torch.accelerator.is_available():
        run_on_cpu()
        if not quick_bfloat16():
            rest = ["--hidden-states-dtype", "float32", *rest]  # products in bfloat16 take several times as long here
            muon.use_float32()
    elif not (options.compile or options.forward == "stock"):
        # Compiling takes longer than a training of a few minutes wins back, and fails on some models with torch 2.11.
        torch.compiler.set_stance("force_eager")
    train_in_float32()
    if options.forward != "stock":
        small = options.forward == "auto" and torch.accelerator.is_available()
        use_sparse_forward(FEWEST_CHANNELS_ON_GPU if small else 0)
    if not options.freeze_head:
        train_output_head()
    options.metrics.parent.mkdir(parents=True, exist_ok=True)
    watch = Watch(options.metrics, options.min_position0, options.grace_epochs)
    attach(watch)
    try:
        cli.main(TrainConfig.resolve(rest))
    except TrainingStopped as stop:
        print(f"training stopped: {stop}", file=sys.stderr)
        return STOPPED
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

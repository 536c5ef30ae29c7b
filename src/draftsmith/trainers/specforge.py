"""Training through SpecForge: its data, its command, its checkpoints.

SpecForge pins versions of torch and transformers of its own, so it lives in an interpreter of its own
(`trainer.python`). Its notation of layers is used here and nowhere else; see trainers.layers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from draftsmith.contract.config import TrainerConfig
from draftsmith.contract.errors import ConfigError, InputError
from draftsmith.trainers.base import Step, TrainingTask
from draftsmith.trainers.draft_folder import read_draft
from draftsmith.trainers.specforge_config import EMBEDDINGS, HEAD, LOG_EVERY, eagle3_config, run_config, yaml_text
from draftsmith.trainers.specforge_env import require_specforge
from draftsmith.trainers.target_config import read_config
from draftsmith.trainers.weights import INDEX, read_tensors, weight_files

LAUNCHER = "draftsmith.work.inside.train_specforge"
PREPARE = "draftsmith.work.inside.prepare_specforge"
READ_LAYERS = 3  # its EAGLE3 model is made for three layers of the target
ATTENTION = {"auto": "sdpa", "sdpa": "sdpa", "flex": "flex_attention"}
PAD_FACTOR = 4  # a batch is padded to its longest row: at most this factor times the wanted tokens
# SpecForge applies the target's head alone, so the states are normalised when they are converted: by
# weight * x / rms(x), which is the final norm of these. Their logits are not scaled or capped either.
PLAIN_NORM = frozenset(
    """DeepseekV2ForCausalLM DeepseekV3ForCausalLM GptOssForCausalLM LlamaForCausalLM MiMoForCausalLM
    Ministral3ForCausalLM MistralForCausalLM Phi3ForCausalLM Qwen2ForCausalLM Qwen3ForCausalLM
    Qwen3MoeForCausalLM""".split()  # noqa: SIM905 - a list to read and compare
)


class SpecforgeTrainer:
    """See trainers.base.Trainer."""

    def __init__(self, config: TrainerConfig, python: str) -> None:
        self.config = config
        self.python = python
        check_settings(config)

    def files(self, task: TrainingTask) -> dict[str, str]:
        """See Trainer. Reads the target's folder. Raises PrerequisiteError without SpecForge, InputError, ConfigError."""
        require_specforge(self.python)
        target = read_config(Path(task.target))
        check_target(target)
        if task.warm_start and read_draft(Path(task.warm_start)).form != "plain":
            raise InputError(
                "the draft to start from is in the format of speculators, which SpecForge cannot read",
                "set trainer.kind = 'speculators', or start from a draft that SpecForge trained",
            )
        work = Path(task.workdir)
        draft = eagle3_config(target, task.draft_vocab, task.layer_ids)
        return {
            str(work / "draft-config.json"): json.dumps(draft, indent=2) + "\n",
            str(work / "specforge.yaml"): yaml_text(self.run_config(task)),
        }

    def run_config(self, task: TrainingTask) -> dict[str, Any]:
        """The run configuration of a task, for one process."""
        config, work, target = self.config, Path(task.workdir), Path(task.target)
        batch = self.batch_rows(task)
        names = read_tensors(weight_files(target))
        return run_config(
            target=str(self._target(task)),
            draft_config=str(work / "draft-config.json"),
            states=str(work / "data" / "train"),
            validation_states=str(work / "data" / "validation"),
            vocabulary=str(work / "data" / "vocabulary.pt"),
            output=str(work / "specforge"),
            layer_ids=task.layer_ids,
            head_key=HEAD if HEAD in names else EMBEDDINGS,
            max_length=task.longest_row,
            batch_size=batch,
            per_epoch=task.train_rows // batch,
            epochs=config.epochs,
            learning_rate=config.learning_rate,
            ttt_steps=config.ttt_steps,
            attention=ATTENTION[config.attention],
            seed=config.seed,
            warm_start=task.warm_start,
            log_every=min(LOG_EVERY, task.train_rows // batch),
        )

    def steps(self, task: TrainingTask) -> tuple[Step, ...]:
        """Convert corpus and states, then train and export every epoch."""
        work = Path(task.workdir)
        prepare = ["--corpus", task.corpus, "--states", task.states, "--out", str(work / "data")]
        prepare += ["--target", task.target, "--vocabulary", str(work / "vocabulary")]
        if self._target(task) != Path(task.target):
            prepare += ["--view", str(self._target(task))]
        train = ["--config", str(work / "specforge.yaml"), "--metrics", str(self.metrics(task))]
        train += ["--rows", str(task.train_rows), "--checkpoints", str(work / "checkpoints")]
        train += ["--min-position0", str(self.config.min_position0)]
        return (
            Step(
                name="preparing the data set", module=PREPARE, arguments=tuple(prepare), log=str(work / "prepare.log")
            ),
            Step(name="training", module=LAUNCHER, arguments=tuple(train), log=str(work / "train.log")),
        )

    def batch_rows(self, task: TrainingTask) -> int:
        """Rows of one optimiser step: about the wanted tokens, limited by what padding to the longest row costs."""
        tokens = task.batch_tokens(self.config.batch_tokens)
        mean = max(1, task.train_tokens // max(1, task.train_rows))
        return max(1, min(tokens // mean, PAD_FACTOR * tokens // task.longest_row, task.train_rows))

    def shown(self, task: TrainingTask) -> str:
        """What was chosen, in words."""
        attention = ATTENTION[self.config.attention]
        return f"eagle3 by SpecForge, 1 draft layer, {self.batch_rows(task)} rows a batch, {attention} attention"

    def metrics(self, task: TrainingTask) -> Path:
        """See Trainer."""
        return Path(task.workdir) / "metrics.jsonl"

    def checkpoint(self, task: TrainingTask, epoch: int) -> Path:
        """See Trainer."""
        return Path(task.workdir) / "checkpoints" / str(epoch)

    def _target(self, task: TrainingTask) -> Path:
        """What SpecForge reads the head and the embeddings from: it asks for an index of the weight files."""
        target = Path(task.target)
        return target if (target / INDEX).is_file() else Path(task.workdir) / "target"


def check_settings(config: TrainerConfig) -> None:
    """Raise ConfigError for settings that SpecForge's EAGLE3 training has no equivalent of."""
    if config.method != "eagle3":
        raise ConfigError(
            f"trainer.kind = 'specforge' trains eagle3 here, not {config.method}",
            "set trainer.kind = 'speculators', or run SpecForge by yourself: `draftsmith scaffold`",
        )
    if config.draft_layers not in (None, 1):
        raise ConfigError("SpecForge's EAGLE3 draft has one layer", "leave trainer.draft_layers out")
    if config.attention not in ATTENTION:
        raise ConfigError(
            f"SpecForge does not train EAGLE3 with {config.attention} attention", "use auto, sdpa or flex"
        )
    if config.layers is not None and len(config.layers) != READ_LAYERS:
        raise ConfigError("SpecForge's EAGLE3 draft reads three layers of the target", "name three in trainer.layers")


def check_target(target: dict[str, Any]) -> None:
    """Raise InputError for a target whose final norm or logits are others than SpecForge takes them to be."""
    named = (target.get("architectures") or [""])[0]
    if named not in PLAIN_NORM:
        raise InputError(
            f"states of {named or 'this target'} cannot be converted for SpecForge: its final norm or the scale of its "
            "logits is not known to be the plain one",
            "set trainer.kind = 'speculators'",
        )

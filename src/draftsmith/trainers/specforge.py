"""Training through SpecForge: its run configuration, its draft configuration, its checkpoints.

SpecForge pins versions of torch and transformers of its own, so it lives in an interpreter of its own
(`trainer.python`). Its notation of layers is used here and nowhere else; see trainers.layers.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from draftsmith.contract.config import TrainerConfig
from draftsmith.contract.draft import TargetFacts
from draftsmith.contract.errors import ConfigError, InputError
from draftsmith.trainers.base import Step, TrainingTask
from draftsmith.trainers.draft_folder import AUX, read_draft
from draftsmith.trainers.layers import to_specforge
from draftsmith.trainers.specforge_env import require_specforge
from draftsmith.trainers.target import read_config, read_rope, text_config
from draftsmith.trainers.weights import INDEX, read_tensors, weight_files

LAUNCHER = "draftsmith.work.train_specforge"
PREPARE = "draftsmith.work.prepare_specforge"
EAGLE3 = "LlamaForCausalLMEagle3"
RUN_ID = "draft"
LOG_EVERY = 5
READ_LAYERS = 3  # its EAGLE3 model is made for three layers of the target
EMBEDDINGS, HEAD, FINAL_NORM = "model.embed_tokens.weight", "lm_head.weight", "model.norm.weight"
ATTENTION = {"auto": "sdpa", "sdpa": "sdpa", "flex": "flex_attention"}
WAIT_MIN = 120  # how long ranks wait for each other; rank 0 converts the states meanwhile
PAD_FACTOR = 4  # a batch is padded to its longest row: at most so many times the wanted tokens
# SpecForge applies the target's head alone, so the states are normalised when they are converted: by
# weight * x / rms(x), which is the final norm of these. Their logits are not scaled or capped either.
PLAIN_NORM = frozenset(
    """DeepseekV2ForCausalLM DeepseekV3ForCausalLM GptOssForCausalLM LlamaForCausalLM MiMoForCausalLM
    Ministral3ForCausalLM MistralForCausalLM Phi3ForCausalLM Qwen2ForCausalLM Qwen3ForCausalLM
    Qwen3MoeForCausalLM""".split()  # noqa: SIM905 - a list to read and compare
)
COPIED = (
    "hidden_size", "num_attention_heads", "num_key_value_heads", "max_position_embeddings", "rms_norm_eps",
    "initializer_range", "bos_token_id", "eos_token_id", "pad_token_id",
)  # fmt: skip


def eagle3_config(target: dict[str, Any], draft_vocab: int, layer_ids: tuple[int, ...]) -> dict[str, Any]:
    """Draft configuration (JSON) of a one-layer EAGLE3 head for a target's config.json. Pure.

    `layer_ids` stand at the top, in the engine's notation, for the engine: SpecForge copies them into its exports and
    reads its own from the run configuration (or from eagle_config, which is left out: the engine would read it too).
    It says nothing of `norm_output`: true means "the head reads normalised states" to SpecForge, and "normalised
    states are fed back" to vLLM; absent, both normalise for the head alone. Raises InputError for a missing width.
    """
    text = text_config(target)
    layer = {key: text[key] for key in COPIED if text.get(key) is not None}
    heads, size, vocab = (text.get(key) for key in ("num_attention_heads", "hidden_size", "vocab_size"))
    wide = text.get("intermediate_size") or text.get("moe_intermediate_size")
    if not (isinstance(heads, int) and isinstance(size, int) and isinstance(vocab, int) and isinstance(wide, int)):
        raise InputError(
            "config.json of the target lacks hidden_size, num_attention_heads, intermediate_size or vocab_size",
            "write the draft configuration by hand",
        )
    return {
        "architectures": [EAGLE3],
        "model_type": "llama",
        **layer,
        "head_dim": text.get("head_dim") or size // heads,
        "intermediate_size": wide,
        "hidden_act": "silu",
        "vocab_size": vocab,
        "draft_vocab_size": min(draft_vocab, vocab),
        "num_hidden_layers": 1,
        **_rope(text),
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
        "use_cache": True,
        "torch_dtype": "bfloat16",
        AUX: list(layer_ids),
    }


def dflash_config(
    target: dict[str, Any], layer_ids: tuple[int, ...], *, layers: int, block_size: int, mask_token: int | None = None
) -> dict[str, Any]:
    """Draft configuration (JSON) of a DFlash draft. `layer_ids` in engine notation. Pure. Raises InputError."""
    text = text_config(target)
    base = eagle3_config(target, int(text.get("vocab_size") or 0), layer_ids)
    for key in ("draft_vocab_size", "mlp_bias", AUX):
        base.pop(key)
    dflash: dict[str, Any] = {"target_layer_ids": list(to_specforge(layer_ids))}
    if mask_token is not None:
        dflash["mask_token_id"] = mask_token
    return {
        **base,
        "architectures": ["DFlashDraftModel"],
        "model_type": "qwen3",
        "num_hidden_layers": layers,
        "num_target_layers": text["num_hidden_layers"],
        "layer_types": ["full_attention"] * layers,
        "sliding_window": None,
        "use_sliding_window": False,
        "block_size": block_size,
        "dflash_config": dflash,
    }


def run_config(
    *,
    target: str,
    draft_config: str,
    states: str,
    output: str,
    layer_ids: tuple[int, ...],
    max_length: int,
    batch_size: int,
    per_epoch: int,
    epochs: int,
    learning_rate: float,
    method: str = "eagle3",
    validation_states: str | None = None,
    vocabulary: str | None = None,
    head_key: str = HEAD,
    ttt_steps: int = 7,
    attention: str = "sdpa",
    seed: int = 0,
    run_id: str = RUN_ID,
    warm_start: str | None = None,
    log_every: int = LOG_EVERY,
    workers: int = 0,
) -> dict[str, Any]:
    """SpecForge's run configuration for training from stored states. Pure. `layer_ids` in engine notation.

    `per_epoch`: optimiser steps of one pass, after each of which it validates (where there are states to validate on)
    and saves. Raises InputError for layers that SpecForge cannot name.
    """
    model: dict[str, Any] = {
        "target_model_path": target,
        "draft_model_config": draft_config,
        "embedding_key": EMBEDDINGS,
        "lm_head_key": head_key,
        "torch_dtype": "bfloat16",
    }
    if method == "eagle3":  # the other methods name their layers in the draft configuration
        model["aux_hidden_state_layer_ids"] = list(to_specforge(layer_ids))
    if vocabulary:
        model["vocab_mapping_path"] = vocabulary
    if warm_start:
        model["draft_checkpoint_path"] = warm_start
    data: dict[str, Any] = {
        "hidden_states_path": states,
        "max_length": max_length,
        "dataloader_num_workers": workers,
    }
    training: dict[str, Any] = {
        "strategy": method,
        "num_epochs": epochs,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "attention_backend": attention,
        "fsdp_sharding": "NO_SHARD",  # the draft is small: every rank holds it whole
        "save_interval": per_epoch,
        "log_interval": log_every,
        "dist_timeout": WAIT_MIN,
        "seed": seed,
    }
    if method == "eagle3":
        training["ttt_length"] = ttt_steps
    if validation_states:
        data["eval_hidden_states_path"] = validation_states
        training["eval_interval"] = per_epoch
    return {
        "run_id": run_id,
        "output_dir": output,
        "model": model,
        "data": data,
        "training": training,
        "tracking": {"report_to": "none"},
    }


def yaml_text(config: dict[str, Any]) -> str:
    """A configuration as YAML: two levels, values as JSON, which YAML reads alike but for numbers such as 1e-05."""
    lines: list[str] = []
    for key, value in config.items():
        if isinstance(value, dict):
            lines += [f"{key}:", *(f"  {name}: {_scalar(item)}" for name, item in value.items())]
        else:
            lines.append(f"{key}: {_scalar(value)}")
    return "\n".join(lines) + "\n"


def _scalar(value: Any) -> str:
    text = json.dumps(value)
    if isinstance(value, float) and "e" in text and "." not in text:  # without a point YAML 1.1 takes it for text
        return text.replace("e", ".0e")
    return text


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


def default_draft_vocab(target: TargetFacts) -> int:
    """SpecForge's own default, 32,000 tokens, or all where the target has fewer."""
    return min(32_000, target.vocab_size)


def _rope(text: dict[str, Any]) -> dict[str, Any]:
    """Rotary settings in the older spelling, which every version of transformers reads."""
    rope = read_rope(text)
    found: dict[str, Any] = {"rope_theta": rope["rope_theta"]} if "rope_theta" in rope else {}
    scaling = {key: value for key, value in rope.items() if key != "rope_theta"}
    return found | ({"rope_scaling": scaling} if scaling.get("rope_type") not in (None, "default") else {})

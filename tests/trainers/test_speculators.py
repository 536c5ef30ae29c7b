"""What the trainer is told, and that it understands it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from model_folders import write_target

from draftsmith import wiring
from draftsmith.contract.config import Config, TrainerConfig
from draftsmith.trainers.base import TrainingTask
from draftsmith.trainers.choice import best, scores
from draftsmith.trainers.mask_token import choose_mask
from draftsmith.trainers.speculators import SpeculatorsTrainer


def told(task: dict[str, Any] | None = None, **config: Any) -> tuple[list[str], list[str]]:
    """The launcher's flags and those of speculators."""
    given = {
        "target": "/models/target", "corpus": "/c", "states": "/s", "workdir": "/w", "layer_ids": (2, 15, 27),
        "draft_vocab": 4096, "train_rows": 90, "validation_rows": 10, "longest_row": 400, "train_tokens": 64_000,
        "answer_tokens": 16_000, "target_layers": 30, "mask_token": 7,
    }  # fmt: skip
    trainer = SpeculatorsTrainer(TrainerConfig(**config), "python")
    arguments = list(trainer.arguments(TrainingTask.model_validate(given | (task or {}))))
    place = arguments.index("--")
    return arguments[:place], arguments[place + 1 :]


def values(flags: list[str], name: str) -> list[str]:
    start = flags.index(f"--{name}") + 1
    end = next((i for i in range(start, len(flags)) if flags[i].startswith("--")), len(flags))
    return flags[start:end]


def decoder(folder: Path, **config: Any) -> dict[str, Any]:
    """The draft's decoder as the trainer is told it, for a target of thirty layers."""
    target = write_target(folder / "target", num_attention_heads=4, num_key_value_heads=2, intermediate_size=40)
    given = {
        "target": str(target), "corpus": "/c", "states": "/s", "workdir": str(folder), "layer_ids": (2, 15, 27),
        "draft_vocab": 10, "train_rows": 9, "validation_rows": 1, "longest_row": 40, "train_tokens": 640, "target_layers": 30,
    }  # fmt: skip
    [text] = SpeculatorsTrainer(TrainerConfig(**config), "python").files(TrainingTask.model_validate(given)).values()
    found: dict[str, Any] = json.loads(text)
    return found


def test_a_block_draft_attends_in_full_and_both_ways(tmp_path: Path) -> None:
    layer = decoder(tmp_path, method="dflash")
    assert (layer["model_type"], layer["num_hidden_layers"]) == ("qwen3", 3), "a tenth of the target's layers"
    assert layer["layer_types"] == ["full_attention"] * 3
    _, flags = told(method="dflash")
    assert values(flags, "draft-config") == ["/w/draft-config.json"]
    assert "--sliding-window-non-causal" in flags
    assert (values(flags, "block-size"), values(flags, "mask-token-id")) == (["8"], ["7"])
    assert values(flags, "max-anchors") == ["320"], "a quarter of 1,000 packed tokens are answers, and a margin"
    assert "--ttt-steps" not in flags


def test_a_residual_is_not_normalised_for_an_engine_that_would_read_past_it(tmp_path: Path) -> None:
    """SGLang. The trainer's own parser understands the flag; a warm start keeps what its parent has."""
    off = "--no-norm-before-residual"
    assert off not in told()[1]
    assert off in told({"normed_residual": False})[1]
    assert off not in told({"normed_residual": False, "warm_start": "/d"})[1]
    assert off not in told({"normed_residual": False}, method="dflash")[1]
    for kind, said, wanted in (
        ("vllm", None, True),
        ("sglang", None, False),
        ("sglang", True, True),
        ("vllm", False, False),
    ):
        config = Config.model_validate({"engine": {"kind": kind}, "trainer": {"norm_before_residual": said}})
        assert wiring.normed_residual(config) is wanted
        assert wiring.trained_config(config) == {"norm_before_residual": wanted}


def test_an_eagle3_draft_is_one_llama_layer(tmp_path: Path) -> None:
    layer = decoder(tmp_path)
    assert (layer["model_type"], layer["num_hidden_layers"], layer["num_key_value_heads"]) == ("llama", 1, 2)
    own, flags = told()
    assert (values(flags, "draft-attn-impl"), values(flags, "loss-implementation")) == (["sdpa"], ["eager"])
    assert "--compile" not in own
    assert "--compile" in told(attention="flex")[0], "flex attention has to be compiled"


@pytest.mark.parametrize("method", ["eagle3", "dflash"])
def test_a_warm_start_brings_its_own_layers(method: str) -> None:
    _, flags = told({"warm_start": "/parent", "mask_token": None}, method=method)
    assert values(flags, "from-pretrained") == ["/parent"]
    assert not {"--draft-config", "--sliding-window-non-causal", "--mask-token-id"} & set(flags)


@pytest.mark.parametrize("warm", [None, "/parent"])
@pytest.mark.parametrize("method", ["eagle3", "dflash"])
def test_speculators_itself_accepts_it(method: str, warm: str | None) -> None:
    config = pytest.importorskip("speculators.train.config")
    _, flags = told({"warm_start": warm}, method=method)
    resolved = config.TrainConfig.resolve(flags)
    assert resolved.speculator_type == method
    assert resolved.draft.sliding_window_non_causal is (method == "dflash" and warm is None)
    assert resolved.data.total_seq_len == 1000


def test_a_batch_is_as_large_as_memory_allows() -> None:
    task = TrainingTask.model_validate(
        {"target": "", "corpus": "", "states": "", "workdir": "", "layer_ids": (2,), "draft_vocab": 128_000,
         "train_rows": 1, "validation_rows": 1, "longest_row": 100, "train_tokens": 10**7}
    )  # fmt: skip
    assert task.batch_tokens(None) == 8192
    assert task.model_copy(update={"free_gib": 24.0}).batch_tokens(None) == 1118
    assert task.model_copy(update={"free_gib": 24.0}).batch_tokens(4000) == 4000, "who asks for more gets it"


def test_the_mask_is_a_special_token_that_nothing_else_uses() -> None:
    counts = {"train": np.array([0, 9, 0, 4, 0, 1]), "prompt": np.array([0, 2, 0, 0, 0, 0])}
    assert choose_mask({0, 1, 2, 3, 4}, counts, {"eos_token_id": [0, 3], "pad_token_id": 2}) == 4
    assert choose_mask({0, 1}, counts, {"eos_token_id": 0}) is None


def test_blocks_are_scored_as_whole_blocks() -> None:
    record = {"epoch": 0, "val": {"loss_epoch": 2.0, "position_1_acc_epoch": 0.8, "position_2_acc_epoch": 0.5}}
    assert best(scores([record])).acceptance == (0.8, 0.4)
    assert best(scores([record])).expected_al == pytest.approx(2.2)
    counted = {"epoch": 1, "val": {**record["val"], "eal_epoch": 2.45}}  # type: ignore[dict-item]
    assert best(scores([record, counted])).expected_al == 2.45

"""How servers share a GPU."""

from __future__ import annotations

import json
from pathlib import Path

from draftsmith.engines.gpu_memory import gpu_share, shared_kv_gib

SMALL = {"num_attention_heads": 9, "num_key_value_heads": 3, "hidden_size": 576, "num_hidden_layers": 30}
LARGE = {"num_attention_heads": 32, "num_key_value_heads": 8, "hidden_size": 4096, "num_hidden_layers": 32}
TOKENS = 32 * 2048


def target(folder: Path, config: dict[str, int], gib: float) -> str:
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    with (folder / "model.safetensors").open("wb") as weights:
        weights.truncate(int(gib * 2**30))
    return str(folder)


def test_a_small_target_gets_what_its_batch_can_fill(tmp_path: Path) -> None:
    assert shared_kv_gib(target(tmp_path / "t", SMALL, 0.25), 6, TOKENS, 78.0) == 2


def test_a_large_target_gets_what_is_left_beside_its_weights(tmp_path: Path) -> None:
    large = target(tmp_path / "t", LARGE, 15.0)
    assert shared_kv_gib(large, 2, TOKENS, 78.0) == 8, "its batch needs no more"
    assert shared_kv_gib(large, 3, TOKENS, 78.0) == 4, "0.88 x 78 / 3, less weights and process"
    assert shared_kv_gib(large, 4, TOKENS, 78.0) == 1, "the engine will say that it is too little"


def test_what_nobody_tells_is_four(tmp_path: Path) -> None:
    assert shared_kv_gib(str(tmp_path / "nowhere"), 2, TOKENS, None) == 4


def test_shares_leave_a_reserve() -> None:
    assert [gpu_share(n) for n in (1, 2, 14)] == [0.88, 0.44, 0.063]

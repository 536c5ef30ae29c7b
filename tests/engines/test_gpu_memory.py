"""How servers share a GPU."""

from __future__ import annotations

from draftsmith.engines.gpu_memory import gpu_share, shared_kv_gib

SMALL = 2 * 30 * 3 * 64 * 2
LARGE = 2 * 32 * 8 * 128 * 2
TOKENS = 32 * 2048


def test_a_small_target_gets_what_its_batch_can_fill() -> None:
    assert shared_kv_gib(SMALL, 0.25, 6, TOKENS, 78.0) == 2


def test_a_large_target_gets_what_is_left_beside_its_weights() -> None:
    assert shared_kv_gib(LARGE, 15.0, 2, TOKENS, 78.0) == 8, "its batch needs no more"
    assert shared_kv_gib(LARGE, 15.0, 3, TOKENS, 78.0) == 4, "0.88 x 78 / 3, less weights and process"
    assert shared_kv_gib(LARGE, 15.0, 4, TOKENS, 78.0) == 1, "the engine will say that it is too little"


def test_what_nobody_tells_is_four() -> None:
    assert shared_kv_gib(0, 0, 2, TOKENS, None) == 4


def test_shares_leave_a_reserve() -> None:
    assert [gpu_share(n) for n in (1, 2, 14)] == [0.88, 0.44, 0.063]

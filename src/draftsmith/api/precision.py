"""What a server needs beside its settings to compute fast on this machine."""

from __future__ import annotations

from collections.abc import Sequence

from draftsmith.kit import hardware
from draftsmith.kit.precision import quick_bfloat16


def precision_flags(flags: Sequence[str] = ()) -> tuple[str, ...]:
    """Flags beside `flags` for a server of a float32 target on a CPU that is slow at bfloat16: the engine rounds unless told."""
    named = any(flag.partition("=")[0] == "--dtype" for flag in flags)
    return ("--dtype", "float32") if slow_at_bfloat16() and not named else ()


def slow_at_bfloat16() -> bool:
    """Whether nothing of this machine computes bfloat16 fast: no GPU, and a CPU without the instructions."""
    return not (hardware.gpu_names() or quick_bfloat16())

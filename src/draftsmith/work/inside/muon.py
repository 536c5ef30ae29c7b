"""Muon's orthogonalisation in float32, for a CPU that is slow at bfloat16: torch fixes bfloat16 for it.

Five Newton-Schulz steps take most of a training step there: 28 s of 29 s on two cores with AVX2, in bfloat16.
"""

from __future__ import annotations

import torch
from torch.optim import _muon


def orthogonalise(
    grad: torch.Tensor, ns_coefficients: tuple[float, float, float], ns_steps: int, eps: float
) -> torch.Tensor:
    """The gradient [rows, columns] with singular values near one, by the quintic iteration that torch's Muon uses.

    Same arguments as torch's own; the result is float32. Raises ValueError for a gradient that is no matrix.
    """
    if grad.dim() != 2:
        raise ValueError(f"a gradient of {grad.dim()} dimensions has no singular values")
    linear, cubic, quintic = ns_coefficients
    tall = grad.size(0) > grad.size(1)
    matrix = (grad.T if tall else grad).float()
    matrix = matrix / matrix.norm().clamp(min=eps)
    for _ in range(ns_steps):
        square = matrix @ matrix.T
        matrix = linear * matrix + (cubic * square + quintic * square @ square) @ matrix
    return matrix.T if tall else matrix


def use_float32() -> None:
    """Let torch's Muon orthogonalise in float32, in this process."""
    _muon._zeropower_via_newtonschulz = orthogonalise

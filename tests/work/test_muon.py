"""Muon's orthogonalisation in float32 against torch's own in bfloat16, and through torch's optimizer."""

from __future__ import annotations

import importlib

import pytest
from lazily import lazily

torch, torchs = lazily("torch"), lazily("torch.optim._muon")
ours = lazily("draftsmith.work.inside.muon")
THEIRS = "_zeropower_via_newtonschulz"  # torch has no public name for it; `use_float32` replaces it


def coefficients() -> tuple[float, float, float]:
    return torchs.DEFAULT_A, torchs.DEFAULT_B, torchs.DEFAULT_C


@pytest.mark.parametrize("shape", [(24, 40), (40, 24), (16, 16)])
def test_it_is_torchs_own_but_for_rounding(shape: tuple[int, int]) -> None:
    torch.manual_seed(3)
    grad = torch.randn(*shape)
    expected = getattr(importlib.import_module("torch.optim._muon"), THEIRS)(grad, coefficients(), 5, 1e-7).float()
    found = ours.orthogonalise(grad, coefficients(), 5, 1e-7)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=0.06, rtol=0)
    assert torch.linalg.svdvals(found).sub(1).abs().max() < 0.5


def test_torchs_optimizer_uses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        f"torch.optim._muon.{THEIRS}", getattr(importlib.import_module("torch.optim._muon"), THEIRS)
    )  # put back at the end
    torch.manual_seed(3)
    start = torch.randn(8, 8)
    ends = []
    for change in (lambda: None, ours.use_float32):
        change()
        weight = torch.nn.Parameter(start.clone())
        weight.grad = torch.randn(8, 8, generator=torch.Generator().manual_seed(5))
        torch.optim.Muon([weight], lr=0.1).step()
        ends.append(weight.detach())
    assert not torch.equal(ends[0], ends[1])
    torch.testing.assert_close(ends[0], ends[1], atol=0.01, rtol=0)


def test_a_vector_is_refused() -> None:
    with pytest.raises(ValueError, match="1 dimensions"):
        ours.orthogonalise(torch.randn(4), coefficients(), 5, 1e-7)

"""Muon's orthogonalisation in float32 against torch's own in bfloat16, and through torch's optimizer."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch.optim import _muon  # noqa: E402

from draftsmith.work.inside.muon import orthogonalise, use_float32  # noqa: E402

COEFFICIENTS = (_muon.DEFAULT_A, _muon.DEFAULT_B, _muon.DEFAULT_C)
TORCHS = _muon._zeropower_via_newtonschulz


@pytest.mark.parametrize("shape", [(24, 40), (40, 24), (16, 16)])
def test_it_is_torchs_own_but_for_rounding(shape: tuple[int, int]) -> None:
    torch.manual_seed(3)
    grad = torch.randn(*shape)
    theirs = TORCHS(grad, COEFFICIENTS, 5, 1e-7).float()
    ours = orthogonalise(grad, COEFFICIENTS, 5, 1e-7)
    assert ours.dtype == torch.float32
    torch.testing.assert_close(ours, theirs, atol=0.06, rtol=0)
    assert torch.linalg.svdvals(ours).sub(1).abs().max() < 0.5


def test_torchs_optimizer_uses_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_muon, "_zeropower_via_newtonschulz", TORCHS)
    torch.manual_seed(3)
    start = torch.randn(8, 8)
    ends = []
    for change in (lambda: None, use_float32):
        change()
        weight = torch.nn.Parameter(start.clone())
        weight.grad = torch.randn(8, 8, generator=torch.Generator().manual_seed(5))
        torch.optim.Muon([weight], lr=0.1).step()
        ends.append(weight.detach())
    assert not torch.equal(ends[0], ends[1])
    torch.testing.assert_close(ends[0], ends[1], atol=0.01, rtol=0)


def test_a_vector_is_refused() -> None:
    with pytest.raises(ValueError, match="1 dimensions"):
        orthogonalise(torch.randn(4), COEFFICIENTS, 5, 1e-7)

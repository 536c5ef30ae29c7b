"""A switch is refused if the server runs otherwise than what was compared."""

from __future__ import annotations

import pytest

from draftsmith.contract.errors import RefusedError
from draftsmith.contract.measure import EngineFacts
from draftsmith.engines.base import ServerIdentity, Snapshot
from draftsmith.engines.catalog import engine
from draftsmith.engines.vllm import metrics as vllm_metrics
from draftsmith.loop.served import check_served, regime_warning

PLAIN = {("vllm:generation_tokens", ""): 5.0}
DRAFTED = {**PLAIN, ("vllm:spec_decode_num_drafts", ""): 3.0}


@pytest.mark.parametrize(
    ("values", "standing", "refused"),
    [
        (PLAIN, None, False),
        (DRAFTED, {"method": "ngram"}, False),
        (DRAFTED, None, True),
        (PLAIN, {"method": "ngram"}, True),
    ],
)
def test_speculation_on_or_off_must_be_as_compared(
    values: dict[tuple[str, str], float],
    standing: dict[str, str] | None,
    refused: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []
    monkeypatch.setattr(vllm_metrics, "read", lambda url: asked.append(url) or Snapshot(values, None))
    if refused:
        with pytest.raises(RefusedError, match="compare again"):
            check_served(engine("vllm"), "http://127.0.0.1:8000/v1", standing)
    else:
        check_served(engine("vllm"), "http://127.0.0.1:8000/v1", standing)
    assert asked == ["http://127.0.0.1:8000"]


def test_without_an_endpoint_nothing_is_asked() -> None:
    check_served(engine("vllm"), None, {"method": "ngram"})


@pytest.mark.parametrize(
    ("served", "measured", "warned"),
    [
        (True, False, "without one"),
        (False, True, "without a prefix cache"),
        (True, True, ""),
        (None, False, ""),
        (True, None, ""),
    ],
)
def test_another_regime_than_the_measured_one_is_warned_of(
    served: bool | None, measured: bool | None, warned: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    who = ServerIdentity(version="1", model="m", start_id="1", prefix_caching=served)
    monkeypatch.setattr(vllm_metrics, "identity", lambda url: who)
    facts = [EngineFacts(start_id="a", prefix_caching=measured)]
    said = regime_warning(engine("vllm"), "http://127.0.0.1:8000/v1", facts)
    assert warned in (said or "")
    assert bool(said) is bool(warned)

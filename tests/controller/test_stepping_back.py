"""Stepping back under load: real proxy, stand-in engines, the real laws and hands of a managed service."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from live_service import NGRAM, Clients, Service
from moments import PaperBook, traffic

from draftsmith.contract import control as c
from draftsmith.contract.config import Config
from draftsmith.contract.policy import Policy
from draftsmith.controller.live import LiveReader
from draftsmith.controller.managed import ManagedHands
from draftsmith.controller.tick import tick
from draftsmith.controller.words import story
from draftsmith.engines.base import ServerSpec

pytestmark = [
    pytest.mark.foreign,
    pytest.mark.skipif(shutil.which("haproxy") is None, reason="haproxy is not installed here"),
]

POLICY = Policy(
    mode="auto", floor_al=1.6, fallback_after_s=1, fallback_requests=10, fallback_hold_s=1, shares=(25, 100), share_s=1,
    share_requests=10, changes_per_hour=20, ttft_margin=9.0,
)  # fmt: skip


class Poor(Service):
    """A service whose drafts are hardly ever accepted, until they are."""

    acceptance = 0.05

    def spec(self, config: Any) -> ServerSpec:
        fake = {"step_ms": 12, "first_ms": 10, "acceptance": {"ngram": self.acceptance}}
        return super().spec(config).model_copy(update={"env": {"FAKE_VLLM": json.dumps(fake)}})


class Controlled:
    def __init__(self, base: Path) -> None:
        self.service = Poor(base)
        self.book = PaperBook()
        self.config = Config(workspace=str(base), controller=POLICY)
        self.fleet = self.service.fleet()
        self.hands = ManagedHands(
            config=self.config, workspace=base, serving=SimpleNamespace(current=lambda: NGRAM),  # type: ignore[arg-type]
            engine=self.fleet.engine, traffic=SimpleNamespace(look=lambda now: traffic(new=1)),  # type: ignore[arg-type]
            jobs=SimpleNamespace(other_run=lambda: None), live=LiveReader(self.fleet.engine, POLICY),  # type: ignore[arg-type]
            notifier=SimpleNamespace(tell=lambda event: None), target=lambda: "t", engine_name=lambda url: "e",  # type: ignore[arg-type]
            fleet=self.fleet,
        )  # fmt: skip

    def until(self, condition: Callable[[list[str]], bool], seconds: float = 30.0) -> float:
        began = time.monotonic()
        while not condition(self.acts()):
            assert time.monotonic() - began < seconds, "\n".join(story(self.book.events))
            self.book.now = time.time()
            tick(self.book, POLICY, self.hands)
            time.sleep(0.1)
        return time.monotonic() - began

    def acts(self) -> list[str]:
        return [event.data["act"]["kind"] for event in self.book.events if event.kind == "effect"]


@pytest.fixture
def controlled(tmp_path: Path) -> Iterator[Controlled]:
    made = Controlled(tmp_path)
    yield made
    made.fleet.stop()


def test_a_draft_that_does_not_pay_is_left_tried_again_and_comes_back_when_it_pays(controlled: Controlled) -> None:
    controlled.until(lambda acts: "repair" in acts)
    with Clients(controlled.service.url, 8) as clients:
        took = controlled.until(lambda acts: "fall_back" in acts)
        assert took < 20
        assert controlled.book.memory().fallback is not None
        slots = controlled.fleet.slots().values()
        assert {slot.share for slot in slots if slot.config is None} == {100}
        controlled.until(lambda acts: "take_back" in acts)
        assert controlled.book.memory().fallback is not None
        controlled.service.acceptance = 0.9
        controlled.until(lambda acts: "settle" in acts, 60)
        clients.wait(10)
    assert clients.wrong == []
    assert controlled.book.memory().fallback is None
    lines = "\n".join(story(controlled.book.events))
    assert "pays from 1.60 on" in lines
    assert "tries the draft again on 25 % of live traffic" in lines
    assert "the draft is back" in lines


def test_a_proxy_that_is_killed_in_the_middle_is_put_in_order(controlled: Controlled) -> None:
    controlled.until(lambda acts: "repair" in acts)
    controlled.fleet.proxy.stop()
    controlled.until(lambda acts: acts.count("repair") >= 2)
    with Clients(controlled.service.url, 2) as clients:
        clients.wait(5)
    assert clients.wrong == []
    assert any("the proxy is not there" in line for line in story(controlled.book.events))


def test_metrics_that_stop_change_nothing(controlled: Controlled) -> None:
    controlled.until(lambda acts: "adopt" in acts)
    controlled.hands.look(controlled.book.memory())

    def away(_url: str) -> Any:
        from draftsmith.contract.errors import EngineLostError

        raise EngineLostError("does not answer", "look")

    with Clients(controlled.service.url, 4) as clients:
        for reader in controlled.hands.readers.values():
            reader.reading = away
        before = controlled.acts()
        for _ in range(25):
            controlled.book.now = time.time()
            assert isinstance(tick(controlled.book, POLICY, controlled.hands), c.Wait)
            time.sleep(0.1)
        clients.wait(1)
    assert controlled.acts() == before

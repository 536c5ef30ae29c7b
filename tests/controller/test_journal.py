"""The journal: one controller, one writer a number, the same memory for every reader; and 200 deaths of the controller."""

from __future__ import annotations

import random
import threading
from pathlib import Path
from typing import Any

import pytest
from fake_clock import FakeClock
from moments import AUTO, DRAFT, NEXT, NOW, PaperBook, live, traffic

from draftsmith.contract import control as c
from draftsmith.contract.errors import InputError, RefusedError
from draftsmith.controller.journal import ChangedMeanwhileError, Journal
from draftsmith.controller.memory import fold
from draftsmith.controller.tick import tick
from draftsmith.controller.words import story


def test_a_second_controller_is_refused(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    assert not journal.alive()
    with journal.alone():
        assert journal.alive()
        with pytest.raises(RefusedError, match="another controller"), Journal(tmp_path).alone():
            pass
    assert not journal.alive()


def test_two_writers_never_take_one_number(tmp_path: Path) -> None:
    def write(name: str) -> None:
        journal = Journal(tmp_path)
        for n in range(25):
            journal.append("noted", f"{name} {n}")

    threads = [threading.Thread(target=write, args=(f"w{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = Journal(tmp_path).events()
    assert [event.number for event in found] == list(range(1, 101))
    assert len({event.sentence for event in found}) == 100


def test_an_intent_on_an_old_journal_is_refused(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    last = journal.append("started", "began").number
    Journal(tmp_path).append("paused", "an operator")
    with pytest.raises(ChangedMeanwhileError):
        journal.append("intent", "x", after=last, act={})
    assert journal.memory().paused == "an operator"


def test_a_torn_event_is_named(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append("started", "began")
    (tmp_path / "controller" / "journal" / "000002.json").write_text('{"numb')
    with pytest.raises(InputError, match=r"000002\.json .*torn"):
        Journal(tmp_path).events()


def test_the_last_look_is_kept_and_one_of_another_version_is_none(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    assert journal.last_look() is None
    journal.looked(c.Moment(now_unix_s=NOW))
    assert journal.last_look() == c.Moment(now_unix_s=NOW)
    (tmp_path / "controller" / "look.json").write_text('{"now_unix_s": 1, "telepathy": true}')
    assert journal.last_look() is None


class KilledError(BaseException):
    """As a kill -9: nothing of ours runs after it."""


class Story:
    """A world in which a first draft is trained, promoted share by share, falls, steps back, and another one is trained.

    Its effects are counted by what they are, so that doing one twice is seen. `budget` points in time are passed before the
    controller dies: before, in the middle of and after each effect and each line of the journal.
    """

    def __init__(self) -> None:
        self.book = PaperBook()
        self.serving: Any = None
        self.share: dict[str, Any] = {"config": None, "share": 0}
        self.runs: dict[str, Any] = {}
        self.points: int | None = None
        self.switches: list[tuple[str, Any]] = []
        self.lines = 1000

    # the points at which it may die
    def point(self) -> None:
        if self.points is not None:
            self.points -= 1
            if self.points < 0:
                raise KilledError

    def memory(self) -> c.Memory:
        return fold(self.book.events)  # as a new process reads it

    def append(self, kind: c.EventKind, sentence: str, *, after: int | None = None, **data: Any) -> c.ControlEvent:
        self.point()
        event = self.book.append(kind, sentence, after=after, **data)
        self.point()
        return event

    def look(self, memory: c.Memory) -> c.Moment:
        self.point()
        run = None
        if memory.run is not None and memory.run.concluded is None:
            known = self.runs.get(memory.run.traffic)
            config = DRAFT if len(self.runs) == 1 else NEXT
            run = (
                c.RunSeen(alive=False)
                if known is None
                else c.RunSeen(alive=True, phase="train")
                if self.book.now < known["until"]
                else c.RunSeen(
                    alive=False, run_id=f"run {memory.run.traffic}", outcome="WIN", tier="verdict", why="faster",
                    config=config, gpu_hours=1.0, floor_al=1.6,
                )
            )  # fmt: skip
        fallen = self.serving == DRAFT and self.share["config"] != NEXT and self.book.now > NOW + 40 * 3600
        figures = live(acceptance_length=1.3 if fallen else 2.8, tpot_s=0.02)
        if fallen:
            figures = figures.model_copy(update={"below": "too low", "below_s": 200.0, "below_requests": 100})
        return c.Moment(
            now_unix_s=self.book.now, traffic=traffic(identity=f"{self.lines}:1", new=self.lines), live=figures,
            beside=live(tpot_s=0.025), run=run, standing=self.serving, target_sha256="t", engine="e", free_gib=9.0,
            can_shift=True,
        )  # fmt: skip

    def perform(self, act: c.Act, memory: c.Memory) -> dict[str, Any]:
        self.point()
        data: dict[str, Any] = {}
        if isinstance(act, c.StartRun):
            self.runs.setdefault(act.traffic, {"until": self.book.now + 7200})
        elif isinstance(act, c.Shift | c.Restore):
            config = act.config if isinstance(act, c.Shift) else DRAFT
            if self.share != {"config": config, "share": act.share}:
                self.switches.append((act.kind, act.share))
            self.share = {"config": config, "share": act.share}
        elif isinstance(act, c.Promote):
            if self.serving != self.share["config"]:
                self.switches.append(("promote", self.share["config"]["model"]))
            self.serving = self.share["config"]
            data = {
                "promoted": True,
                "config": self.serving,
                "acceptance_length": 2.8,
                "target_sha256": "t",
                "engine": "e",
            }
        elif isinstance(act, c.FallBack | c.TakeBack):
            if self.share["share"]:
                self.switches.append((act.kind, 0))
            self.share = {"config": None, "share": 0}
        self.point()
        return data

    def tell(self, event: c.ControlEvent, memory: c.Memory) -> None:
        return

    def live_through(self, kills: list[int], looks: int = 420) -> None:
        """Ten minutes between looks; it dies after each number of points in `kills`, and begins anew."""
        waiting = list(kills)
        self.points = waiting.pop(0) if waiting else None
        for _ in range(looks):
            try:
                while not isinstance(tick(self, AUTO, self), c.Wait):
                    pass
            except KilledError:
                self.points = waiting.pop(0) if waiting else None
                continue  # the same moment again, by a new process
            self.book.now += 600
            self.lines += 40


def told(world: Story) -> list[str]:
    """What was done, by kind: what a killed controller must not have done twice or left out."""
    return [event.data["act"]["kind"] for event in world.book.events if event.kind == "effect"]


def test_the_story_without_a_death() -> None:
    world = Story()
    world.live_through([])
    assert told(world)[:9] == [
        "adopt", "start_run", "conclude", "shift", "shift", "shift", "shift", "promote", "fall_back",
    ]  # fmt: skip
    assert world.serving == NEXT
    assert "fall_back" in told(world)
    lines = story(world.book.events)
    assert any("falls back to serving without the draft" in line for line in lines)
    assert any("promotes" in line for line in lines)


@pytest.mark.parametrize("seed", range(20))
def test_two_hundred_deaths_end_as_if_there_had_been_none(seed: int) -> None:
    """Ten deaths a life, at random points: the same acts in the same order, and every effect once."""
    plain = Story()
    plain.live_through([], looks=330)
    chance = random.Random(seed)
    killed = Story()
    killed.live_through([chance.randint(0, 60) for _ in range(10)], looks=340)
    acts, wanted = told(killed), told(plain)
    assert acts[: len(wanted)] == wanted
    assert killed.switches[: len(plain.switches)] == plain.switches
    assert killed.serving == plain.serving
    assert len(killed.runs) == len(plain.runs)


def test_a_failing_act_is_waited_with_and_then_left_to_a_person() -> None:
    world = Story()

    def fails(act: c.Act, memory: c.Memory) -> dict[str, Any]:
        raise OSError(28, "No space left on device")

    world.perform = fails  # type: ignore[method-assign]
    for _ in range(600):
        tick(world, AUTO, world)
        world.book.now += 60
    memory = world.memory()
    assert memory.failures == AUTO.retries + 1
    assert memory.state == "stuck"
    assert "No space left" in memory.why
    world.book.append("resumed", "an operator")
    assert world.memory().failures == 0


def test_an_operator_who_pauses_between_look_and_intent_is_heard() -> None:
    world = Story()
    tick(world, AUTO, world)  # adopts
    look = world.look

    def looked(memory: c.Memory) -> c.Moment:
        found = look(memory)
        world.book.append("paused", "an operator paused it")
        return found

    world.look = looked  # type: ignore[method-assign]
    act = tick(world, AUTO, world)
    assert isinstance(act, c.Wait)
    assert "looks again" in act.why
    assert not world.runs


def test_a_clock_for_the_journal(tmp_path: Path) -> None:
    clock = FakeClock()
    journal = Journal(tmp_path, clock)
    assert journal.append("started", "began").at_unix_s == clock.now

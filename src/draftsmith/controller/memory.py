"""The journal, folded into the controller's memory. Pure: the same events always give the same memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from pydantic import TypeAdapter

from draftsmith.contract import control as c

ACT: TypeAdapter[c.Act] = TypeAdapter(c.Act)
DAY_S, HOUR_S = 86400.0, 3600.0
TRIED = 64  # identities of traffic that are remembered


def fold(events: Iterable[c.ControlEvent], memory: c.Memory | None = None) -> c.Memory:
    """The memory after `events`, from the beginning or from `memory` on. Events that are in it already change nothing."""
    folded = memory or c.Memory()
    for event in events:
        if event.number > folded.last:
            folded = _after(folded, event)
    return folded


def act_of(value: dict[str, Any]) -> c.Act:
    """An act as it stands in the journal. Raises ValueError for one of another version."""
    return ACT.validate_python(value)


def _after(memory: c.Memory, event: c.ControlEvent) -> c.Memory:
    changed: dict[str, Any] = {"last": event.number, "last_unix_s": event.at_unix_s}
    if event.kind == "effect":
        act = act_of(event.data["act"])
        changed |= {"open": None, "failures": 0, "retry_unix_s": 0.0, "why": event.sentence, "said": ("", "")}
        changed |= _EFFECTS[act.kind](memory, act, event)
    else:
        changed |= _OTHERS[event.kind](memory, event) if event.kind in _OTHERS else {}
    return memory.model_copy(update=changed)


def _intent(memory: c.Memory, event: c.ControlEvent) -> dict[str, Any]:
    return {"open": event.data["act"]}


def _failed(memory: c.Memory, event: c.ControlEvent) -> dict[str, Any]:
    retry = event.at_unix_s + float(event.data.get("retry_s", 0.0))
    return {
        "open": None,
        "failures": memory.failures + 1,
        "retry_unix_s": retry,
        "why": event.sentence,
        "said": ("", ""),
    }


def _state(memory: c.Memory, event: c.ControlEvent) -> dict[str, Any]:
    key = (str(event.data["state"]), str(event.data.get("about", "")))
    return {"state": event.data["state"], "why": event.sentence, "said": key}


def _begun(memory: c.Memory, event: c.ControlEvent) -> dict[str, Any]:
    return {"life": event.number, "mode": event.data.get("mode", memory.mode), "state": "starting", "said": ("", "")}


def _answered(kind: str) -> Callable[[c.Memory, c.ControlEvent], dict[str, Any]]:
    def fields(memory: c.Memory, event: c.ControlEvent) -> dict[str, Any]:
        keys = (*getattr(memory, kind), event.data["key"])[-TRIED:]
        return {kind: keys, "proposal": None, "said": ("", "")}

    return fields


_OTHERS: dict[str, Callable[[c.Memory, c.ControlEvent], dict[str, Any]]] = {
    "started": _begun,
    "intent": _intent,
    "failed": _failed,
    "state": _state,
    "paused": lambda memory, event: {"paused": event.sentence, "said": ("", "")},
    "resumed": lambda memory, event: {"paused": None, "failures": 0, "retry_unix_s": 0.0, "said": ("", "")},
    "approved": _answered("approved"),
    "declined": _answered("declined"),
    "requested": lambda memory, event: {"requested": event.sentence, "said": ("", "")},
}


# -- effects, by the kind of the act -----------------------------------------------------------------------------------


def _recent(times: tuple[float, ...], now: float, span_s: float) -> tuple[float, ...]:
    return tuple(time for time in times if 0 <= now - time < span_s)


def _changes(memory: c.Memory, event: c.ControlEvent) -> tuple[float, ...]:
    return (*_recent(memory.changes, event.at_unix_s, HOUR_S), event.at_unix_s)


def _start_run(memory: c.Memory, act: c.StartRun, event: c.ControlEvent) -> dict[str, Any]:
    now = event.at_unix_s
    before = memory.run
    again = before is not None and act.attempt > 0
    failed = before.failed + (before.life == memory.life) if again and before else 0
    run = c.RunInHand(
        reason=act.reason, why=act.why, life=memory.life, failed=failed, traffic=act.traffic, attempt=act.attempt,
        began_unix_s=memory.run.began_unix_s if again and memory.run else now,
    )  # fmt: skip
    return {
        "run": run,
        "runs": memory.runs if again else (*_recent(memory.runs, now, DAY_S), now),
        "tried": tuple(dict.fromkeys((*memory.tried, act.traffic)))[-TRIED:],
        "requested": None if act.reason == "requested" else memory.requested,
        "proposal": None,
        "state": "running",
    }


def _conclude(memory: c.Memory, act: c.Conclude, event: c.ControlEvent) -> dict[str, Any]:
    now = event.at_unix_s
    kept = memory.run.model_copy(update={"concluded": act}) if memory.run and act.promotes else None
    spent = tuple(pair for pair in memory.gpu_hours if 0 <= now - pair[0] < DAY_S)
    return {
        "run": kept,
        "gpu_hours": (*spent, (now, act.gpu_hours)) if act.gpu_hours else spent,
        "cost_gpu_hours": act.gpu_hours or memory.cost_gpu_hours,
        "in_vain": memory.in_vain if act.promotes else memory.in_vain + 1,
        "last_end_unix_s": now,
        "state": "watching",
    }


def _shift(memory: c.Memory, act: c.Shift, event: c.ControlEvent) -> dict[str, Any]:
    rollout = c.Rollout(run_id=act.run_id, share=act.share, since_unix_s=event.at_unix_s, config=act.config)
    return {"rollout": rollout, "changes": _changes(memory, event), "proposal": None, "state": "promoting"}


def _take_back(memory: c.Memory, act: c.TakeBack, event: c.ControlEvent) -> dict[str, Any]:
    changed: dict[str, Any] = {"rollout": None, "changes": _changes(memory, event)}
    if memory.rollout and memory.rollout.restoring and memory.fallback:
        held = memory.fallback.model_copy(
            update={"since_unix_s": event.at_unix_s, "hold_s": 2 * memory.fallback.hold_s}
        )
        return changed | {"fallback": held, "steps_back": memory.steps_back + 1, "state": "fallback"}
    return changed | {
        "run": None,
        "in_vain": memory.in_vain + 1,
        "last_end_unix_s": event.at_unix_s,
        "state": "watching",
    }


def _promote(memory: c.Memory, act: c.Promote, event: c.ControlEvent) -> dict[str, Any]:
    if not event.data.get("promoted", True):  # the loop kept the standing configuration, with a reason
        vain = {"run": None, "rollout": None, "in_vain": memory.in_vain + 1, "last_end_unix_s": event.at_unix_s}
        return vain | {"proposal": None, "state": "watching"}
    concluded = memory.run.concluded if memory.run else None
    champion = c.Champion(
        run_id=act.run_id,
        since_unix_s=event.at_unix_s,
        acceptance_length=event.data.get("acceptance_length"),
        floor_al=concluded.floor_al if concluded else None,
        target_sha256=event.data.get("target_sha256"),
        engine=event.data.get("engine"),
        config=event.data.get("config"),
    )
    return {
        "champion": champion, "run": None, "rollout": None, "fallback": None, "steps_back": 0, "in_vain": 0,
        "last_end_unix_s": event.at_unix_s, "proposal": None, "state": "watching",
        "changes": memory.changes if memory.rollout else _changes(memory, event),
    }  # fmt: skip


def _fall_back(memory: c.Memory, act: c.FallBack, event: c.ControlEvent) -> dict[str, Any]:
    fallback = c.Fallback(since_unix_s=event.at_unix_s, why=act.why, hold_s=act.hold_s)
    step = {"fallback": fallback, "rollout": None, "proposal": None, "state": "fallback"}
    return step | {"changes": _changes(memory, event), "steps_back": memory.steps_back + 1}


def _restore(memory: c.Memory, act: c.Restore, event: c.ControlEvent) -> dict[str, Any]:
    config = memory.champion.config if memory.champion else None
    rollout = c.Rollout(run_id=None, share=act.share, since_unix_s=event.at_unix_s, config=config, restoring=True)
    return {"rollout": rollout, "changes": _changes(memory, event), "state": "promoting"}


def _adopt(memory: c.Memory, act: c.Adopt, event: c.ControlEvent) -> dict[str, Any]:
    champion = c.Champion(
        since_unix_s=event.at_unix_s, config=act.config, target_sha256=act.target_sha256, engine=act.engine
    )
    return {"champion": champion, "fallback": None, "rollout": None, "steps_back": 0, "state": "watching"}


_EFFECTS: dict[str, Callable[[c.Memory, Any, c.ControlEvent], dict[str, Any]]] = {
    "start_run": _start_run,
    "conclude": _conclude,
    "propose": lambda memory, act, event: {"proposal": act, "state": "waiting"},
    "shift": _shift,
    "take_back": _take_back,
    "promote": _promote,
    "fall_back": _fall_back,
    "restore": _restore,
    "settle": lambda memory, act, event: {"rollout": None, "fallback": None, "state": "watching"},
    "adopt": _adopt,
    "repair": lambda memory, act, event: {},
    "hot_swap": lambda memory, act, event: {"changes": _changes(memory, event)},
}

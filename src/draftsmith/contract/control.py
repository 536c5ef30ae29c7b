"""The controller's vocabulary: states, acts, what it saw, what it remembers, and the events of its journal."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from draftsmith.contract.base import Frozen
from draftsmith.contract.policy import ControllerMode
from draftsmith.contract.speculation import SpecConfig

ControllerState = Literal[
    "starting",
    "watching",
    "running",
    "waiting",
    "promoting",
    "cooling",
    "fallback",
    "paused",
    "blind",
    "stuck",
    "stopped",
]

STATE_SENTENCE: dict[ControllerState, str] = {
    "starting": "it has just begun and has not looked yet",
    "watching": "it looks, and nothing asks for an act",
    "running": "a run of the loop is in progress",
    "waiting": "something is proposed and waits for an operator's yes",
    "promoting": "a new configuration takes live traffic, share by share",
    "cooling": "something asks for a run, and a budget, a pause or an hour stands in the way",
    "fallback": "live traffic is served without the draft, because it did not pay",
    "paused": "an operator told it to wait",
    "blind": "it could not look, and does nothing because of that",
    "stuck": "something stands in the way that only an operator can move",
    "stopped": "no controller is at work in this workspace",
}

Reason = Literal["requested", "target", "engine", "acceptance", "drift", "age", "first"]
Outcome = Literal["WIN", "LOSS", "INCONCLUSIVE", "ALREADY_SERVES", "stopped", "failed"]


# -- acts: a closed union, each with a sentence why --------------------------------------------------------------------


class Wait(Frozen):
    """Do nothing until the next look."""

    kind: Literal["wait"] = "wait"
    state: ControllerState
    why: str
    about: str = Field("", description="what is waited for, without figures: said once, until it changes")


class StartRun(Frozen):
    """Begin a run on the traffic up to now, or go on with it after a failure (`attempt` > 0)."""

    kind: Literal["start_run"] = "start_run"
    reason: Reason
    why: str
    traffic: str = Field(description="identity of the traffic, as the reader tells it")
    attempt: int = 0


class Conclude(Frozen):
    """Take note of how the run in hand ended."""

    kind: Literal["conclude"] = "conclude"
    run_id: str | None
    outcome: Outcome
    why: str
    gpu_hours: float = 0.0
    floor_al: float | None = Field(None, description="break-even acceptance length of the winner, from the comparison")
    config: SpecConfig = None
    promotes: bool = Field(False, description="a WIN that may be promoted")


class Propose(Frozen):
    """Ask an operator for a yes to `act`."""

    kind: Literal["propose"] = "propose"
    act: Literal["start_run", "shift", "promote", "fall_back"]
    key: str = Field(description="what exactly is proposed: a yes to it is a yes to nothing else")
    why: str


class Shift(Frozen):
    """Give the new configuration `share` percent of live traffic."""

    kind: Literal["shift"] = "shift"
    run_id: str
    share: int
    config: SpecConfig
    why: str


class TakeBack(Frozen):
    """Take the share back from a new configuration: what stood serves all of it again."""

    kind: Literal["take_back"] = "take_back"
    run_id: str
    why: str


class Promote(Frozen):
    """Make the winner the standing configuration, through the loop's own promotion, and write the evidence."""

    kind: Literal["promote"] = "promote"
    run_id: str
    why: str


class FallBack(Frozen):
    """Serve without the draft, for `hold_s` seconds before it is tried again."""

    kind: Literal["fall_back"] = "fall_back"
    hold_s: float
    why: str


class Restore(Frozen):
    """Give the draft `share` percent of live traffic again, to see whether it pays."""

    kind: Literal["restore"] = "restore"
    share: int
    why: str


class Settle(Frozen):
    """The draft serves all of live traffic again, and showed that it pays."""

    kind: Literal["settle"] = "settle"
    why: str


class Adopt(Frozen):
    """Record the standing configuration: at the first look, and after it was switched by someone else."""

    kind: Literal["adopt"] = "adopt"
    config: SpecConfig
    target_sha256: str | None = None
    engine: str | None = None
    why: str


class Repair(Frozen):
    """Put what serves in order: engines and proxy of a managed service as they should be."""

    kind: Literal["repair"] = "repair"
    why: str


class HotSwap(Frozen):
    """Replace the weights of the served draft in the running engine by those of the promoted one."""

    kind: Literal["hot_swap"] = "hot_swap"
    run_id: str
    draft: str
    why: str


Act = Annotated[
    Wait
    | StartRun
    | Conclude
    | Propose
    | Shift
    | TakeBack
    | Promote
    | FallBack
    | Restore
    | Settle
    | Adopt
    | Repair
    | HotSwap,
    Field(discriminator="kind"),
]


# -- what is seen: None always means "could not look", never "it is bad" -----------------------------------------------


class WindowSeen(Frozen):
    """One window of traffic beside the traffic that the champion knows. `drifted` None: it could not be told."""

    at_unix_s: float
    requests: int
    drifted: bool | None
    sentence: str


class TrafficSeen(Frozen):
    """New traffic. `identity` names exactly what was read so far; `new` requests came since the last run began.

    `moved` counts the latest windows in a row above the noise floor; `drift` is the sentence of the last comparison.
    """

    identity: str
    new: int
    windows: int = 0
    moved: int = 0
    drift: str = ""
    trouble: str | None = Field(None, description="why the reader could not read something, such as a file that shrank")
    history: tuple[WindowSeen, ...] = Field(
        (), description="the last windows that were set beside the reference, oldest first"
    )


class LiveSeen(Frozen):
    """One side's server over the window that the laws look at. Times in seconds, lengths in tokens per step.

    `below_s`: how long acceptance or TPOT has been on the wrong side without a break, `below_requests` in that time.
    `fell`: the sequential test says that acceptance is below what was promoted.
    """

    requests: int
    failed: int = 0
    acceptance_length: float | None = None
    acceptance_by_position: tuple[float, ...] = Field(
        (), description="share of drafts accepted at each position, first to last"
    )
    tpot_s: float | None = None
    ttft_s: float | None = None
    below_s: float = 0.0
    below_requests: int = 0
    below: str = Field("", description="what is on the wrong side, with figures")
    fell: str | None = None
    busy_share: float | None = Field(None, description="share of the time in which the server decoded, 0..1")


class RunSeen(Frozen):
    """The run in hand. `alive` None: could not look."""

    alive: bool | None
    run_id: str | None = None
    phase: str = ""
    outcome: Outcome | None = None
    tier: str | None = None
    why: str = ""
    gpu_hours: float = 0.0
    floor_al: float | None = None
    config: SpecConfig = None


class Moment(Frozen):
    """Everything that a decision may look at beside memory and policy."""

    now_unix_s: float
    jumped_s: float = Field(0.0, description="how far the wall clock moved against the steady one since the last look")
    traffic: TrafficSeen | None = None
    live: LiveSeen | None = Field(None, description="what serves, or in a shift the new side")
    beside: LiveSeen | None = Field(None, description="in a shift: the side that stood")
    run: RunSeen | None = Field(None, description="of the run in hand; None where there is none")
    standing: SpecConfig = None
    standing_known: bool = Field(True, description="whether the standing configuration could be read")
    target_sha256: str | None = None
    engine: str | None = Field(None, description="name and version of the serving engine")
    free_gib: float | None = None
    amiss: str | None = Field(None, description="of a managed service: what is not as it should be")
    can_shift: bool = Field(False, description="live traffic can be shared out: a managed service")
    other_run: str | None = Field(None, description="a run that an operator has in progress in this workspace")


# -- what is remembered ------------------------------------------------------------------------------------------------


class RunInHand(Frozen):
    """A run that the controller began."""

    reason: Reason
    why: str
    traffic: str
    began_unix_s: float
    attempt: int = 0
    failed: int = Field(0, description="attempts that failed by themselves: not with the controller that began them")
    life: int = Field(0, description="the controller that began the attempt, by the number of its first event")
    concluded: Conclude | None = None


class Rollout(Frozen):
    """A configuration on its way in."""

    run_id: str | None
    share: int
    since_unix_s: float
    config: SpecConfig = None
    restoring: bool = False


class Fallback(Frozen):
    """Served without the draft since. `hold_s`: how long before it is tried again."""

    since_unix_s: float
    why: str
    hold_s: float


class Champion(Frozen):
    """What was promoted last, or found standing."""

    run_id: str | None = None
    since_unix_s: float = 0.0
    acceptance_length: float | None = None
    floor_al: float | None = None
    target_sha256: str | None = None
    engine: str | None = None
    config: SpecConfig = None


class Memory(Frozen):
    """The journal, folded. Nothing in it is guessed: each field is what an event said."""

    last: int = 0
    last_unix_s: float = 0.0
    said: tuple[str, str] = Field(("", ""), description="state and subject that were written last")
    state: ControllerState = "starting"
    why: str = ""
    mode: ControllerMode = "propose"
    life: int = Field(0, description="the controller at work, by the number of its first event")
    paused: str | None = None
    open: dict[str, Any] | None = Field(None, description="an intent without its effect: it is carried out again")
    run: RunInHand | None = None
    proposal: Propose | None = None
    approved: tuple[str, ...] = ()
    declined: tuple[str, ...] = ()
    requested: str | None = None
    tried: tuple[str, ...] = ()
    runs: tuple[float, ...] = Field((), description="when runs began, unix seconds; the last 24 hours and the last one")
    gpu_hours: tuple[tuple[float, float], ...] = Field((), description="(ended, hours) of runs of the last 24 hours")
    cost_gpu_hours: float | None = Field(None, description="what the last run took")
    in_vain: int = Field(0, description="runs in a row that promoted nothing")
    last_end_unix_s: float | None = None
    rollout: Rollout | None = None
    fallback: Fallback | None = None
    steps_back: int = Field(0, description="fallbacks in a row: each doubles the hold")
    changes: tuple[float, ...] = Field((), description="when what serves was changed, in the last hour")
    champion: Champion | None = None
    failures: int = Field(0, description="failures of the same act in a row")
    retry_unix_s: float = 0.0


EventKind = Literal[
    "started", "stopped", "state", "intent", "effect", "failed", "paused", "resumed", "approved", "declined", "requested",
    "champion", "noted",
]  # fmt: skip


class ControlEvent(Frozen):
    """One line of the controller's journal. `sentence` is for people and alone enough to follow the story."""

    number: int
    at_unix_s: float
    kind: EventKind
    sentence: str
    data: dict[str, Any] = Field(default_factory=dict)

    @property
    def act_kind(self) -> str | None:
        """The kind of the act that the event is about; None where it is about none, or about one of another version."""
        act = self.data.get("act")
        kind = act.get("kind") if isinstance(act, dict) else None
        return kind if isinstance(kind, str) else None

    @property
    def name(self) -> str:
        """The state that was entered, else the act, else the kind of the event, in words."""
        return str(self.data.get("state") or self.act_kind or self.kind).replace("_", " ")


class ControlView(Frozen):
    """The state of a controller as operators read it. `alive` False: no controller runs in the workspace."""

    workspace: str
    alive: bool
    state: ControllerState
    sentence: str = Field(description="what the state means")
    why: str = Field(description="why it does what it does, or does not")
    mode: ControllerMode
    since_unix_s: float = 0.0
    looked_unix_s: float | None = Field(None, description="the last look; None if it never looked")
    memory: Memory = Memory()
    seen: Moment | None = Field(None, description="what the last look saw")
    events: tuple[ControlEvent, ...] = ()

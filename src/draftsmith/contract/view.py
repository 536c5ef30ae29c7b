"""What can be read of runs and of the service: values for the command line, a notebook, a page or another program."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from draftsmith.contract.base import Frozen
from draftsmith.contract.control import ControlView
from draftsmith.contract.state import ServiceState
from draftsmith.contract.verdict import Interval, Outcome, Tier

PhaseState = Literal["open", "done", "failed", "stopped"]


class PhaseView(Frozen):
    """One phase of a run. `stopped`: it is done and its gate did not pass, so the run ended there.

    `headline` is what the phase found, or the error it failed with; `last_seen` the stage of a job that has not ended.
    """

    phase: str
    state: PhaseState
    headline: str = ""
    wall_s: float | None = None
    last_seen: str | None = None


class VerdictView(Frozen):
    """The comparison of a run in figures. Keys of another version are kept.

    `acceptance_length` is by arm, `median_tpot_ms` by `arm@point`; `schedule` holds (lowest batch size, highest, K), as the
    engine takes it.
    """

    model_config = Frozen.model_config | {"extra": "allow"}

    outcome: Outcome
    tier: Tier
    reason: str
    winner: str | None = None
    speedup: Interval | None = None
    acceptance_length: dict[str, float | None] = Field(default_factory=dict)
    median_tpot_ms: dict[str, float | None] = Field(default_factory=dict)
    schedule: tuple[tuple[int, int, int], ...] = ()
    schedule_sentence: str | None = None
    forecast: str | None = None


class RunView(Frozen):
    """A run as far as it came. `verdict` None: nothing was compared yet. `report`: path of its report.html, if written."""

    run_id: str
    folder: str
    phases: tuple[PhaseView, ...]
    verdict: VerdictView | None = None
    report: str | None = None

    @property
    def stopped(self) -> PhaseView | None:
        """The phase whose gate ended the run before anything was decided; None if none did."""
        return next((phase for phase in self.phases if phase.state == "stopped"), None)

    def phase(self, name: str) -> PhaseView:
        """One phase by name. Raises KeyError."""
        for phase in self.phases:
            if phase.phase == name:
                return phase
        raise KeyError(name)


class ServiceView(Frozen):
    """What serves, by the memory of the workspace, and one of its runs. `state` None: no run has begun yet.

    `unreadable`: runs that were passed over, because their run.json is torn or of another version.
    """

    workspace: str
    state: ServiceState | None
    run: RunView
    unreadable: tuple[str, ...] = ()


class ServiceOverview(Frozen):
    """All that there is to show of one workspace: what serves, every run (oldest first), and the controller, if one ever was.

    `trouble`: what could not be read, where a file is damaged; the rest is shown all the same.
    """

    workspace: str
    state: ServiceState | None = None
    runs: tuple[RunView, ...] = ()
    unreadable: tuple[str, ...] = ()
    controller: ControlView | None = None
    trouble: str | None = None


class RunProgress(Frozen):
    """The job of a run that has not ended, as it last said. `done` and `total` in `unit`; `eta_s` None: it cannot be told."""

    phase: str
    stage: str
    done: float = 0
    total: float | None = None
    unit: str = ""
    note: str = ""
    eta_s: float | None = None
    updated_unix_s: float = 0.0

    @property
    def share(self) -> float | None:
        """How much is done, 0..1; None where the total is not known."""
        return min(1.0, self.done / self.total) if self.total else None


class RunHead(Frozen):
    """What is known of a run without reading its journal. `created_unix_s`: seconds since the epoch, UTC."""

    run_id: str
    folder: str
    target: str
    created_unix_s: float


class ModelView(Frozen):
    """One served model, for operators: its standing configuration, the newest runs (newest first), the controller.

    `slug`: its name in addresses and labels, `a-z0-9-` alone. `runs_total` counts all runs that can be read.
    `progress` is of the newest run. `trouble`: what could not be read; the rest is there all the same.
    """

    slug: str
    name: str
    workspace: str
    state: ServiceState | None = None
    runs: tuple[RunView, ...] = ()
    heads: tuple[RunHead, ...] = ()
    runs_total: int = 0
    unreadable: tuple[str, ...] = ()
    progress: RunProgress | None = None
    controller: ControlView | None = None
    trouble: str | None = None

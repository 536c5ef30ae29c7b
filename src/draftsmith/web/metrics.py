"""Metrics of served models in the text format of Prometheus. Names end in their unit; every label has a closed set of values.

Labels never hold a run, a draft, a path or anything of the traffic: `model` is the slug of a workspace, and the others are
words of `contract`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Sequence
from typing import get_args

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

import draftsmith
from draftsmith.api.watching import Watch, age_s
from draftsmith.contract.control import Act, ControllerState
from draftsmith.contract.verdict import Outcome
from draftsmith.contract.view import ModelView, PhaseState

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
OUTCOMES: tuple[str, ...] = get_args(Outcome)
ACTS = tuple(get_args(kind.model_fields["kind"].annotation)[0] for kind in get_args(get_args(Act)[0]))
DAY_S = 86400.0

Sample = tuple[tuple[str, ...], float | None]


class Workspaces(Collector):
    """Reads every workspace at each scrape."""

    def __init__(self, watches: Sequence[Watch]) -> None:
        self.watches = watches
        self._acts: dict[str, dict[str, int]] = {watch.slug: dict.fromkeys(ACTS, 0) for watch in watches}
        self._read: dict[str, int] = {watch.slug: 0 for watch in watches}

    def collect(self) -> Iterator[Metric]:
        """See prometheus_client."""
        models = [watch.model(shown=1, events=0) for watch in self.watches]
        yield _gauge("build_info", "Version of Draftsmith.", ("version",), [((draftsmith.__version__,), 1)])
        yield from _standing(models)
        yield from _controllers(models)
        yield from _live(models)
        yield from _budgets(self.watches, models)
        yield from _newest_run(models)
        yield self._counted()

    def describe(self) -> Iterable[Metric]:
        """Nothing is read when the collector is registered."""
        return ()

    def _counted(self) -> Metric:
        metric = CounterMetricFamily(
            "draftsmith_controller_acts", "Acts that the controller carried out.", labels=("model", "act")
        )
        for watch in self.watches:
            with contextlib.suppress(Exception):  # draftsmith_workspace_readable reports a damaged journal
                self._count(watch)
            for act, count in self._acts[watch.slug].items():
                metric.add_metric((watch.slug, act), count)
        return metric

    def _count(self, watch: Watch) -> None:
        events, read, counts = watch.events(), self._read[watch.slug], self._acts[watch.slug]
        for event in events[read if read <= len(events) else 0 :]:  # fewer: another journal began
            kind = event.act_kind if event.kind == "effect" else None
            if kind in counts:
                counts[kind] += 1
        self._read[watch.slug] = len(events)


def registry(watches: Sequence[Watch]) -> CollectorRegistry:
    """A registry with the metrics of these workspaces and nothing else."""
    registry = CollectorRegistry()
    registry.register(Workspaces(watches))
    return registry


def exposition(watches: Sequence[Watch]) -> bytes:
    """All metrics once, as text."""
    return generate_latest(registry(watches))


def _gauge(name: str, text: str, labels: Sequence[str], samples: Iterable[Sample]) -> Metric:
    metric = GaugeMetricFamily(f"draftsmith_{name}", text, labels=labels)
    for values, value in samples:
        if value is not None:
            metric.add_metric(values, value)
    return metric


def _per_model(name: str, text: str, samples: Iterable[tuple[ModelView, float | None]]) -> Metric:
    return _gauge(name, text, ("model",), [((model.slug,), value) for model, value in samples])


def _standing(models: Sequence[ModelView]) -> Iterator[Metric]:
    methods = []
    for model in models:
        config = model.state.standing_config if model.state else None
        # Methods are the engine's words; one that is no word at all would be someone else's text.
        method = str(config.get("method", "other")) if config else "none"
        methods.append(((model.slug, method if method.isidentifier() and len(method) < 24 else "other"), 1.0))
    yield _gauge(
        "standing_info",
        "Method of speculation that serves by the memory of the workspace.",
        ("model", "method"),
        methods,
    )
    readable = [(m, float(m.trouble is None and not m.unreadable)) for m in models]
    yield _per_model("workspace_readable", "1 if every file of the workspace that was looked at can be read.", readable)
    yield _per_model("workspace_runs", "Runs in the workspace that can be read.", [(m, m.runs_total) for m in models])
    yield _per_model(
        "workspace_unreadable_runs", "Runs whose run.json cannot be read.", [(m, len(m.unreadable)) for m in models]
    )


def _controllers(models: Sequence[ModelView]) -> Iterator[Metric]:
    with_controller = [(model, model.controller) for model in models if model.controller is not None]
    yield _per_model(
        "controller_up", "1 if a controller is at work.", [(m, float(c.alive)) for m, c in with_controller]
    )
    states = [
        ((m.slug, state), float(c.state == state)) for m, c in with_controller for state in get_args(ControllerState)
    ]
    yield _gauge("controller_state", "1 for the state that the controller is in.", ("model", "state"), states)
    yield _per_model(
        "controller_last_look_timestamp_seconds", "When the controller last looked, unix time.",
        [(m, c.looked_unix_s) for m, c in with_controller],
    )  # fmt: skip
    yield _per_model(
        "controller_failures",
        "Failures of the same act in a row.",
        [(m, c.memory.failures) for m, c in with_controller],
    )
    yield _per_model(
        "proposal_waiting", "1 if something waits for an operator's yes.",
        [(m, float(c.memory.proposal is not None)) for m, c in with_controller],
    )  # fmt: skip
    yield _per_model(
        "fallback_active", "1 while live traffic is served without the draft because it did not pay.",
        [(m, float(c.memory.fallback is not None)) for m, c in with_controller],
    )  # fmt: skip
    yield _per_model(
        "rollout_share_ratio", "Share of live traffic on a configuration that is on its way in.",
        [(m, c.memory.rollout.share / 100 if c.memory.rollout else 0.0) for m, c in with_controller],
    )  # fmt: skip


def _live(models: Sequence[ModelView]) -> Iterator[Metric]:
    seen = [(m, m.controller.seen) for m in models if m.controller and m.controller.seen]
    live = [(m, at.live) for m, at in seen if at.live is not None]
    traffic = [(m, at.traffic) for m, at in seen if at.traffic is not None]
    champions = [(m, m.controller.memory.champion) for m in models if m.controller]
    yield _per_model(
        "acceptance_length", "Tokens a verified step gives, bonus token included, in the window that is looked at.",
        [(m, live_now.acceptance_length) for m, live_now in live],
    )  # fmt: skip
    yield _per_model(
        "champion_acceptance_length", "Acceptance length with which the champion was promoted.",
        [(m, live_now.acceptance_length if live_now else None) for m, live_now in champions],
    )  # fmt: skip
    yield _per_model(
        "floor_acceptance_length", "Acceptance length below which the draft costs more than it saves.",
        [(m, live_now.floor_al if live_now else None) for m, live_now in champions],
    )  # fmt: skip
    yield _per_model(
        "time_per_output_token_seconds", "Time per output token in the window that is looked at.",
        [(m, live_now.tpot_s) for m, live_now in live],
    )  # fmt: skip
    yield _per_model(
        "time_to_first_token_seconds", "Time to the first token in the window that is looked at.",
        [(m, live_now.ttft_s) for m, live_now in live],
    )  # fmt: skip
    yield _per_model(
        "engine_busy_ratio",
        "Share of the time in which the engine decoded.",
        [(m, live_now.busy_share) for m, live_now in live],
    )
    yield _per_model("window_requests", "Requests in the window.", [(m, live_now.requests) for m, live_now in live])
    yield _per_model(
        "window_failed_requests", "Failed requests in the window.", [(m, live_now.failed) for m, live_now in live]
    )
    yield _per_model(
        "traffic_new_requests", "Requests since the last run began.", [(m, live_now.new) for m, live_now in traffic]
    )
    yield _per_model(
        "drift_windows",
        "Latest windows of traffic in a row above the noise floor.",
        [(m, live_now.moved) for m, live_now in traffic],
    )
    free = [(m, at.free_gib * 2**30 if at.free_gib is not None else None) for m, at in seen]
    yield _per_model("free_disk_bytes", "Free disk where the workspace lies.", free)


def _budgets(watches: Sequence[Watch], models: Sequence[ModelView]) -> Iterator[Metric]:
    budgets = [
        (m, m.controller.memory, watch.config.controller)
        for watch, m in zip(watches, models, strict=True)
        if m.controller
    ]
    yield _per_model(
        "accelerator_used_seconds", "Accelerator time that runs of the last 24 hours took.",
        [(m, 3600 * sum(h for ended, h in memory.gpu_hours if age_s(ended) < DAY_S)) for m, memory, _ in budgets],
    )  # fmt: skip
    yield _per_model(
        "accelerator_limit_seconds", "Accelerator time that runs may take in 24 hours.",
        [(m, 3600 * policy.gpu_hours_per_day) for m, _, policy in budgets],
    )  # fmt: skip
    yield _per_model(
        "runs_in_vain", "Runs in a row that promoted nothing.", [(m, memory.in_vain) for m, memory, _ in budgets]
    )


def _newest_run(models: Sequence[ModelView]) -> Iterator[Metric]:
    runs = [(m, m.runs[0]) for m in models if m.runs]
    phases = [
        ((m.slug, phase.phase, state), float(phase.state == state))
        for m, run in runs
        for phase in run.phases
        for state in get_args(PhaseState)
    ]
    yield _gauge(
        "run_phase_state", "1 for the state of a phase of the newest run.", ("model", "phase", "state"), phases
    )
    yield _per_model(
        "run_phase_progress_ratio", "How much of the present phase of the newest run is done.",
        [(m, m.progress.share if m.progress else None) for m, _ in runs],
    )  # fmt: skip
    yield _per_model(
        "run_phase_remaining_seconds", "Time that the present phase of the newest run still takes.",
        [(m, m.progress.eta_s if m.progress else None) for m, _ in runs],
    )  # fmt: skip
    yield _per_model(
        "run_created_timestamp_seconds", "When the newest run was begun, unix time.",
        [(m, m.heads[0].created_unix_s) for m, _ in runs],
    )  # fmt: skip
    decided = [(m, run.verdict) for m, run in runs if run.verdict is not None]
    outcomes = [
        ((m.slug, outcome, verdict.tier), float(verdict.outcome == outcome))
        for m, verdict in decided
        for outcome in OUTCOMES
    ]
    yield _gauge("verdict_outcome", "1 for the outcome of the newest run.", ("model", "outcome", "tier"), outcomes)
    speeds = [
        ((m.slug, bound), value)
        for m, verdict in decided
        if verdict.speedup
        for bound, value in (
            ("low", verdict.speedup.low),
            ("value", verdict.speedup.value),
            ("high", verdict.speedup.high),
        )
    ]
    yield _gauge(
        "verdict_speedup_ratio", "Speed-up of the newest run with the ends of its interval.", ("model", "bound"), speeds
    )

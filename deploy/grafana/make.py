"""Writes draftsmith.json, the dashboard, beside this file. Run it after a change; a test checks that both are the same.

Usage: python deploy/grafana/make.py
"""

from __future__ import annotations

from pathlib import Path

from grafana_foundation_sdk.builders import common, dashboard, prometheus, stat, statetimeline, timeseries
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.dashboard import DataSourceRef

OUT = Path(__file__).with_name("draftsmith.json")
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
MODEL = '{model=~"$model"}'

Panel = stat.Panel | timeseries.Panel | statetimeline.Panel


def query(expression: str, legend: str, ref: str = "A") -> prometheus.Dataquery:
    """One query of a panel."""
    return prometheus.Dataquery().expr(expression).legend_format(legend).datasource(SOURCE).ref_id(ref)


def lines(title: str, unit: str, *queries: tuple[str, str]) -> timeseries.Panel:
    """Curves over time; `unit` as Grafana names it."""
    panel = timeseries.Panel().title(title).unit(unit).datasource(SOURCE).height(8).span(12)
    for number, (expression, legend) in enumerate(queries):
        panel = panel.with_target(query(expression, legend, chr(ord("A") + number)))
    return panel


def number(title: str, unit: str, expression: str, legend: str = "{{model}}") -> stat.Panel:
    """The last value of each model."""
    return (
        stat.Panel().title(title).unit(unit).datasource(SOURCE).height(4).span(6)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .with_target(query(expression, legend))
    )  # fmt: skip


def states() -> statetimeline.Panel:
    """What the controller did when."""
    return (
        statetimeline.Panel().title("State of the controller").datasource(SOURCE).height(8).span(24)
        .with_target(query(f"max by (model, state) (draftsmith_controller_state{MODEL}) == 1", "{{model}}: {{state}}"))
    )  # fmt: skip


def panels() -> dict[str, list[Panel]]:
    """The panels by row."""
    return {
        "Now": [
            number("Controllers at work", "short", f"draftsmith_controller_up{MODEL}"),
            number("Share of promoted acceptance", "percentunit", "model:draftsmith_acceptance_length:ratio_champion" + MODEL),
            number("Speed-up of the newest run", "none", 'draftsmith_verdict_speedup_ratio{model=~"$model",bound="value"}'),
            number("Waiting for a yes", "short", f"draftsmith_proposal_waiting{MODEL}"),
            states(),
        ],
        "Live": [
            lines(
                "Acceptance length", "none",
                (f"draftsmith_acceptance_length{MODEL}", "{{model}}"),
                (f"draftsmith_champion_acceptance_length{MODEL}", "{{model}} as promoted"),
                (f"draftsmith_floor_acceptance_length{MODEL}", "{{model}} break-even"),
            ),
            lines(
                "Times", "s",
                (f"draftsmith_time_per_output_token_seconds{MODEL}", "{{model}} per output token"),
                (f"draftsmith_time_to_first_token_seconds{MODEL}", "{{model}} to the first token"),
            ),
            lines("Share of live traffic on a new configuration", "percentunit", (f"draftsmith_rollout_share_ratio{MODEL}", "{{model}}")),
            lines("Failed requests", "percentunit", ("model:draftsmith_window_failed_requests:ratio" + MODEL, "{{model}}")),
        ],
        "Traffic and budget": [
            lines("Windows of traffic that moved", "short", (f"draftsmith_drift_windows{MODEL}", "{{model}}")),
            lines("Accelerator budget used", "percentunit", ("model:draftsmith_accelerator_seconds:ratio_used" + MODEL, "{{model}}")),
            lines("Acts", "short", (f"increase(draftsmith_controller_acts_total{MODEL}[1h])", "{{model}} {{act}}")),
            lines("Free disk", "bytes", (f"draftsmith_free_disk_bytes{MODEL}", "{{model}}")),
        ],
        "Newest run": [
            lines("Progress of the present phase", "percentunit", (f"draftsmith_run_phase_progress_ratio{MODEL}", "{{model}}")),
            lines("Time left in the present phase", "s", (f"draftsmith_run_phase_remaining_seconds{MODEL}", "{{model}}")),
        ],
    }  # fmt: skip


def text() -> str:
    """The dashboard as JSON."""
    board = (
        dashboard.Dashboard("Draftsmith")
        .uid("draftsmith").tags(["draftsmith"]).refresh("30s").time("now-24h", "now").timezone("browser")
        .with_variable(dashboard.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .with_variable(
            dashboard.QueryVariable("model").label("Model").datasource(SOURCE).multi(True).include_all(True)
            .query("label_values(draftsmith_workspace_runs, model)")
        )
    )  # fmt: skip
    for title, row in panels().items():
        board = board.with_row(dashboard.Row(title))
        for panel in row:
            board = board.with_panel(panel)
    return JSONEncoder(sort_keys=True, indent=2).encode(board.build()) + "\n"


if __name__ == "__main__":
    OUT.write_text(text(), encoding="utf-8")

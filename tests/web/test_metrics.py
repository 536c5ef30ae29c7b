"""Metrics: what they say, what they never say, and that nothing a workspace holds makes them fail."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from programs import needs
from prometheus_client.parser import text_string_to_metric_families
from typer.testing import CliRunner
from watched import add_run, config, controlled, served, under_way

from draftsmith.api.watching import watch
from draftsmith.cli.app import app
from draftsmith.cli.output import Mode
from draftsmith.web.metrics import exposition


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    place = tmp_path / "tiny"
    served(place)
    add_run(place, "tiny-1", created=1.0)
    under_way(place)
    controlled(place)
    return place


@pytest.fixture
def text_mode() -> Iterator[None]:
    before = Mode.json
    yield
    Mode.json = before


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def of(text: str, name: str, **labels: str) -> float:
    return samples(text)[(name, tuple(sorted(labels.items())))]


def test_what_serves_and_what_is_under_way_is_told(workspace: Path) -> None:
    text = exposition(watch(config(workspace), ())).decode()
    assert of(text, "draftsmith_standing_info", model="tiny", method="eagle3") == 1
    assert of(text, "draftsmith_workspace_runs", model="tiny") == 2
    assert of(text, "draftsmith_run_phase_state", model="tiny", phase="capture", state="done") == 1
    assert of(text, "draftsmith_run_phase_progress_ratio", model="tiny") == pytest.approx(0.4)
    assert of(text, "draftsmith_run_phase_remaining_seconds", model="tiny") == pytest.approx(120, rel=0.1)
    assert of(text, "draftsmith_controller_up", model="tiny") == 0
    assert of(text, "draftsmith_controller_state", model="tiny", state="stopped") == 1
    assert of(text, "draftsmith_controller_acts_total", model="tiny", act="adopt") == 1
    assert of(text, "draftsmith_acceptance_length", model="tiny") == pytest.approx(2.6)
    assert of(text, "draftsmith_time_per_output_token_seconds", model="tiny") == pytest.approx(0.02)
    assert of(text, "draftsmith_proposal_waiting", model="tiny") == 1


def test_a_verdict_and_its_interval_are_told(tmp_path: Path) -> None:
    add_run(tmp_path, "r1")
    text = exposition(watch(config(tmp_path, target="/m/Tiny Model"), ())).decode()
    assert of(text, "draftsmith_verdict_outcome", model="tiny-model", outcome="WIN", tier="verdict") == 1
    assert of(text, "draftsmith_verdict_speedup_ratio", model="tiny-model", bound="low") == pytest.approx(1.15)


def test_labels_hold_no_run_no_path_and_nothing_of_the_traffic(workspace: Path) -> None:
    text = exposition(watch(config(workspace), ())).decode()
    assert "secret-place" not in text
    assert str(workspace) not in text
    assert "tiny-now" not in text
    hostile = 'eagle3"} 1\nevil{x="'
    (workspace / "service-state.json").write_text(
        (workspace / "service-state.json").read_text().replace('"eagle3"', '"eagle3\\"} 1\\nevil{x=\\""')
    )
    text = exposition(watch(config(workspace), ())).decode()
    assert hostile not in text
    assert of(text, "draftsmith_standing_info", model="tiny", method="other") == 1


def test_series_do_not_grow_with_runs(tmp_path: Path) -> None:
    add_run(tmp_path, "r0", created=1.0)
    watches = watch(config(tmp_path), ())
    before = len(samples(exposition(watches).decode()))
    for n in range(1, 30):
        add_run(tmp_path, f"r{n}", created=float(n))
    after = exposition(watches).decode()
    assert len(samples(after)) == before
    assert of(after, "draftsmith_workspace_runs", model=watches[0].slug) == 30


@pytest.mark.parametrize(
    "damage",
    [
        "service-state.json",
        "controller/journal/000001.json",
        "runs/tiny-1/run.json",
        "runs/tiny-now/journal/000001.json",
    ],
)
def test_a_damaged_file_is_told_and_the_rest_is_there(workspace: Path, damage: str) -> None:
    (workspace / damage).write_text('{"torn')
    text = exposition(watch(config(workspace), ())).decode()
    assert of(text, "draftsmith_workspace_readable", model="tiny") == 0
    assert of(text, "draftsmith_workspace_runs", model="tiny") >= 1


def test_an_empty_workspace_is_no_error(tmp_path: Path) -> None:
    text = exposition(watch(config(tmp_path / "new"), ())).decode()
    assert of(text, "draftsmith_workspace_runs", model="new") == 0
    assert "draftsmith_controller_up{" not in text


def test_several_workspaces_have_names_of_their_own(tmp_path: Path) -> None:
    places = [tmp_path / "a" / "model", tmp_path / "b" / "model"]
    for n, place in enumerate(places):
        add_run(place, "r", created=float(n))
    text = exposition(watch(config(tmp_path), [str(place) for place in places])).decode()
    assert of(text, "draftsmith_run_created_timestamp_seconds", model="model-2") == 1


@pytest.mark.usefixtures("text_mode")
def test_the_command_prints_them_and_promtool_finds_nothing_to_say(workspace: Path) -> None:
    needs("promtool")
    shown = CliRunner().invoke(app, ["metrics", "--workspace", str(workspace)])
    assert shown.exit_code == 0
    checked = subprocess.run(
        ["promtool", "check", "metrics"], input=shown.stdout, capture_output=True, text=True, timeout=60
    )
    assert (checked.returncode, checked.stdout + checked.stderr) == (0, "")

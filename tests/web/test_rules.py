"""Alerts and the dashboard: each alert fires on the series it is about and stays quiet on sound ones; a real Prometheus
takes rules and endpoint as they are."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from programs import needs
from prometheus_client import start_http_server
from prometheus_client.parser import text_string_to_metric_families
from watched import add_run, config, controlled, served, under_way

from draftsmith.api.watching import watch
from draftsmith.engines.base import free_port
from draftsmith.web.metrics import exposition, registry

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus"
ALERTS = yaml.safe_load((RULES / "alerts.yml").read_text())["groups"][0]["rules"]
DASHBOARD = ROOT / "deploy" / "grafana" / "draftsmith.json"

# What a sound service says, by minute. An alert's row replaces some of it.
SOUND = {
    'draftsmith_build_info{version="0.1.0"}': "1x100",
    "draftsmith_controller_up": "1x100",
    'draftsmith_controller_state{state="blind"}': "0x100",
    'draftsmith_controller_state{state="stuck"}': "0x100",
    "draftsmith_controller_last_look_timestamp_seconds": "0+STEPx100",
    "draftsmith_fallback_active": "0x100",
    "draftsmith_acceptance_length": "2.6x100",
    "draftsmith_champion_acceptance_length": "2.8x100",
    "draftsmith_floor_acceptance_length": "1.6x100",
    "draftsmith_proposal_waiting": "0x100",
    "draftsmith_controller_failures": "0x100",
    "draftsmith_runs_in_vain": "0x100",
    "draftsmith_accelerator_used_seconds": "3600x100",
    "draftsmith_accelerator_limit_seconds": "86400x100",
    "draftsmith_free_disk_bytes": "5e10x100",
    "draftsmith_window_requests": "400x100",
    "draftsmith_window_failed_requests": "1x100",
    "draftsmith_workspace_readable": "1x100",
}
# alert -> (what is different, the minute at which it fires). It must not fire one step after what is wrong began.
WRONG: dict[str, tuple[dict[str, str | None], int]] = {
    "DraftsmithMetricsAbsent": ({'draftsmith_build_info{version="0.1.0"}': None}, 11),
    "DraftsmithControllerDown": ({"draftsmith_controller_up": "0x100"}, 6),
    "DraftsmithControllerSilent": ({"draftsmith_controller_last_look_timestamp_seconds": "0x100"}, 17),
    "DraftsmithControllerBlind": ({'draftsmith_controller_state{state="blind"}': "1x100"}, 16),
    "DraftsmithControllerStuck": ({'draftsmith_controller_state{state="stuck"}': "1x100"}, 6),
    "DraftsmithFallback": ({"draftsmith_fallback_active": "1x100"}, 2),
    "DraftsmithAcceptanceBelowFloor": ({"draftsmith_floor_acceptance_length": "2.7x100"}, 16),
    "DraftsmithAcceptanceFell": ({"draftsmith_acceptance_length": "2.2x100"}, 61),
    "DraftsmithProposalWaiting": ({"draftsmith_proposal_waiting": "1x100"}, 1470),
    "DraftsmithActFailing": ({"draftsmith_controller_failures": "2x100"}, 6),
    "DraftsmithRunsInVain": ({"draftsmith_runs_in_vain": "3x100"}, 6),
    "DraftsmithBudgetSpent": ({"draftsmith_accelerator_used_seconds": "86400x100"}, 31),
    "DraftsmithDiskLow": ({"draftsmith_free_disk_bytes": "9e9x100"}, 16),
    "DraftsmithErrorsHigh": ({"draftsmith_window_failed_requests": "30x100"}, 11),
    "DraftsmithWorkspaceUnreadable": ({"draftsmith_workspace_readable": "0x100"}, 11),
}


def case(changed: dict[str, str | None], fires: str | None, minute: int) -> dict[str, Any]:
    """A unit test of promtool: at `minute`, this alert and no other fires; one step after the beginning, none does."""
    step = 30 if minute > 100 else 1  # minutes
    series = []
    for name, values in (SOUND | changed).items():
        if values is not None:
            bare, _, rest = name.partition("{")
            own = (
                rest.rstrip("}")
                if bare == "draftsmith_build_info"
                else ",".join(['model="tiny"', *filter(None, [rest.rstrip("}")])])
            )
            series.append({"series": f"{bare}{{{own}}}", "values": values.replace("STEP", str(60 * step))})
    checks = []
    for rule in ALERTS:
        wanted = [{"exp_labels": labels(rule), "exp_annotations": annotations(rule)}] if rule["alert"] == fires else []
        checks.append({"eval_time": f"{minute}m", "alertname": rule["alert"], "exp_alerts": wanted})
        if rule["alert"] == fires and minute > 2:
            checks.append({"eval_time": f"{step}m", "alertname": rule["alert"], "exp_alerts": []})
    return {"interval": f"{step}m", "input_series": series, "alert_rule_test": checks}


def labels(rule: dict[str, Any]) -> dict[str, str]:
    found = {"severity": rule["labels"]["severity"]}
    if not rule["expr"].startswith("absent"):
        found["model"] = "tiny"
    if state := re.search(r'state="(\w+)"', rule["expr"]):
        found["state"] = state[1]
    return found


def annotations(rule: dict[str, Any]) -> dict[str, str]:
    return {key: text.replace("{{ $labels.model }}", "tiny") for key, text in rule["annotations"].items()}


@pytest.mark.foreign
def test_each_alert_fires_alone_and_a_sound_service_is_quiet(tmp_path: Path) -> None:
    needs("promtool")
    assert set(WRONG) == {rule["alert"] for rule in ALERTS}
    cases = [case({}, None, 90), *(case(changed, name, minute) for name, (changed, minute) in WRONG.items())]
    rules = [str(RULES / name) for name in ("recording.yml", "alerts.yml")]
    files = []
    for step in ("1m", "30m"):
        files.append(tmp_path / f"alerts_{step}.yml")
        tests = [one for one in cases if one["interval"] == step]
        files[-1].write_text(yaml.safe_dump({"rule_files": rules, "evaluation_interval": step, "tests": tests}))
    done = subprocess.run(["promtool", "test", "rules", *map(str, files)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def test_rules_and_example_are_sound() -> None:
    needs("promtool")
    for words in (
        ["rules", str(RULES / "recording.yml"), str(RULES / "alerts.yml")],
        ["config", str(RULES / "prometheus.yml")],
    ):
        done = subprocess.run(["promtool", "check", *words], capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_has_its_page_and_every_page_its_alert() -> None:
    pages = {(ROOT / rule["annotations"]["runbook"]).resolve() for rule in ALERTS}
    assert pages == set((ROOT / "docs" / "runbooks").glob("*.md"))
    for rule in ALERTS:
        text = (ROOT / rule["annotations"]["runbook"]).read_text()
        assert text.startswith(f"# {rule['alert']}\n")
        assert rule["expr"] in text
        assert f"Severity {rule['labels']['severity']}; fires after {rule['for']} of" in text


def metric_names(text: str) -> set[str]:
    return set(re.findall(r"\bdraftsmith_[a-z_]+", text))


def everything(place: Path) -> str:
    """All metrics there are, of a workspace where each has a value."""
    served(place)
    add_run(place, "tiny-1", created=1.0)
    journal = controlled(place)
    import watched

    from draftsmith.contract import control as c

    journal.append(
        "effect",
        "promoted",
        act=c.Conclude(run_id="tiny-1", outcome="WIN", why="w", floor_al=1.6, promotes=True).model_dump(mode="json"),
    )
    decided = exposition(watch(watched.config(place), ())).decode()
    under_way(place)
    return decided + exposition(watch(watched.config(place), ())).decode()


def test_rules_and_dashboard_ask_for_metrics_that_there_are(tmp_path: Path) -> None:
    text = everything(tmp_path / "tiny")
    known = set(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE))
    asked = metric_names(json.dumps(ALERTS) + (RULES / "recording.yml").read_text() + DASHBOARD.read_text())
    recorded = {m for m in asked if f"model:{m}:" in (RULES / "recording.yml").read_text()} & {
        "draftsmith_accelerator_seconds",
        "draftsmith_controller_look_age_seconds",
    }
    assert asked - recorded <= known
    assert len(known) > 25


def test_the_dashboard_is_the_one_that_the_library_writes() -> None:
    spec = importlib.util.spec_from_file_location("dashboard_maker", ROOT / "deploy" / "grafana" / "make.py")
    assert spec is not None
    assert spec.loader is not None
    maker = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(maker)
    assert maker.text() == DASHBOARD.read_text(), "run python deploy/grafana/make.py"


@contextmanager
def prometheus(folder: Path, target: int) -> Iterator[str]:
    """A real Prometheus that fetches from the port `target` each second, with the project's rules, none of which waits."""
    for name in ("recording.yml", "alerts.yml"):
        (folder / name).write_text(
            re.sub(
                r"^(\s+for:) .*$",
                r"\1 0s",
                re.sub(r"interval: 30s", "interval: 1s", (RULES / name).read_text()),
                flags=re.MULTILINE,
            )
        )
    settings = yaml.safe_load((RULES / "prometheus.yml").read_text())
    settings["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    settings["scrape_configs"][0]["static_configs"] = [{"targets": [f"127.0.0.1:{target}"]}]
    (folder / "prometheus.yml").write_text(yaml.safe_dump(settings))
    port = free_port()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [needs("prometheus"), f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data",
             f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"],
            stdout=log, stderr=log, cwd=folder,
        )  # fmt: skip
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


def until(ask: Any, wanted: Any, seconds: float = 30.0) -> Any:
    deadline, found = time.monotonic() + seconds, None
    while time.monotonic() < deadline:
        try:
            found = ask()
        except (httpx.HTTPError, ValueError):  # it answers in words until it is ready
            found = None
        if found is not None and wanted(found):
            return found
        time.sleep(0.2)
    raise AssertionError(f"not seen in {seconds} s; last: {found}")


@pytest.mark.foreign
@pytest.mark.timeout(90)
def test_a_real_prometheus_fetches_the_endpoint_and_its_alerts_fire(tmp_path: Path) -> None:
    needs("prometheus")
    place = tmp_path / "tiny"
    served(place)
    under_way(place)
    controlled(place)
    server, thread = start_http_server(0, "127.0.0.1", registry(watch(config(place), ())))
    try:
        text = httpx.get(f"http://127.0.0.1:{server.server_port}/metrics", trust_env=False).text
        assert list(text_string_to_metric_families(text))
        with prometheus(tmp_path, server.server_port) as url, httpx.Client(base_url=url, trust_env=False) as client:
            query = {"query": "draftsmith_run_phase_progress_ratio"}
            found = until(lambda: client.get("/api/v1/query", params=query).json()["data"]["result"], bool)
            assert found[0]["metric"]["model"] == "tiny"
            assert found[0]["value"][1] == "0.4"
            wanted = {"DraftsmithControllerDown", "DraftsmithProposalWaiting"}
            fired = until(
                lambda: {
                    a["labels"]["alertname"]
                    for a in client.get("/api/v1/alerts").json()["data"]["alerts"]
                    if a["state"] == "firing"
                },
                lambda names: wanted <= names,
            )
            assert fired == wanted
            rules = client.get("/api/v1/rules").json()["data"]["groups"]
            assert {rule["health"] for group in rules for rule in group["rules"]} == {"ok"}
    finally:
        threading.Thread(target=server.shutdown).start()
        thread.join(10)
        server.server_close()

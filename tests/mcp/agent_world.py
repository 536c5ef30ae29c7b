"""A workspace as an agent finds it: a target, a log, an engine that can be asked, and a run that won."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

from bundle_world import parts
from loop_world import interpreter
from tiny_target import write_target
from watched import add_run

from draftsmith.store.evidence import write_bundle
from draftsmith.store.runs import Store


def workspace_with_a_run(base: Path, run_id: str = "tiny-0001") -> tuple[Path, Path, str]:
    """(target, log, engine's interpreter); the workspace is `base`/w."""
    target = write_target(base / "target")
    interpreter(base, "fake_engine_python")
    log = base / "access.jsonl"
    rows = [{"prompt_tokens": 60 + n, "completion_tokens": 24, "content_class": "chat"} for n in range(40)]
    log.write_text("".join(json.dumps(row) + "\n" for row in rows))
    run = add_run(base / "w", run_id, done=4, target=str(target))
    page = "<!doctype html><html lang='en'><title>a report</title></html>"
    made = write_bundle(run.folder / "bundle", replace(parts(), run_id=run_id, report_html=page))
    names = {"plan": "plan.json", "samples": "samples.jsonl", "facts": "facts.json", "verdict": "verdict.json"}
    told = json.loads((made / "verdict.json").read_text())
    outputs = {name: str(made / file) for name, file in names.items()} | {"winner_config": None, "winner_sha256": None}
    figures = {name: told[name] for name in ("outcome", "tier", "reason", "winner")}
    figures |= {"speedup": told["pairs"][0]["speedup"], "acceptance_length": {}, "median_tpot_ms": {}, "schedule": []}
    for phase in ("compare", "promote", "publish"):
        result = {"ok": True, "wall_s": 12.0, "figures": figures if phase == "compare" else {}}
        result |= {"outputs": outputs if phase == "compare" else {}}
        run.append("phase_done", phase, headline=f"{phase}: done", passed=True, result=result)
    assert Store(base / "w").get(run_id)
    return target, log, str(base / "fake_engine_python.sh")

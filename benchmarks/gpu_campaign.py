"""All drafts of the tenants against no speculation, at several concurrencies, on servers that stay up side by side.

    python benchmarks/gpu_campaign.py serve   --out DIR --target FOLDER      starts the servers, stays until DIR/stop exists
    python benchmarks/gpu_campaign.py measure --out DIR --target FOLDER --seconds 480

DIR is that of tenants.py. Arms of a tenant: no speculation, the same once more on a server of its own (A/A over starts),
and its four drafts: matched and generic, EAGLE3 and DFlash. The two plain servers serve all tenants. Each (tenant,
concurrency) is a comparison of its own, with its own number of held-out prompts, so that every trial takes about as long.
Blocks go round all comparisons until the time is over; within a block every arm is measured once, the plain one twice.
A comparison's folder holds plan-frozen.json, samples.jsonl, facts.json and verdict.json: `draftsmith decide FOLDER` recomputes it.
One server start serves all blocks, so no result is above tier `draft`. gpu_report.py makes tables and a figure of them.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from draftsmith import wiring
from draftsmith.contract.base import digest
from draftsmith.contract.config import Config
from draftsmith.contract.errors import DraftsmithError
from draftsmith.contract.measure import Arm, ComparisonPlan, EngineFacts, OperatingPoint, Thresholds, Trial
from draftsmith.corpus.prompts import Prompt, heldout_prompts
from draftsmith.engines.vllm import metrics as vllm_metrics
from draftsmith.engines.vllm.engine import VllmEngine
from draftsmith.kit.files import append_line, private_dir, read_json, read_lines, write_json
from draftsmith.phases.compare import other_draft
from draftsmith.verdict.decide import decide
from draftsmith.verdict.samples import bundle_digest
from draftsmith.work.compare.ledger import canonical_line
from draftsmith.work.compare.trial import Endpoint, Slot, measure

PLAIN, TWIN = "no-spec", "no-spec-twin"
LOOK_S = 1.0
SETTLE_S = 0.05
WARM = 4
FEWEST, BATCHES = 8, 2  # prompts of a trial: at least so many, and so many full batches


def arms_of(out: Path, tenant: str) -> dict[str, Path]:
    """Name -> folder of the four drafts; a folder may not be there yet."""
    result = {}
    for kind in ("matched", "generic"):
        runs = sorted((out / f"{kind}-{tenant}.work").glob("runs/*/phases/train"))
        result[f"{kind}-eagle3"] = runs[-1] / "draft" if runs else out / "missing"
        result[f"{kind}-dflash"] = out / f"{kind}-{tenant}-dflash"
    return result


# -- servers ------------------------------------------------------------------------------------------------------------


def serve(options: argparse.Namespace) -> None:
    """Start every server as soon as its draft is there; `servers.json` grows with each one that is ready."""
    out = options.out.resolve()
    config = configured(options)
    engine = VllmEngine(private_dir(out / "campaign-processes"))
    wanted: dict[str, tuple[str, str] | None] = {PLAIN: None, TWIN: None}
    names = ("matched-eagle3", "generic-eagle3", "matched-dflash", "generic-dflash")
    wanted |= {f"{tenant}/{name}": (tenant, name) for name in names for tenant in options.tenants}
    ready: dict[str, Any] = {}
    failed: dict[str, str] = {}
    servers = []

    def bring_up(name: str) -> None:
        spec_config = None
        if place := wanted[name]:
            while not (folder := arms_of(out, place[0])[place[1]]).is_dir():
                if (out / "stop").exists() or (out / "no-more-drafts").exists():
                    failed[name] = "its draft was not trained"
                    return
                time.sleep(LOOK_S)
            spec_config = {"model": str(folder.resolve()), **other_draft(folder, "eagle3", options.k)}
        spec = wiring.server_spec(config, str(options.target.resolve()), spec_config=spec_config, residents=len(wanted))
        began = time.monotonic()
        try:
            server = engine.start(spec, out / "campaign-servers")
            servers.append(server)
            engine.wait_ready(server, config.engine.start_timeout_s)
        except DraftsmithError as error:
            failed[name] = f"{error.message}; {error.next_step}"
            print(f"{name}: FAILED {failed[name]}", flush=True)
            return
        facts = engine.facts(server)
        ready[name] = {
            "url": server.url,
            "spec_config": spec_config,
            "facts": facts.model_dump(mode="json"),
            "start_s": time.monotonic() - began,
        }
        print(
            f"{name}: ready after {ready[name]['start_s']:.0f} s, graphs {facts.graph_mode}, runner {facts.runner}",
            flush=True,
        )

    try:
        with ThreadPoolExecutor(options.at_once) as pool:
            waiting = [pool.submit(bring_up, name) for name in wanted]
            while not all(future.done() for future in waiting):
                note(out, ready, failed, False)
                time.sleep(LOOK_S)
        for future in waiting:
            future.result()
        note(out, ready, failed, True)
        while not (out / "stop").exists():
            time.sleep(LOOK_S)
    finally:
        for server in servers:
            engine.stop(server)


def note(out: Path, ready: dict[str, Any], failed: dict[str, str], complete: bool) -> None:
    """Replace servers.json."""
    write_json(out / "servers.json", {"complete": complete, "ready": dict(ready), "failed": dict(failed)})


def configured(options: argparse.Namespace) -> Config:
    """The settings of every server."""
    engine = {"gpu_kv_gib": options.kv_gib, "gpu_memory_share": 0.05, "max_model_len": 2048, "start_timeout_s": 420.0}
    return Config.model_validate({"target": str(options.target), "engine": engine})


# -- trials -------------------------------------------------------------------------------------------------------------


class Comparison:
    """One tenant at one concurrency."""

    def __init__(
        self, out: Path, tenant: str, concurrency: int, prompts: list[Prompt], servers: dict[str, Any], most: int
    ) -> None:
        self.tenant, self.concurrency, self.prompts = tenant, concurrency, prompts
        self.folder = private_dir(out / "compared" / f"{tenant}-c{concurrency}")
        self.endpoints = {}
        self.facts = []
        arms = []
        for name, key in arm_names(tenant, servers):
            server = servers[key]
            facts = EngineFacts.model_validate(server["facts"])
            spec = dict(server["spec_config"]) if server["spec_config"] else None
            if spec:
                spec["model"] = f"{{drafts}}/{name}"
            role = "standing" if name == PLAIN else "no_spec" if name == TWIN else "candidate"
            arms.append(Arm(name=name, role=role, spec_config=spec))
            self.endpoints[name] = Endpoint(server["url"], wiring.SERVED_NAME, facts.start_id, facts.kv_tokens)
            self.facts.append((name, facts))
        self.plan = ComparisonPlan(
            arms=tuple(arms),
            baseline=PLAIN,
            points=(OperatingPoint(name=f"c{concurrency}", concurrency=concurrency, primary=True),),
            prompts_sha256=digest([prompt.model_dump(mode="json") for prompt in prompts]),
            n_prompts=len(prompts),
            thresholds=Thresholds(min_blocks=3, max_blocks=max(3, most)),
            restarts=False,
        )
        write_json(self.folder / "plan-frozen.json", self.plan)
        write_json(self.folder / "facts.json", [[arm, facts.model_dump(mode="json")] for arm, facts in self.facts])
        self.samples = self.folder / "samples.jsonl"
        sha = digest(self.plan)
        lines = (
            [Trial.model_validate(json.loads(line)) for line in read_lines(self.samples)]
            if self.samples.exists()
            else []
        )
        self.trials = [trial for trial in lines if trial.plan_sha256 == sha]

    def block(self, engine: VllmEngine) -> None:
        """One block; it is written when it is whole."""
        number = len({trial.block for trial in self.trials})
        order = [(arm.name, "own") for arm in self.plan.arms] + [(PLAIN, "aa")]
        if number % 2:
            order.reverse()
        sha, point = digest(self.plan), self.plan.points[0]
        done = [
            measure(engine, self.endpoints[name], self.prompts, point, Slot(sha, number, place, name, traffic))  # type: ignore[arg-type]
            for place, (name, traffic) in enumerate(order)
        ]
        for trial in done:
            append_line(self.samples, canonical_line(trial).rstrip("\n"))
            self.trials.append(trial)
        write_json(
            self.folder / "verdict.json",
            decide(self.plan, self.trials, self.facts, samples_sha256=bundle_digest(self.trials)),
        )


def arm_names(tenant: str, servers: dict[str, Any]) -> list[tuple[str, str]]:
    """(name of the arm, name of its server) of the arms of a tenant that are up, the plain one first."""
    result = [(name, name) for name in (PLAIN, TWIN) if name in servers]
    return result + [(key.split("/", 1)[1], key) for key in servers if key.startswith(f"{tenant}/")]


def measure_all(options: argparse.Namespace) -> None:
    """Blocks round all comparisons until the time is over."""
    end = time.monotonic() + options.seconds
    out = options.out.resolve()
    vllm_metrics.SETTLE_POLL_S = SETTLE_S
    servers = wait_for_servers(out, end - options.seconds / 2)
    if PLAIN not in servers:
        sys.exit("no server without speculation is up: nothing to compare with")
    engine = VllmEngine(private_dir(out / "campaign-processes"))
    comparisons = []
    for concurrency in options.concurrency:
        for tenant in options.tenants:
            if prompts := pick(out, tenant, concurrency, options.trial_s, options.tpot_ms / 1000):
                comparisons.append(Comparison(out, tenant, concurrency, prompts, servers, options.rounds))
    warmed: set[str] = set()
    took: dict[int, float] = {}
    for number in range(options.rounds):
        for index, comparison in enumerate(comparisons):
            if time.monotonic() + took.get(index, 0.0) > end:
                print(f"time is over in round {number + 1}", flush=True)
                return
            try:
                warm(engine, comparison, warmed)
                began = time.monotonic()
                comparison.block(engine)
            except DraftsmithError as error:
                print(f"{comparison.folder.name}: {error.message}", flush=True)
                continue
            took[index] = time.monotonic() - began
            print(f"round {number + 1} {comparison.folder.name}: {took[index]:.1f} s", flush=True)


def wait_for_servers(out: Path, deadline: float) -> dict[str, Any]:
    """The servers that are up, once all of them are decided or half of the time is gone."""
    while True:
        message = (
            read_json(out / "servers.json") if (out / "servers.json").exists() else {"complete": False, "ready": {}}
        )
        if message["complete"] or time.monotonic() > deadline:
            return dict(message["ready"])
        time.sleep(LOOK_S)


def pick(out: Path, tenant: str, concurrency: int, trial_s: float, tpot_s: float) -> list[Prompt]:
    """Held-out prompts enough for a trial of about `trial_s` seconds at this concurrency."""
    paths = sorted((out / f"matched-{tenant}.work").glob("runs/*/phases/corpus/corpus"))
    if not paths:
        print(f"{tenant}: no corpus, left out", flush=True)
        return []
    prompts = list(heldout_prompts(paths[-1], 10_000).prompts)
    length = statistics.fmean(prompt.max_tokens for prompt in prompts)
    wanted = round(trial_s * concurrency / (length * tpot_s))
    return prompts[: max(FEWEST, BATCHES * concurrency if concurrency > 1 else 0, wanted)]


def warm(engine: VllmEngine, comparison: Comparison, warmed: set[str]) -> None:
    """A few answers from each server that has not answered yet, alone and at full concurrency."""
    for name, endpoint in comparison.endpoints.items():
        if endpoint.url in warmed:
            continue
        for concurrency in (1, 32):
            point = OperatingPoint(name="warm", concurrency=concurrency, max_tokens=32)
            measure(
                engine, endpoint, comparison.prompts[: WARM * concurrency], point, Slot("warm", 0, 0, name, "tuning")
            )
        warmed.add(endpoint.url)


def main() -> None:
    """Parse and dispatch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=["serve", "measure"])
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--target", type=Path)
    parser.add_argument("--tenants", nargs="+", default=["extract_json", "math", "chat"])
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 8, 32, 4, 16])
    parser.add_argument("--k", type=int, default=3, help="tokens that an EAGLE3 draft proposes")
    parser.add_argument("--kv-gib", type=float, default=1.5)
    parser.add_argument("--at-once", type=int, default=7, help="servers that start at the same time")
    parser.add_argument("--seconds", type=float, default=480.0)
    parser.add_argument(
        "--rounds", type=int, default=8, help="blocks at most; the rule that looks after every one wants it beforehand"
    )
    parser.add_argument("--trial-s", type=float, default=0.8)
    parser.add_argument(
        "--tpot-ms", type=float, default=2.2, help="rough time per token, to choose the number of prompts"
    )
    options = parser.parse_args()
    {"serve": serve, "measure": measure_all}[options.step](options)


if __name__ == "__main__":
    main()

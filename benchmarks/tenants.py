"""Matched against generic drafts on real tenants: the same loop, once on a tenant's own traffic, once on the others'.

    python benchmarks/tenants.py logs    --data DIR --out DIR --target FOLDER
    python benchmarks/tenants.py train   --out DIR --target FOLDER [--parallel]
    python benchmarks/tenants.py dflash  --out DIR --target FOLDER [--parallel]
    python benchmarks/tenants.py compare --out DIR --target FOLDER
    python benchmarks/tenants.py table   --out DIR

DIR of --data holds <tenant>.jsonl files (id, messages, max_tokens). `logs` serves the target once and replays the prompts.
The generic log of a tenant holds as many answer tokens, drawn evenly from all other tenants. `compare` finishes the
matched run of each tenant with the generic draft as a further arm on the same held-out prompts. Each step is resumable.
`dflash` trains a DFlash draft from the corpus and the kept hidden states of each run of `train` (which needs
`--set corpus.keep_hidden_states=true`), so that both kinds of draft have seen the same rows. `gpu_campaign.py` compares
them all over several concurrencies.
"""

from __future__ import annotations

import argparse
import itertools
import json
import multiprocessing
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from draftsmith import wiring
from draftsmith.client.log import record
from draftsmith.contract.config import Config
from draftsmith.engines.vllm.engine import VllmEngine
from draftsmith.kit.files import private_dir, read_json, read_lines, write_atomic, write_json

MAIN = ("extract_json", "math", "chat")


def logs(options: argparse.Namespace) -> None:
    """Answer the prompts of every tenant, then mix the generic logs."""
    out, data = private_dir(options.out), options.data
    if not data or not data.is_dir():
        sys.exit(f"{data} is not there: this benchmark needs the tenants' prompts")
    tenants = sorted(path.stem for path in data.glob("*.jsonl"))
    config = Config(target=str(options.target))
    engine = VllmEngine(private_dir(out / "processes"))
    spec = wiring.server_spec(config, str(options.target)).model_copy(update={"max_num_seqs": options.concurrency})
    server = engine.start(spec, out / "servers")
    try:
        engine.wait_ready(server, 900)
        began = time.monotonic()
        # One Python client reads about 6,000 tokens/s; several of them keep a GPU busy. The largest logs begin first.
        order = sorted(tenants, key=lambda tenant: tenant not in options.tenants)
        with ProcessPoolExecutor(options.clients, mp_context=multiprocessing.get_context("spawn")) as pool:
            waiting = {
                pool.submit(
                    record,
                    data / f"{tenant}.jsonl",
                    out / f"log-{tenant}.jsonl",
                    endpoint=server.url,
                    concurrency=max(1, options.concurrency // options.clients),
                    limit=options.requests if tenant in options.tenants else options.others,
                    max_tokens=256,
                ): tenant
                for tenant in order
            }
            total = 0
            for done in as_completed(waiting):
                figures = done.result()
                total += figures["output_tokens"]
                print(
                    f"{waiting[done]}: {figures['answered']} answers, {figures['output_tokens']:,} tokens", flush=True
                )
        wall_s = time.monotonic() - began
        print(f"all: {total:,} tokens in {wall_s:.0f} s, {total / wall_s:,.0f} tokens/s", flush=True)
    finally:
        engine.stop(server)
    for tenant in options.tenants:
        mix(out, tenant, [other for other in tenants if other != tenant])


def mix(out: Path, tenant: str, others: list[str]) -> None:
    """Write generic-<tenant>.jsonl: the others in turn, until it has as many answer tokens as the tenant's own log."""
    wanted = sum(tokens(line) for line in read_lines(out / f"log-{tenant}.jsonl"))
    taken: list[str] = []
    have = 0
    for lines in itertools.zip_longest(*(read_lines(out / f"log-{other}.jsonl") for other in others)):
        for line in filter(None, lines):
            if have < wanted and (count := tokens(line)):
                taken.append(line)
                have += count
    write_atomic(out / f"log-generic-{tenant}.jsonl", "".join(line + "\n" for line in taken))
    print(
        f"generic log for {tenant}: {len(taken)} requests, {have:,} answer tokens ({wanted:,} in its own)", flush=True
    )


def tokens(line: str) -> int:
    """Answer tokens of one record."""
    return len(json.loads(line).get("output_token_ids") or [])


def command(options: argparse.Namespace, verb: str, tenant: str, kind: str) -> list[str]:
    """`draftsmith train` or `run` for one draft; the same settings for both, so that it is the same run."""
    out = options.out.resolve()
    log = out / (f"log-{tenant}.jsonl" if kind == "matched" else f"log-generic-{tenant}.jsonl")
    settings = [f"--set={item}" for item in options.set]
    if kind == "matched" and verb == "run":  # only then is the generic draft there
        settings.append(f"--set=compare.drafts={json.dumps([str(out / f'generic-{tenant}')])}")
    return [
        *(sys.executable, "-m", "draftsmith", verb, "--target", str(options.target), "--profile", str(log)),
        *("--workspace", str(out / f"{kind}-{tenant}.work"), *settings, *(["--yes"] if verb == "run" else [])),
    ]


def train(options: argparse.Namespace) -> None:
    """Train the matched and the generic draft of each tenant, all at once with --parallel."""
    jobs = [(tenant, kind) for tenant in options.tenants for kind in ("matched", "generic")]
    running = []
    for tenant, kind in jobs:
        log = (options.out / f"train-{kind}-{tenant}.log").open("w")
        child = subprocess.Popen(command(options, "train", tenant, kind), stdout=log, stderr=subprocess.STDOUT)
        running.append((tenant, kind, child))
        if not options.parallel:
            child.wait()
    for tenant, kind, child in running:
        print(f"{kind} {tenant}: exit {child.wait()}", flush=True)
    for tenant in options.tenants:
        link_generic(options.out.resolve(), tenant)


def dflash(options: argparse.Namespace) -> None:
    """Train a DFlash draft beside each EAGLE3 one, from the same corpus and states. Drafts: `<kind>-<tenant>-dflash`."""
    running = []
    for tenant, kind in itertools.product(options.tenants, ("matched", "generic")):
        paths = sorted((options.out.resolve() / f"{kind}-{tenant}.work").glob("runs/*/phases/train/plan.json"))
        draft = options.out.resolve() / f"{kind}-{tenant}-dflash"
        if draft.exists():
            continue
        if not paths:
            print(f"dflash {kind} {tenant}: no finished training to take corpus and states from", flush=True)
            continue
        folder = private_dir(paths[-1].parent.parent / "train-dflash")
        plan = read_json(paths[-1])
        plan["config"] = Config.model_validate(
            apply(plan["config"], ["trainer.method=dflash", *options.set])
        ).model_dump(mode="json")
        write_json(folder / "plan.json", plan | {"out": str(draft)})
        log = (options.out / f"train-dflash-{kind}-{tenant}.log").open("w")
        argv = [sys.executable, "-m", "draftsmith.work.train", str(folder / "plan.json")]
        running.append((tenant, kind, folder, subprocess.Popen(argv, stdout=log, stderr=subprocess.STDOUT)))
        if not options.parallel:
            running[-1][-1].wait()
    for tenant, kind, folder, child in running:
        code = child.wait()
        recorded = read_json(folder / "result.json") if (folder / "result.json").exists() else {}
        figures = recorded.get("figures") or {}
        shown = " / ".join(f"{value:.3f}" for value in figures.get("validation_acceptance", []))
        print(f"dflash {kind} {tenant}: exit {code} {recorded.get('error') or shown}", flush=True)


def apply(config: dict[str, Any], settings: list[str]) -> dict[str, Any]:
    """`section.key=value` onto a configuration; values are JSON where they parse, else text."""
    for item in settings:
        path, _, text = item.partition("=")
        *parents, key = path.split(".")
        place = config
        for parent in parents:
            place = place[parent]
        try:
            place[key] = json.loads(text)
        except ValueError:
            place[key] = text
    return config


def link_generic(out: Path, tenant: str) -> None:
    """`generic-<tenant>`: the trained draft under a name that reads well as an arm."""
    paths = sorted((out / f"generic-{tenant}.work").glob("runs/*/phases/train/draft"))
    link = out / f"generic-{tenant}"
    if paths:
        link.unlink(missing_ok=True)
        link.symlink_to(paths[-1])


def compare(options: argparse.Namespace) -> None:
    """Finish the matched run of each tenant."""
    for tenant in options.tenants:
        with (options.out / f"run-{tenant}.log").open("w") as log:
            code = subprocess.run(
                command(options, "run", tenant, "matched"), stdout=log, stderr=subprocess.STDOUT
            ).returncode
        print(f"compare {tenant}: exit {code}", flush=True)


def table(options: argparse.Namespace) -> None:
    """The results as a Markdown table, from the verdicts."""
    print(
        "| tenant | arm | point | median TPOT | AL | per position | speed-up [interval] | outcome |\n|---|---|---|---|---|---|---|---|"
    )
    for tenant in options.tenants:
        for path in sorted((options.out / f"matched-{tenant}.work").glob("runs/*/bundle/*/*/verdict.json")):
            for line in rows(tenant, read_json(path)):
                print(line)


def rows(tenant: str, verdict: dict[str, Any]) -> list[str]:
    """One row an arm and point."""
    pairs = {(pair["candidate"], pair["point"]): pair for pair in verdict["pairs"]}
    lines = []
    for arm in verdict["arms"]:
        pair = pairs.get((arm["arm"], arm["point"]))
        speed = pair["speedup"] if pair else None
        shown = f"{speed['value']:.3f}x [{speed['low']:.3f}, {speed['high']:.3f}]" if speed else "baseline"
        length = f"{arm['acceptance_length']:.2f}" if arm["acceptance_length"] else ""
        positions = " / ".join(f"{value:.3f}" for value in arm["acceptance_by_position"])
        tpot = f"{arm['median_tpot_s'] * 1000:.2f} ms" if arm["median_tpot_s"] else ""
        outcome = pair["outcome"] if pair else ""
        lines.append(
            f"| {tenant} | {arm['arm']} | {arm['point']} | {tpot} | {length} | {positions} | {shown} | {outcome} |"
        )
    return lines


def main() -> None:
    """Parse and dispatch."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=["logs", "train", "dflash", "compare", "table"])
    parser.add_argument("--data", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--target", type=Path)
    parser.add_argument("--tenants", nargs="+", default=list(MAIN))
    parser.add_argument("--requests", type=int, default=1000, help="prompts of a main tenant")
    parser.add_argument("--others", type=int, default=350, help="prompts of each other tenant")
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--clients", type=int, default=1, help="client processes that ask for answers")
    parser.add_argument("--parallel", action="store_true", help="train all drafts at the same time")
    parser.add_argument("--set", action="append", default=[], help="setting passed on to draftsmith")
    options = parser.parse_args()
    steps = {"logs": logs, "train": train, "dflash": dflash, "compare": compare, "table": table}
    steps[options.step](options)


if __name__ == "__main__":
    main()

"""Capture of hidden states on one corpus: Draftsmith's own client against a plain `speculators generate-offline-data`.

    python benchmarks/capture.py RUN_FOLDER --target FOLDER [--rows 800] [--rounds 2]

RUN_FOLDER is a run whose training data is there (`phases/train/training/data`). Two capture servers of the same memory stay
up: Draftsmith's, and one with vLLM's own connector (lock files, graphs on) as speculators wants it; on a CPU, where that
connector fails, Draftsmith's connector with lock files stands in. Each client asks its server for the same rows with the
same number of requests in flight, in turn: A B A B. Tokens/s are those of the files after the first, over the time from
the first file to the last, by the files' own times: neither client's start counts. The baseline is speculators.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path

from draftsmith import wiring
from draftsmith.client.replay import Reply, Request
from draftsmith.contract.config import Config
from draftsmith.engines.base import CaptureSpec, Command, Server, ServerSpec
from draftsmith.engines.vllm.engine import VllmEngine
from draftsmith.kit.files import private_dir, read_json
from draftsmith.kit.hardware import describe
from draftsmith.trainers.target import read_target
from draftsmith.work import states
from draftsmith.work.subprocess import environment

WARM_ROWS = 8
STOCK = "ExampleHiddenStatesConnector"


class Stock(VllmEngine):
    """The same engine with vLLM's own connector and its default graphs."""

    def command(self, spec: ServerSpec) -> Command:
        """The usual command, with what Draftsmith changed put back."""
        command = super().command(spec)
        argv = [word for word in command.argv if word != "--enforce-eager"]
        place = argv.index("--kv-transfer-config") + 1
        transfer = json.loads(argv[place])
        transfer["kv_connector_extra_config"]["use_synchronization_lock"] = True
        if self.installed(spec)[0].device != "cpu":
            transfer["kv_connector"] = STOCK
            del transfer["kv_connector_module_path"]
        argv[place] = json.dumps(transfer)
        return Command(argv=tuple(argv), env=command.env)


def plain(data: Path, rows: int, server: Server, folder: Path, concurrency: int) -> None:
    """speculators' own client, in a process of its own."""
    command = [
        *(sys.executable, "-m", "speculators", "generate-offline-data", "--endpoint", f"{server.url}/v1"),
        *("--preprocessed-data", str(data), "--output", str(folder), "--max-samples", str(rows)),
        *("--concurrency", str(concurrency), "--fail-on-error"),
    ]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    if done.returncode:
        sys.exit(f"speculators stopped: {(done.stdout + done.stderr)[-3000:]}")


def ours(ids: list[list[int]], server: Server, folder: Path, concurrency: int) -> None:
    """What the capture job does with rows that have their answers."""
    requests = (Request(str(n), prompt_token_ids=row, max_tokens=1) for n, row in enumerate(ids))
    states.capture(requests, server, folder, concurrency, _refuse)


def _refuse(reply: Reply) -> None:
    if reply.record.error is not None:
        sys.exit(f"a row was not captured: {reply.record.error}")


def speed(folder: Path, lengths: int, rows: int) -> float:
    """Tokens/s by the times of the files. `lengths`: tokens of all rows."""
    times = sorted(path.stat().st_mtime for path in folder.glob("*.safetensors"))
    if len(times) != rows:
        sys.exit(f"{len(times)} of {rows} rows were captured")
    return lengths * (rows - 1) / rows / (times[-1] - times[0])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--target", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=800)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--kv-gib", type=float, help="the server's KV cache, where other work shares the GPU")
    options = parser.parse_args()

    from datasets import load_from_disk

    data = options.run / "phases" / "train" / "training" / "data"
    dataset = load_from_disk(str(data))
    ids = [[int(token) for token in row] for row in dataset[: options.rows]["input_ids"]]
    tokens = sum(map(len, ids))
    taken = read_json(options.run / "phases" / "train" / "plan.json")["layer_ids"]
    layers = (*taken, read_target(options.target).num_layers)
    config = Config.model_validate({"target": str(options.target), "engine": {"gpu_kv_gib": options.kv_gib}})
    concurrency = config.engine.max_num_seqs
    pairs = []
    with tempfile.TemporaryDirectory() as place:
        work = Path(place)
        registry = private_dir(work / "processes")
        engines = {"speculators": Stock(registry), "draftsmith": VllmEngine(registry)}
        clients = {"speculators": partial(plain, data, len(ids)), "draftsmith": partial(ours, ids)}
        servers: dict[str, Server] = {}
        try:
            for name, engine in engines.items():
                capture = CaptureSpec(layer_ids=layers, storage=str(private_dir(work / f"incoming-{name}")))
                spec = wiring.server_spec(config, str(options.target), capture=capture, eager=True, residents=2)
                servers[name] = engine.start(spec, work / "servers")
            for name, engine in engines.items():
                engine.wait_ready(servers[name], config.engine.start_timeout_s)
            ours(ids[:WARM_ROWS], servers["draftsmith"], private_dir(work / "warm"), concurrency)
            for number in range(options.rounds):
                speeds = {}
                for name, client in clients.items():
                    folder = private_dir(work / name)
                    client(servers[name], folder, concurrency)
                    speeds[name] = speed(folder, tokens, len(ids))
                    shutil.rmtree(folder)
                pairs.append(speeds["draftsmith"] / speeds["speculators"])
                shown = ", ".join(f"{name} {value:,.0f}" for name, value in speeds.items())
                print(f"round {number + 1}: {shown} tokens/s, ratio {pairs[-1]:.2f}", flush=True)
        finally:
            for name, server in servers.items():
                engines[name].stop(server)
    print(
        f"median ratio {statistics.median(pairs):.2f} ({min(pairs):.2f} to {max(pairs):.2f}): {len(ids)} rows, "
        f"{tokens:,} tokens, {concurrency} in flight, {describe()}"
    )


if __name__ == "__main__":
    main()

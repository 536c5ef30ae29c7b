"""The whole loop on a real Slurm with the real engine and trainer, disturbed while it runs.

    .ci/slurm.sh start /tmp/one-node && export SLURM_CONF=/tmp/one-node/slurm.conf
    python benchmarks/slurm_loop.py --target MODEL --log access.jsonl FOLDER [--calm]

    corpus    slurmctld is stopped, and started again when the job has ended
    capture   scancel of the job; the same command goes on
    train     scontrol requeue of the job
    compare   kill -9 of Draftsmith; the same command adopts the job

Prints one JSON value: how it ended, what was submitted how often, and what was left running. Needs the right to stop
slurmctld: the one-node Slurm of the tests, not a cluster. As short as tests/loop/test_real_engine.py: no verdict counts.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

CI = Path(__file__).parents[1] / ".ci" / "slurm.sh"
PHASES = ("profile", "corpus", "capture", "train", "compare", "publish")
CONFIG = """\
target = "{target}"
profile = "{log}"
workspace = "{folder}/workspace"
[engine]
max_model_len = 1024
[trainer]
epochs = 2
batch_tokens = 1024
min_position0 = 0.05
[compare]
k_values = [3]
prompts = 6
tuning_prompts = 4
general_prompts = 2
ngram = false
blocks = 1
restart_every = 0
thresholds = {{ max_blocks = 1 }}
[backend.options]
cpus = 2
poll_s = 1
settle_s = 10
export = "PATH,PYTHONPATH,HOME"
"""
# What the job of a phase shows while it is in the middle of its work.
MIDDLE = {"corpus": "", "capture": "capturing", "train": "training", "compare": "measuring"}
SBATCH = '#!/bin/sh\ncase "$*" in *--test-only*) ;; *) echo "$*" >> {folder}/submitted ;; esac\nexec {real} "$@"\n'
LIMIT_S = 3600.0


def tell(*argv: str) -> str:
    return subprocess.run(argv, check=True, capture_output=True, text=True).stdout


def until(condition: Callable[[], Any], text: str) -> None:
    end = time.monotonic() + LIMIT_S
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"waited in vain for {text}")
        time.sleep(0.1)


class Operator:
    """Gives the command, and disturbs what it started."""

    def __init__(self, folder: Path, target: Path, log: Path) -> None:
        self.folder, self.ends, self.notes = folder, [], dict[str, str]()
        (folder / "bin").mkdir(parents=True)
        wrapper = folder / "bin" / "sbatch"
        wrapper.write_text(SBATCH.format(folder=folder, real=shutil.which("sbatch")))
        wrapper.chmod(0o755)
        (folder / "draftsmith.toml").write_text(CONFIG.format(target=target, log=log, folder=folder))
        self.process = self.start()

    ends: list[int]

    def start(self) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "draftsmith", "run", "--yes", "--backend", "slurm", "--scheduler", "slurm"]
        command += ["--i-understand-this-uses-the-cluster", "--config", str(self.folder / "draftsmith.toml")]
        env = {**os.environ, "PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}"}
        with (self.folder / "said").open("a") as log:
            return subprocess.Popen(command, env=env, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)

    def end(self) -> int:
        self.ends.append(self.process.wait(LIMIT_S))
        return self.ends[-1]

    @property
    def run(self) -> Path:
        return next(self.folder.glob("workspace/runs/*"))

    def events(self) -> list[dict[str, Any]]:
        return [json.loads(path.read_text()) for path in sorted(self.folder.glob("workspace/runs/*/journal/0*.json"))]

    def stage(self, phase: str) -> str:
        try:
            return str(json.loads((self.run / "phases" / phase / "progress.json").read_text())["stage"])
        except (OSError, ValueError, StopIteration):
            return ""

    def job(self, phase: str) -> str:
        note = json.loads((self.run / "phases" / phase / "job.json").read_text())
        return str(note["handle"]).split("@")[0]

    def in_the_middle(self, phase: str) -> None:
        def there() -> bool:
            if self.process.poll() is not None:
                raise RuntimeError(f"it ended with {self.process.returncode}: {(self.folder / 'said').read_text()}")
            submitted = any(e["kind"] == "submitted" and e["phase"] == phase for e in self.events())
            return submitted and self.running(phase) and self.stage(phase).startswith(MIDDLE[phase])

        until(there, f"{phase}: {MIDDLE[phase]}")
        self.notes[phase] = self.stage(phase) or "started"

    def running(self, phase: str) -> bool:
        return (self.run / "phases" / phase / "slurm_job_id").exists()

    def disturb(self, slurm: Path) -> None:
        self.in_the_middle("corpus")
        tell(str(CI), "stop-controller", str(slurm))
        until(lambda: (self.run / "phases" / "corpus" / "exit_code").exists(), "the end of corpus without slurmctld")
        subprocess.run([str(CI), "start-controller", str(slurm)], check=True, stdout=subprocess.DEVNULL)
        self.in_the_middle("capture")
        tell("scancel", self.job("capture"))
        self.end()
        self.process = self.start()
        self.in_the_middle("train")
        tell("scontrol", "requeue", self.job("train"))
        self.in_the_middle("compare")
        self.process.send_signal(signal.SIGKILL)
        self.end()
        self.process = self.start()

    def told(self, began: float) -> dict[str, Any]:
        events = self.events()
        compare = next((e for e in events if e["kind"] == "phase_done" and e["phase"] == "compare"), None)
        lines = (self.folder / "submitted").read_text().split("\n")
        left = [p.pid for p in psutil.process_iter(["cmdline"]) if str(self.run) in " ".join(p.info["cmdline"] or [])]
        return {
            "exit_codes": self.ends,
            "disturbed_at": self.notes,
            "submitted": Counter(Path(line.split()[-1]).parent.name for line in lines if line),
            "adopted": [event["phase"] for event in events if event["kind"] == "adopted"],
            "done": {e["phase"]: e["data"]["headline"] for e in events if e["kind"] == "phase_done"},
            "verdict": compare["data"]["result"]["figures"] if compare else None,
            "queue": tell("squeue", "-h").split("\n")[:-1],
            "left_running": left,
            "wall_s": round(time.monotonic() - began, 1),
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--target", type=Path, required=True)
    parser.add_argument("--log", type=Path, required=True)
    parser.add_argument("--calm", action="store_true", help="without disturbances")
    given = parser.parse_args()
    began = time.monotonic()
    operator = Operator(given.folder.resolve(), given.target.resolve(), given.log.resolve())
    if not given.calm:
        operator.disturb(Path(os.environ["SLURM_CONF"]).parent)
    operator.end()
    json.dump(operator.told(began), sys.stdout, indent=2)
    print()


if __name__ == "__main__":
    main()

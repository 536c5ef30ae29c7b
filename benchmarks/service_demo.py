"""The service on this machine, from nothing, under load of a client that is not ours; a timeline of what happened.

    python benchmarks/service_demo.py [FOLDER] [--rate 1.0] [--client vllm|plain] [--set section.key=value ...]

A managed SmolLM2 is served without a draft. `vllm bench serve` asks it without a pause: bookings first. The controller trains a
first draft, compares it, and gives it live traffic share by share. Then the traffic turns to word problems: acceptance falls, the
controller steps back, trains on the new traffic with a share of the old, and promotes. At the end an operator switches the standing
configuration to the former draft and back, which is done in the running engine (`hot_swap`).

FOLDER/timeline.svg shows time per output token, acceptance length, share and acts; FOLDER/timeline.jsonl holds the samples. The
last line says how many requests were sent, and how many failed. Exit code 1 if one did, or if a stage did not come.
"""

from __future__ import annotations

import argparse
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx

from draftsmith import api
from draftsmith.api.demos import MODEL
from draftsmith.api.precision import precision_flags
from draftsmith.engines.base import free_port
from draftsmith.kit.files import private_dir
from draftsmith.traffic.demo import demo_prompts

# What the command `vllm bench serve` does; the command itself does not start with the CPU build.
THEIR_CLIENT = """
from vllm.benchmarks.serve import add_cli_args, main
from vllm.utils.argparse_utils import FlexibleArgumentParser
parser = FlexibleArgumentParser()
add_cli_args(parser)
main(parser.parse_args())
"""
SETTINGS: dict[str, dict[str, Any]] = {
    "engine": {"max_model_len": 1024, "cpu_kv_gib": 1.0},
    "trainer": {"epochs": 4},
    "compare": {"k_values": [3], "prompts": 12, "general_prompts": 12, "ngram": False, "tuning_prompts": 6},
    "controller": {
        "mode": "auto", "every_s": 2.0, "window_s": 60.0, "window_requests": 60, "drift_windows": 2, "min_requests": 200,
        "cooldown_s": 30.0, "runs_per_day": 8, "shares": [25, 50, 100], "share_s": 20.0, "share_requests": 20,
        "fallback_after_s": 20.0, "fallback_requests": 10, "fallback_hold_s": 900.0, "changes_per_hour": 30,
        "replay_share": 0.2, "min_free_gib": 2.0,
    },
    "serving": {"kind": "managed"},
}  # fmt: skip
BATCH = 40  # requests of one start of the client


class Load:
    """The client, start after start, until told to stop. `kind` may be changed at any time."""

    def __init__(self, folder: Path, url: str, target: Path, rate: float, client: str) -> None:
        self.folder, self.url, self.target, self.rate, self.client = folder, url, target, rate, client
        self.kind, self.sent, self.failed, self.starts = "booking", 0, 0, 0
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._work, daemon=True)
        prompts = demo_prompts(1200)
        for kind in ("booking", "math"):
            lines = [
                json.dumps(
                    {
                        "prompt": "\n\n".join(m["content"] for m in prompt["messages"]),
                        "output_tokens": prompt["max_tokens"],
                    }
                )
                for prompt in prompts
                if prompt["route"] == kind
            ]
            (folder / f"{kind}.jsonl").write_text("\n".join(lines) + "\n")

    def _work(self) -> None:
        while not self.stop.is_set():
            (self._theirs if self.client == "vllm" else self._plain)()

    def _theirs(self) -> None:
        self.starts += 1
        out = self.folder / "client" / f"{self.starts:04d}.json"
        private_dir(out.parent)
        command = [
            sys.executable, "-c", THEIR_CLIENT, "--backend", "openai-chat", "--base-url", self.url,
            "--endpoint", "/v1/chat/completions", "--model", str(self.target), "--served-model-name", "target",
            "--dataset-name", "custom", "--dataset-path", str(self.folder / f"{self.kind}.jsonl"), "--skip-chat-template",
            "--custom-output-len", "-1", "--num-prompts", str(BATCH), "--request-rate", str(self.rate),
            "--seed", str(self.starts), "--temperature", "0", "--save-result", "--result-dir", str(out.parent),
            "--result-filename", out.name, "--disable-tqdm", "--ready-check-timeout-sec", "0",
        ]  # fmt: skip
        with out.with_suffix(".log").open("w") as log:
            subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, check=False)
        try:
            content = json.loads(out.read_text())
        except (OSError, ValueError):
            self.failed += BATCH
            return
        self.sent += BATCH
        self.failed += BATCH - int(content["completed"])

    def _plain(self) -> None:
        """One request after the other, for a machine without that client."""
        lines = (self.folder / f"{self.kind}.jsonl").read_text().splitlines()
        item = json.loads(lines[self.sent % len(lines)])
        message = {"role": "user", "content": item["prompt"]}
        body = {"model": "target", "messages": [message], "max_tokens": item["output_tokens"], "temperature": 0}
        try:
            answer = httpx.post(f"{self.url}/v1/chat/completions", json=body, timeout=300, trust_env=False)
            self.failed += answer.status_code != httpx.codes.OK
        except httpx.HTTPError:
            self.failed += 1
        self.sent += 1
        self.stop.wait(1 / self.rate)


class Demo:
    """The stages, one after the other, with a sample of the service every few seconds."""

    def __init__(self, request: argparse.Namespace) -> None:
        self.folder = private_dir(Path(request.folder).resolve())
        self.target = Path(request.target).resolve() if request.target else api.demo_target(self.folder / MODEL)
        self.port = free_port()
        self.patience_s, self.began = request.patience * 60, time.time()
        log = private_dir(self.folder / "traffic")
        serving = {
            "endpoint": f"http://127.0.0.1:{self.port}",
            "options": {"record_to": str(log), "drain_s": 120, "hot_swap": request.hot_swap}
            if request.record
            else {"drain_s": 120},
        }
        sections = {name: dict(values) for name, values in SETTINGS.items()}
        sections["serving"] |= serving
        sections["engine"]["flags"] = list(precision_flags())
        lines = [f"target = {json.dumps(str(self.target))}", f"profile = {json.dumps(request.profile or str(log))}"]
        lines.append(f"workspace = {json.dumps(str(self.folder / 'workspace'))}")
        for name, values in sections.items():
            lines += [f"[{name}]", *(f"{key} = {_toml(value)}" for key, value in values.items())]
        self.file = self.folder / "draftsmith.toml"
        self.file.write_text("\n".join(lines) + "\n")
        self.settings = [word for setting in request.settings for word in ("--set", setting)]
        self.config = api.configure(self.file, settings=request.settings)
        self.load = Load(self.folder, f"http://127.0.0.1:{self.port}", self.target, request.rate, request.client)
        self.samples = (self.folder / "timeline.jsonl").open("w")

    def command(self, *words: str) -> list[str]:
        return [sys.executable, "-m", "draftsmith", "controller", *words, "--config", str(self.file), *self.settings]

    def run(self) -> int:
        """All of it. Returns the exit code."""
        controller = subprocess.Popen(self.command(), stdout=(self.folder / "controller.log").open("w"))
        missed = ""
        try:
            stages: list[tuple[str, Callable[[], None], Callable[[list[str]], bool]]] = [
                ("it serves", lambda: None, lambda acts: "repair" in acts),
                ("a first draft is promoted", self.load.thread.start, lambda acts: "promote" in acts),
                ("it steps back", lambda: setattr(self.load, "kind", "math"), lambda acts: "fall_back" in acts),
                ("the next draft is promoted", lambda: None, lambda acts: acts.count("promote") >= 2),
                ("the former draft is swapped in", self.swap, lambda acts: acts.count("adopt") >= 2),
                ("and back", self.swap, lambda acts: acts.count("adopt") >= 3),
            ]
            for name, begin, done in stages:
                begin()
                print(f"{self.minutes():5.1f} min  waiting: {name}", flush=True)
                if not self.wait(done, controller):
                    missed = name
                    break
            self.wait(lambda acts: False, controller, 20)
        finally:
            self.load.stop.set()
            if self.load.thread.is_alive():
                self.load.thread.join(300)
            controller.terminate()
            controller.wait(120)
            subprocess.run(self.command("down"), check=False)
        self.picture()
        print(api.controller_story(self.config))
        if missed:
            print(f"did not come in time: {missed}")
        print(f"{self.load.sent} requests, {self.load.failed} failed, {self.minutes():.0f} minutes")
        return 1 if missed or self.load.failed else 0

    def minutes(self) -> float:
        return (time.time() - self.began) / 60

    def swap(self) -> None:
        """An operator puts the other one of the last two drafts in place, by hand."""
        promoted = [event.data["config"] for event in api.controller_log(self.config) if event.data.get("promoted")]
        place = self.folder / "workspace" / "standing.json"
        now = json.loads(place.read_text())
        other = next((config for config in reversed(promoted) if config != now), now)
        place.write_text(json.dumps(other))

    def wait(
        self, done: Callable[[list[str]], bool], controller: subprocess.Popen[bytes], seconds: float = 0.0
    ) -> bool:
        deadline = time.time() + (seconds or self.patience_s)
        while time.time() < deadline and controller.poll() is None:
            view = api.controller_view(self.config)
            acts = [e.data["act"]["kind"] for e in api.controller_log(self.config) if e.kind == "effect"]
            live = view.seen.live if view.seen else None
            rollout = view.memory.rollout
            sample = {
                "at_s": time.time() - self.began, "state": view.state, "kind": self.load.kind, "sent": self.load.sent,
                "failed": self.load.failed, "share": rollout.share if rollout else None,
                "al": live.acceptance_length if live else None, "tpot_s": live.tpot_s if live else None,
            }  # fmt: skip
            self.samples.write(json.dumps(sample) + "\n")
            self.samples.flush()
            if done(acts):
                return True
            time.sleep(3)
        return False

    def picture(self) -> None:
        """timeline.svg, from the samples and the journal."""
        import matplotlib

        matplotlib.use("svg")
        import matplotlib.pyplot as plt

        rows = [json.loads(line) for line in (self.folder / "timeline.jsonl").read_text().splitlines()]
        figure, axes = plt.subplots(3, 1, figsize=(11, 7), sharex=True)
        minutes = [row["at_s"] / 60 for row in rows]
        shown = (
            ("tpot_s", "time per output token, ms", 1000),
            ("al", "acceptance length", 1),
            ("share", "share of new side, %", 1),
        )
        for axis, (key, label, factor) in zip(axes, shown, strict=True):
            axis.plot(minutes, [None if row[key] is None else row[key] * factor for row in rows], ".", markersize=3)
            axis.set_ylabel(label)
        for event in api.controller_log(self.config):
            if event.kind == "effect":
                at = (event.at_unix_s - self.began) / 60
                for axis in axes:
                    axis.axvline(at, linewidth=0.5, color="grey")
                axes[0].annotate(event.data["act"]["kind"].replace("_", " "), (at, 1.0), xycoords=("data", "axes fraction"),
                                 rotation=60, fontsize=7)  # fmt: skip
        axes[-1].set_xlabel("minutes")
        figure.savefig(self.folder / "timeline.svg", bbox_inches="tight")


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(item)}" for key, item in value.items()) + " }"
    return json.dumps(value)


def main() -> None:
    """See the top of this file."""
    parser = argparse.ArgumentParser(description="the service on this machine, under load, with a timeline")
    parser.add_argument("folder", nargs="?", default="service-demo")
    parser.add_argument("--target", help="folder of a target; default: the demo's, built here")
    parser.add_argument("--rate", type=float, default=1.0, help="requests a second")
    parser.add_argument("--client", choices=("vllm", "plain"), default="vllm")
    parser.add_argument("--patience", type=float, default=25.0, help="minutes for one stage, at most")
    parser.add_argument("--set", dest="settings", action="append", default=[], help="override one setting")
    parser.add_argument("--profile", help="traffic, where the engines do not record it")
    parser.add_argument("--no-record", dest="record", action="store_false")
    parser.add_argument("--no-hot-swap", dest="hot_swap", action="store_false")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # as Ctrl-C does: what serves is ended too
    sys.exit(Demo(parser.parse_args()).run())


if __name__ == "__main__":
    main()

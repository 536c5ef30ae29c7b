"""deploy/gpu/sglang.sh against the stand-ins: its arms are started, and what it says is what was measured."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from comparison_world import SOURCE, Bench
from safetensors.numpy import load_file, save_file

from draftsmith.trainers.target import read_target
from draftsmith.trainers.untrained import write_untrained

pytestmark = [pytest.mark.story, pytest.mark.timed]

SCRIPT = SOURCE.parent / "deploy" / "gpu" / "sglang.sh"
SMALL = {
    "engine.max_model_len": 512, "engine.max_num_seqs": 8, "engine.counters_pause_s": 0.01, "compare.general_prompts": 0,
    "compare.contention.repeats": 0, "compare.prompts": 4, "compare.thresholds.max_blocks": 1, "compare.tuning_prompts": 0,
}  # fmt: skip


@pytest.fixture
def bench(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Bench:
    made = Bench(tmp_path, tmp_path_factory.getbasetemp(), monkeypatch)
    made.env["FAKE_VLLM"] = json.dumps({"step_ms": 4, "first_ms": 6, "acceptance": {"eagle3": 0.9}})
    return made


def draft(bench: Bench) -> Path:
    """One that passes lint: with the target's own embeddings."""
    folder = write_untrained(read_target(bench.target), bench.base / "draft", (1, 2, 3), 64)
    weights = load_file(folder / "model.safetensors")
    embeddings = load_file(bench.target / "model.safetensors")["model.embed_tokens.weight"]
    weights["embed_tokens.weight"] = embeddings.astype(weights["embed_tokens.weight"].dtype)
    save_file(weights, folder / "model.safetensors")
    return folder


def run(bench: Bench, **said: str) -> str:
    words = {"MODEL": bench.target, "DRAFT": draft(bench), "PROMPTS": bench.prompts, "SGLANG": bench.python}
    words |= {"DRAFTSMITH": f"{sys.executable} -m draftsmith"}
    extra = " ".join(f"--set {name}={value}" for name, value in SMALL.items())
    env = {**os.environ, **bench.environment(), "OUT": str(bench.base / "out"), "BLOCKS": "1", "EXTRA": extra, **said}
    env |= {name: str(value) for name, value in words.items()}
    done = subprocess.run(["bash", SCRIPT], env=env, capture_output=True, text=True, check=False, cwd=bench.base)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def test_all_arms_of_sglang_are_compared(bench: Bench) -> None:
    (bench.base / "earlier.jsonl").write_text(json.dumps("an answer of long ago") + "\n")
    said = run(bench, CORPUS="earlier.jsonl", ADAPTIVE="1", ONLY="alone")
    plan = json.loads((bench.base / "out" / "alone" / "plan-frozen.json").read_text())
    assert [arm["name"] for arm in plan["arms"]] == ["plain", "ngram", "eagle3", "corpus", "adaptive"]
    assert re.search(r"^  adaptive +at c1: median TPOT .*, AL \d", said, re.MULTILINE)
    assert "set aside" not in said


def test_servers_that_run_are_compared_and_ended(bench: Bench) -> None:
    said = run(bench, ONLY="running")
    assert re.search(r"^  eagle3 +at c1: median TPOT .*, AL \d", said, re.MULTILINE)
    kept = json.loads((bench.base / "out" / "running-1.server_info").read_text())
    assert kept["speculative_algorithm"] == "EAGLE3"
    assert bench.servers() == []

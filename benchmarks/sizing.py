"""How large a target may be: capture and training speed, memory and bytes of hidden states, by shape of the target.

    python benchmarks/sizing.py train   --shape 8b --method eagle3 --tokenizer FOLDER --out DIR
    python benchmarks/sizing.py capture --shape 8b --tokenizer FOLDER --out DIR

Nothing is downloaded: a Llama of the shape is initialised at random, for the capture inside the engine (`--load-format dummy`),
for the training only its embeddings, output head and final norm, which is all that a trainer reads. Hidden states of the training
are random as well. Speeds and memory do not depend on the values; acceptance does, and is not measured here.
FOLDER of --tokenizer is any model folder with tokenizer.json. One JSON line of results is printed and appended to DIR/sizing.jsonl.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from draftsmith import wiring
from draftsmith.client.replay import Request
from draftsmith.contract.config import Config, TrainerConfig
from draftsmith.engines.base import CaptureSpec
from draftsmith.engines.vllm.engine import VllmEngine
from draftsmith.kit import gpu, hardware
from draftsmith.kit.files import append_line, private_dir, read_lines, write_json
from draftsmith.trainers.base import TrainingTask
from draftsmith.trainers.layers import default_layers
from draftsmith.trainers.speculators import SpeculatorsTrainer
from draftsmith.work import states
from draftsmith.work.subprocess import environment

ANSWER_SHARE = 0.5
DISTINCT_FILES = 4
LOOK_S = 0.2


@dataclass(frozen=True)
class Shape:
    """A Llama by its sizes."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    inner: int
    vocab: int
    draft_vocab: int
    tied: bool


SHAPES = {
    "tiny": Shape(64, 8, 4, 2, 128, 49152, 512, True),
    "135m": Shape(576, 30, 9, 3, 1536, 49152, 4096, True),
    "1b": Shape(2048, 16, 32, 8, 8192, 128256, 16384, True),
    "8b": Shape(4096, 32, 32, 8, 14336, 128256, 32000, False),
}


def write_folder(shape: Shape, folder: Path, tokenizer: Path) -> Path:
    """config.json and tokenizer: enough for an engine that fills in the weights itself."""
    private_dir(folder)
    write_json(
        folder / "config.json",
        {
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": shape.hidden,
            "num_hidden_layers": shape.layers,
            "num_attention_heads": shape.heads,
            "num_key_value_heads": shape.kv_heads,
            "head_dim": shape.hidden // shape.heads,
            "intermediate_size": shape.inner,
            "vocab_size": shape.vocab,
            "max_position_embeddings": 8192,
            "rope_theta": 500000.0,
            "rms_norm_eps": 1e-5,
            "hidden_act": "silu",
            "tie_word_embeddings": shape.tied,
            "torch_dtype": "bfloat16",
            "bos_token_id": 0,
            "eos_token_id": 0,
        },
    )
    for name in ("tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"):
        if (tokenizer / name).exists():
            shutil.copy(tokenizer / name, folder / name)
    return folder


def write_ends(shape: Shape, folder: Path) -> None:
    """Embeddings, output head and final norm: what a trainer reads of its target."""
    import torch
    from safetensors.torch import save_file

    tensors = {"model.embed_tokens.weight": torch.randn(shape.vocab, shape.hidden, dtype=torch.bfloat16) * 0.02}
    if not shape.tied:
        tensors["lm_head.weight"] = torch.randn(shape.vocab, shape.hidden, dtype=torch.bfloat16) * 0.02
    tensors["model.norm.weight"] = torch.ones(shape.hidden, dtype=torch.bfloat16)
    save_file(tensors, folder / "model.safetensors")


def write_data(shape: Shape, folder: Path, rows: int, length: int) -> None:
    """A data set of random rows; their hidden states are links to a few files."""
    import torch
    from datasets import Dataset
    from safetensors.torch import save_file

    shutil.rmtree(folder, ignore_errors=True)
    (folder / "hidden_states").mkdir(parents=True)
    ids = torch.randint(1, shape.draft_vocab, (DISTINCT_FILES, length))
    for number in range(DISTINCT_FILES):
        held = torch.randn(length, 4, shape.hidden, dtype=torch.bfloat16)
        save_file({"hidden_states": held, "token_ids": ids[number].clone()}, folder / f"states-{number}.safetensors")
    data = []
    for row in range(rows):
        number = row % DISTINCT_FILES
        os.symlink(folder / f"states-{number}.safetensors", folder / "hidden_states" / f"hs_{row}.safetensors")
        prompt = int(length * (1 - ANSWER_SHARE))
        mask = [0] * prompt + [1] * (length - prompt)
        data.append({"input_ids": ids[number].tolist(), "loss_mask": mask, "seq_len": length})
    Dataset.from_list(data).with_format("torch").save_to_disk(folder)


class Peak:
    """The most memory in use on the GPUs beside what was in use before, in GiB."""

    def __init__(self) -> None:
        self.before = self.now()
        self.most = self.before
        self.end = threading.Event()
        self.thread = threading.Thread(target=self.watch, daemon=True)

    @staticmethod
    def now() -> float:
        return sum(reading.get("memory_gib", 0.0) for reading in gpu.read())

    def watch(self) -> None:
        while not self.end.wait(LOOK_S):
            self.most = max(self.most, self.now())

    def __enter__(self) -> Peak:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.end.set()
        self.thread.join()

    @property
    def gib(self) -> float:
        return round(self.most - self.before, 2)


def train(options: argparse.Namespace, shape: Shape, out: Path) -> dict[str, Any]:
    """A few steps of the trainer as Draftsmith runs it, or plain (`--plain`)."""
    import numpy as np

    target = write_folder(shape, out / f"target-{options.shape}", options.tokenizer)
    if not (target / "model.safetensors").exists():
        write_ends(shape, target)
    work = private_dir(out / f"train-{options.shape}-{options.method}")
    shutil.rmtree(work / "checkpoints", ignore_errors=True)
    (work / "metrics.jsonl").unlink(missing_ok=True)
    rows = (options.steps + 2) * options.batch // options.length
    write_data(shape, work / "data", rows + 1, options.length)
    vocabulary = private_dir(work / "vocabulary")
    np.save(vocabulary / "d2t.npy", np.zeros(shape.draft_vocab, dtype=np.int64))
    np.save(vocabulary / "t2d.npy", np.arange(shape.vocab) < shape.draft_vocab)
    config = TrainerConfig(method=options.method, epochs=1, batch_tokens=options.batch, min_position0=-1.0)
    task = TrainingTask(
        target=str(target),
        corpus=str(work),
        states=str(work),
        workdir=str(work),
        layer_ids=default_layers(shape.layers),
        draft_vocab=shape.draft_vocab,
        train_rows=rows,
        validation_rows=1,
        longest_row=options.length,
        train_tokens=rows * options.length,
        answer_tokens=int(rows * options.length * ANSWER_SHARE),
        target_layers=shape.layers,
        mask_token=0,
    )
    trainer = SpeculatorsTrainer(config, sys.executable)
    own, trainer_flags = split(list(trainer.arguments(task)))
    if options.plain:
        own += ["--forward", "stock", "--freeze-head"]
    trainer_flags[trainer_flags.index("--log-freq") + 1] = "1"
    command = [sys.executable, "-m", "draftsmith.work.inside.train_speculators", *own, "--", *trainer_flags]
    command += ["--max-steps", str(options.steps)]
    began = time.monotonic()
    with Peak() as peak, (work / "log").open("w") as log:
        done = subprocess.run(
            command, stdout=log, stderr=subprocess.STDOUT, env=environment(), timeout=options.timeout, check=False
        )
    records = (
        [json.loads(line) for line in read_lines(work / "metrics.jsonl")] if trainer.metrics(task).exists() else []
    )
    speeds = [record["profile"]["tokens_per_s"] for record in records if "train" in record and record.get("profile")]
    weights = sum(file.stat().st_size for file in (work / "checkpoints").rglob("model*.safetensors"))
    result = {
        "exit": done.returncode,
        "steps": len(speeds),
        "tokens_per_s": round(statistics.median(speeds[2:]), 1) if len(speeds) > 2 else None,
        "batch_tokens": options.batch,
        "peak_gib": peak.gib,
        "draft_gib": round(weights / 2**30, 3),
        "settings": trainer.shown(task),
        "plain": options.plain,
        "wall_s": round(time.monotonic() - began, 1),
    }
    if done.returncode:
        result["log_end"] = (work / "log").read_text(errors="replace")[-1500:]
    shutil.rmtree(work, ignore_errors=True)
    return result


def split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """The launcher's own flags, and those of speculators."""
    middle = arguments.index("--")
    return arguments[:middle], arguments[middle + 1 :]


def capture(options: argparse.Namespace, shape: Shape, out: Path) -> dict[str, Any]:
    """Hidden states of random prompts from a server of the shape."""
    import numpy as np

    target = write_folder(shape, out / f"engine-{options.shape}", options.tokenizer)
    folder = private_dir(out / f"states-{options.shape}")
    layers = (*default_layers(shape.layers), shape.layers)
    config = Config.model_validate(
        {
            "target": str(target),
            "engine": {
                "max_model_len": options.length + 8,
                "gpu_memory_share": options.share,
                "gpu_kv_gib": options.kv_gib,
            },
        }
    )
    spec = wiring.server_spec(
        config,
        str(target),
        capture=CaptureSpec(layer_ids=layers, storage=str(folder / "incoming")),
        flags=("--load-format", "dummy"),
        eager=True,
    )
    engine = VllmEngine(private_dir(out / "processes"))
    rng = np.random.default_rng(0)
    highest = min(shape.vocab, 40_000)
    began = time.monotonic()
    failed: list[str] = []
    with Peak() as peak:
        server = engine.start(spec, out / "servers")
        try:
            engine.wait_ready(server, options.timeout)
            start_s = time.monotonic() - began
            while options.after and not options.after.exists():
                time.sleep(LOOK_S)
            for count in (4, options.rows):  # the first few are a warm-up
                requests = [
                    Request(
                        f"r{count}-{n}",
                        prompt_token_ids=rng.integers(1, highest, options.length).tolist(),
                        max_tokens=1,
                    )
                    for n in range(count)
                ]
                failed.clear()
                began = time.monotonic()
                states.capture(
                    iter(requests),
                    server,
                    folder,
                    32,
                    lambda reply: failed.append(reply.record.error) if reply.record.error else None,
                )
                wall_s = time.monotonic() - began
        finally:
            engine.stop(server)
    files = list(folder.glob("*.safetensors"))
    size = sum(file.stat().st_size for file in files)
    tokens = len(files) * options.length
    shutil.rmtree(folder, ignore_errors=True)
    return {
        "tokens_per_s": round(options.rows * options.length / wall_s, 1),
        "rows": options.rows,
        "failed": len(failed),
        "bytes_per_token": round(size / tokens, 1) if tokens else None,
        "expected_bytes_per_token": 2 * len(layers) * shape.hidden,
        "peak_gib": peak.gib,
        "start_s": round(start_s, 1),
    }


def main() -> None:
    """Parse, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=["train", "capture"])
    parser.add_argument("--shape", choices=SHAPES, required=True)
    parser.add_argument("--method", choices=["eagle3", "dflash"], default="eagle3")
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--batch", type=int, default=8192)
    parser.add_argument("--length", type=int, default=1024, help="tokens of a row")
    parser.add_argument("--rows", type=int, default=96, help="rows that are captured")
    parser.add_argument("--share", type=float, default=None, help="of the GPU's memory for the capture server")
    parser.add_argument("--kv-gib", type=float, default=None, help="its KV cache, where other work shares the GPU")
    parser.add_argument("--after", type=Path, help="start the server, but capture only once this file is there")
    parser.add_argument("--plain", action="store_true", help="speculators' own forward and frozen head")
    parser.add_argument("--timeout", type=float, default=240.0)
    options = parser.parse_args()
    out = private_dir(options.out.resolve())
    shape = SHAPES[options.shape]
    measured = {"train": train, "capture": capture}[options.step](options, shape, out)
    line = {"what": options.step, "shape": options.shape, "hardware": hardware.describe(), **asdict(shape), **measured}
    if options.step == "train":
        line["method"] = options.method
    print(json.dumps(line), flush=True)
    append_line(out / "sizing.jsonl", json.dumps(line))


if __name__ == "__main__":
    main()

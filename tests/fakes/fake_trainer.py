"""A stand-in for the trainer's interpreter: answers what Draftsmith asks of `trainer.python`, in milliseconds.

    -c CODE                                       says that speculators is installed
    -m draftsmith.work.inside.prepare_speculators ...    makes the folder
    -m draftsmith.work.inside.train_speculators ...      writes a checkpoint and its metrics, one an epoch

FAKE_TRAINER in the environment is a JSON object: acceptance (list, by position), epoch_s (time of an epoch), exit_code,
wrong_map (true: ids where offsets belong), stopped ({reason, hint}: the watch ends it after its epochs).
A checkpoint is a well-formed EAGLE3 head for the target with random weights: every check of the folder is real.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file


def flag(argv: list[str], name: str, count: int = 1) -> list[str]:
    place = argv.index(name) + 1
    return argv[place : place + count]


def train(argv: list[str], settings: dict[str, Any]) -> None:
    target = json.loads(Path(flag(argv, "--verifier-name-or-path")[0], "config.json").read_text())
    weights = load_file(Path(flag(argv, "--verifier-name-or-path")[0], "model.safetensors"))
    embeddings = next(v for name, v in weights.items() if name.endswith("embed_tokens.weight")).astype(np.float16)
    metrics, save = Path(flag(argv, "--metrics")[0]), Path(flag(argv, "--save-path")[0])
    layers = [int(value) for value in flag(argv, "--target-layer-ids", 3)]
    d2t, t2d = (np.load(flag(argv, f"--{name}-path")[0]) for name in ("d2t", "t2d"))
    if settings.get("wrong_map"):
        d2t = np.arange(len(d2t))
    acceptance = settings.get("acceptance", [0.8, 0.6, 0.4])
    done = len(list(save.glob("*/config.json")))
    for epoch in range(done, int(flag(argv, "--epochs")[0])):
        time.sleep(settings.get("epoch_s", 0))
        checkpoint(save / str(epoch), target, embeddings, layers, d2t, t2d, epoch)
        val = {f"full_acc_{place}_epoch": value for place, value in enumerate(acceptance)} | {
            "loss_epoch": 1.0 / (epoch + 1)
        }
        with metrics.open("a") as out:
            out.write(json.dumps({"epoch": epoch, "global_step": epoch, "train": {"loss": 1.0}}) + "\n")
            out.write(json.dumps({"epoch": epoch, "val": val}) + "\n")


def checkpoint(
    folder: Path,
    target: dict[str, Any],
    embeddings: np.ndarray,
    layers: list[int],
    d2t: np.ndarray,
    t2d: np.ndarray,
    epoch: int,
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    hidden, mlp, heads = target["hidden_size"], target["intermediate_size"], target["num_attention_heads"]
    kv, size = target["num_key_value_heads"], target["head_dim"]
    shapes = {
        "embed_tokens.weight": (target["vocab_size"], hidden), "fc.weight": (hidden, len(layers) * hidden),
        "norm.weight": (hidden,), "lm_head.weight": (len(d2t), hidden), "layers.0.hidden_norm.weight": (hidden,),
        "layers.0.input_layernorm.weight": (hidden,), "layers.0.post_attention_layernorm.weight": (hidden,),
        "layers.0.self_attn.q_proj.weight": (heads * size, 2 * hidden),
        "layers.0.self_attn.k_proj.weight": (kv * size, 2 * hidden),
        "layers.0.self_attn.v_proj.weight": (kv * size, 2 * hidden),
        "layers.0.self_attn.o_proj.weight": (hidden, heads * size), "layers.0.mlp.gate_proj.weight": (mlp, hidden),
        "layers.0.mlp.up_proj.weight": (mlp, hidden), "layers.0.mlp.down_proj.weight": (hidden, mlp),
    }  # fmt: skip
    draw = np.random.default_rng(epoch)
    tensors = {name: draw.standard_normal(shape).astype(np.float16) for name, shape in shapes.items()}
    tensors["embed_tokens.weight"] = embeddings
    save_file({**tensors, "d2t": d2t, "t2d": t2d}, folder / "model.safetensors", metadata={"format": "pt"})
    layer = {
        "model_type": "llama", "hidden_size": hidden, "intermediate_size": mlp, "num_hidden_layers": 1,
        "num_attention_heads": heads, "num_key_value_heads": kv, "head_dim": size, "vocab_size": target["vocab_size"],
        "max_position_embeddings": target["max_position_embeddings"], "rms_norm_eps": 1e-5,
        "rope_parameters": target.get("rope_parameters")
        or {"rope_theta": target["rope_theta"], "rope_type": "default"},
    }  # fmt: skip
    config = {
        "architectures": ["Eagle3DraftModel"], "draft_vocab_size": len(d2t), "dtype": "float16",
        "eagle_aux_hidden_state_layer_ids": layers, "norm_before_residual": True, "transformer_layer_config": layer,
        "speculators_config": {
            "algorithm": "eagle3",
            "proposal_methods": [{"proposal_type": "greedy", "speculative_tokens": 4}],
            "verifier": {"name_or_path": "target", "architectures": target["architectures"]},
        },
        "speculators_model_type": "eagle3", "speculators_version": "0.9.0",
    }  # fmt: skip
    part = folder / "config.part"
    part.write_text(json.dumps(config))
    part.rename(folder / "config.json")


def main(argv: list[str]) -> int:
    settings = json.loads(os.environ.get("FAKE_TRAINER") or "{}")
    if argv[0] == "-c":
        print(json.dumps({"speculators": "0.9.0"} if "speculators" in argv[2:] else {}))
        return 0
    if argv[1] == "draftsmith.work.inside.prepare_speculators":
        Path(flag(argv, "--out")[0]).mkdir(parents=True, exist_ok=True)
        missing = [p for p in (Path(flag(argv, "--states")[0]),) if not list(p.glob("*.safetensors"))]
        return 1 if missing else 0
    if settings.get("exit_code"):
        return int(settings["exit_code"])
    train(argv, settings)
    if settings.get("stopped"):
        with Path(flag(argv, "--metrics")[0]).open("a") as out:
            out.write(json.dumps({"stopped": settings["stopped"]}) + "\n")
        return 3
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))

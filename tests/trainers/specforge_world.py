"""A tiny target, a corpus and captured states, for a training by SpecForge on a CPU in seconds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
from model_folders import write_target
from safetensors.numpy import save_file

LAYERS, HIDDEN, VOCAB, DRAFT_VOCAB = 12, 16, 64, 24
LAYER_IDS = (3, 6, 10)  # not the default (2, 6, 9)
PROMPT, ANSWER = 4, 12


def target(folder: Path, *, tied: bool = True) -> Path:
    """A Llama-shaped folder with what training reads: embeddings, final norm, head. One weight file and no index."""
    write_target(
        folder, vocab_size=VOCAB, num_attention_heads=4, num_key_value_heads=2, head_dim=4, intermediate_size=24,
        rms_norm_eps=1e-5, ids=VOCAB, tie_word_embeddings=tied, bos_token_id=1, pad_token_id=0,
    )  # fmt: skip
    random = np.random.default_rng(5)
    tensors = {
        "model.embed_tokens.weight": random.standard_normal((VOCAB, HIDDEN)).astype(np.float16),
        "model.norm.weight": (1 + random.random(HIDDEN)).astype(np.float16),
    }
    if not tied:
        tensors["lm_head.weight"] = random.standard_normal((VOCAB, HIDDEN)).astype(np.float16)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def corpus(folder: Path, train: int = 8, validation: int = 3) -> Path:
    """Rows of ids as the corpus phase leaves them: counting up, so that there is something to learn."""
    folder.mkdir(parents=True)
    rows = []
    for index in range(train + validation):
        start = 1 + index % 5
        ids = [(start + step) % DRAFT_VOCAB for step in range(PROMPT + ANSWER + index % 3)]
        split = "train" if index < train else "validation"
        rows.append({"id": f"r{index}", "split": split, "input_ids": ids, "prompt_tokens": PROMPT})
    pl.DataFrame(rows).write_parquet(folder / "rows.parquet")
    return folder


def states(folder: Path, corpus_folder: Path) -> Path:
    """A capture: three layers and the last, random, in float16."""
    from draftsmith.work.inside.state_names import states_path

    folder.mkdir(parents=True)
    random = np.random.default_rng(9)
    for row in pl.read_parquet(corpus_folder / "rows.parquet").iter_rows(named=True):
        ids = np.array(row["input_ids"][:-1], np.int64)
        hidden = random.standard_normal((len(ids), len(LAYER_IDS) + 1, HIDDEN)).astype(np.float16)
        save_file({"hidden_states": hidden, "token_ids": ids}, states_path(folder, row["id"]))
    return folder


def vocabulary(folder: Path) -> Path:
    """The draft knows the even tokens and their neighbours below 24: any 24 of 64, as numpy arrays."""
    folder.mkdir(parents=True)
    ids = np.array([*range(20), 31, 40, 50, 63])
    marks = np.zeros(VOCAB, bool)
    marks[ids] = True
    np.save(folder / "d2t.npy", ids - np.arange(len(ids)))
    np.save(folder / "t2d.npy", marks)
    return folder


def read_lines(path: Path) -> list[dict[str, object]]:
    """JSON lines."""
    return [json.loads(line) for line in path.read_text().split("\n") if line]

"""Job step: corpus and captured states in SpecForge's own layout. Runs in the trainer's interpreter.

    python -m draftsmith.work.inside.prepare_specforge --corpus DIR --states DIR --target DIR --vocabulary DIR --out DIR

Writes `train/` and `validation/`, a file `<row>.ckpt` each (input_ids [T], loss_mask [T], aux_hidden_state
[1, T, 3 * hidden], hidden_state [1, T, hidden]), and `vocabulary.pt` (d2t, t2d). The rows are the engine's ids without
the last one, as captured. `hidden_state` is what the target's head reads: a capture holds the stream before the final
norm, so the norm is applied here. Files are pickles because SpecForge reads nothing else; they are made and read in
the same private folder.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import Tensor

from draftsmith.work.inside.state_names import states_path

COLUMNS = ["id", "split", "input_ids", "prompt_tokens"]
NORM = "model.norm.weight"
INDEX = "model.safetensors.index.json"
LINKED = ("config.json", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json")


def prepare(corpus: Path, states: Path, target: Path, vocabulary: Path, out: Path) -> int:
    """Write the data set; returns its rows. `out` appears last, by rename, and is whole."""
    norm = FinalNorm(target)
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True, mode=0o700)
    count = 0
    for split in ("train", "validation"):
        (part / split).mkdir(mode=0o700)
        for index, row in enumerate(_rows(corpus, split)):
            torch.save(sample(row, load_file(states_path(states, row["id"])), norm), part / split / f"{index:08d}.ckpt")
            count += 1
    maps = {name: torch.from_numpy(np.load(vocabulary / f"{name}.npy")) for name in ("d2t", "t2d")}
    torch.save({"d2t": maps["d2t"].long(), "t2d": maps["t2d"].bool()}, part / "vocabulary.pt")
    shutil.rmtree(out, ignore_errors=True)
    part.rename(out)
    return count


def sample(row: dict[str, Any], captured: dict[str, Tensor], norm: FinalNorm) -> dict[str, Tensor]:
    """One training file. Raises ValueError if the states are not those of the row's ids.

    SpecForge shifts ids and teacher by one: at position t it reads the state of t and the id of t + 1, and learns what
    follows. The first such place in serving is the last token of the prompt, so the mask begins there.
    """
    ids = torch.tensor(row["input_ids"][:-1], dtype=torch.long)
    if not torch.equal(captured["token_ids"].long().cpu(), ids):
        raise ValueError(f"the states of row {row['id']!r} are of other tokens than the corpus holds")
    hidden = captured["hidden_states"]  # [T, layers, hidden]; the last layer is the stream before the final norm
    mask = torch.zeros(len(ids), dtype=torch.long)
    mask[max(0, row["prompt_tokens"] - 1) :] = 1
    return {
        "input_ids": ids,
        "loss_mask": mask,
        "aux_hidden_state": hidden[:, :-1].flatten(1).to(torch.bfloat16).unsqueeze(0).contiguous(),
        "hidden_state": norm(hidden[:, -1]).to(torch.bfloat16).unsqueeze(0).contiguous(),
    }


class FinalNorm:
    """The target's final RMS norm: weight [hidden] and epsilon from its folder."""

    def __init__(self, target: Path) -> None:
        config = json.loads((target / "config.json").read_text(encoding="utf-8"))
        self.epsilon = float(config.get("rms_norm_eps", 1e-6))
        self.weight = _tensor(target, NORM).float()

    def __call__(self, states: Tensor) -> Tensor:
        """[T, hidden] normalised, float32."""
        states = states.float()
        return self.weight * states * torch.rsqrt(states.pow(2).mean(-1, keepdim=True) + self.epsilon)


def view_with_index(target: Path, view: Path) -> None:
    """`view`: links to the target's files, and the index of its weights that SpecForge asks for."""
    shutil.rmtree(view, ignore_errors=True)
    view.mkdir(parents=True, mode=0o700)
    files = sorted(target.glob("*.safetensors"))
    for file in [*(target / name for name in LINKED if (target / name).is_file()), *files]:
        os.symlink(file.resolve(), view / file.name)
    weights = {name: file.name for file in files for name in _names(file)}
    (view / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weights}), encoding="utf-8")


def _rows(corpus: Path, split: str) -> Iterator[dict[str, Any]]:
    """Rows of a split, a few at a time."""
    with pq.ParquetFile(corpus / "rows.parquet") as table:
        for batch in table.iter_batches(batch_size=256, columns=COLUMNS):
            yield from (row for row in batch.to_pylist() if row["split"] == split)


def _names(file: Path) -> list[str]:
    with safe_open(file, framework="pt") as opened:
        return list(opened.keys())


def _tensor(folder: Path, name: str) -> Tensor:
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as opened:
            if name in opened.keys():  # noqa: SIM118 - not a mapping
                tensor: Tensor = opened.get_tensor(name)
                return tensor
    raise ValueError(f"{folder.name} has no tensor {name}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for option in ("corpus", "states", "target", "vocabulary", "out"):
        parser.add_argument(f"--{option}", type=Path, required=True)
    parser.add_argument("--view", type=Path, help="folder for links to the target and an index of its weights")
    given = parser.parse_args()
    if given.view:
        view_with_index(given.target, given.view)
    print(prepare(given.corpus, given.states, given.target, given.vocabulary, given.out), "rows")

"""Job step: corpus and captured states in speculators' own layout. Runs in the trainer's interpreter.

    python -m draftsmith.work.inside.prepare_speculators --corpus DIR --states DIR --out DIR

Writes an Arrow data set of input_ids, loss_mask and seq_len, training rows first, and links `hidden_states/hs_<i>` to
each row's states. The rows are the engine's ids without the last one, as captured.
"""

from __future__ import annotations

import argparse
import os
import shutil
from pathlib import Path

import pyarrow.parquet as pq
from datasets import Dataset

from draftsmith.work.inside.state_names import states_path

COLUMNS = ["id", "split", "input_ids", "prompt_tokens"]


def prepare(corpus: Path, states: Path, out: Path) -> int:
    """Write the data set; returns its rows. The Arrow files appear last, by rename."""
    table = pq.read_table(corpus / "rows.parquet", columns=COLUMNS).to_pylist()
    rows = [row for split in ("train", "validation") for row in table if row["split"] == split]
    part = out.with_name(out.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    (part / "hidden_states").mkdir(parents=True, mode=0o700)
    data = []
    for index, row in enumerate(rows):
        ids = row["input_ids"][:-1]
        prompt = row["prompt_tokens"]
        os.symlink(states_path(states, row["id"]), part / "hidden_states" / f"hs_{index}.safetensors")
        data.append({"input_ids": ids, "loss_mask": [0] * prompt + [1] * (len(ids) - prompt), "seq_len": len(ids)})
    Dataset.from_list(data).with_format("torch").save_to_disk(part)
    shutil.rmtree(out, ignore_errors=True)
    part.rename(out)
    return len(rows)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("corpus", "states", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    options = parser.parse_args()
    print(prepare(options.corpus, options.states, options.out), "rows")

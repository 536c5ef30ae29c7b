"""Writes the table of docs/targets.md from published configurations: `python tests/docs/targets_page.py`."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from draftsmith.contract.errors import InputError
from draftsmith.engines.models import shipped
from draftsmith.trainers.draft_shape import draft_shape
from draftsmith.trainers.fit import fewest
from draftsmith.trainers.layers import default_layers
from draftsmith.trainers.model_size import model_size
from draftsmith.trainers.precision import training_precision
from draftsmith.trainers.target import supported
from draftsmith.trainers.target_config import text_config

ROOT = Path(__file__).resolve().parents[2]
TARGETS = Path(os.environ.get("DRAFTSMITH_PUBLISHED") or ROOT.parent / "shared" / "targets")
PAGE = ROOT / "docs" / "targets.md"
BEGIN, END = "<!-- table: begin -->", "<!-- table: end -->"
HEAD = (
    "| model | accepted | parameters (active), billions | layers read | draft: heads x size, KV heads, MLP | draft cache, bytes a token |"
    " hidden states, bytes a token | GPUs of 80 GB | GPUs of 141 GB |"
)
CARDS = (79.6, 140.4)  # GiB of cards sold as 80 and 141 GB, as their driver counts them
CONTEXT = 8192


def table(targets: Path = TARGETS) -> str:
    """One row a configuration, in the order of their names."""
    rows = [_row(path.name, json.loads((path / "config.json").read_text()), path) for path in sorted(targets.iterdir())]
    return "\n".join([HEAD, "|" + " --- |" * 9, *rows])


def _row(name: str, config: dict[str, Any], folder: Path) -> str:
    size = model_size(config)
    count = f"{_billions(size.total)} ({_billions(size.active)})" if size else "not counted"
    try:
        precision = training_precision(folder, config, {})
        _, warnings = supported(config, shipped(), name)
    except InputError as error:
        why = error.message.removeprefix(f"{name} is ").removeprefix(f"{name} ").split(": its hidden")[0]
        return f"| {name} | no: {why} | {count} | | | | | | |"
    text, shape = text_config(config), draft_shape(config)
    layers = default_layers(int(text["num_hidden_layers"]))
    heads = f"{shape.num_attention_heads} x {shape.head_dim}, {shape.num_key_value_heads}, {shape.intermediate_size:,}"
    states = 2 * shape.hidden_size * (len(layers) + 1)
    gpus = [_gpus(config, size.weight_bytes(precision), card) if size else "?" for card in CARDS]
    yes = "yes; its own code is not run" if warnings else "yes"
    shown = ", ".join(map(str, layers))
    return f"| {name} | {yes} | {count} | {shown} | {heads} | {shape.cache_bytes_per_token:,} | {states:,} | {gpus[0]} | {gpus[1]} |"


def _billions(count: int) -> str:
    value = count / 1e9
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _gpus(config: dict[str, Any], weight_bytes: float, card_gib: float) -> str:
    """What `doctor` says; a dash where no number up to 32 holds it."""
    found = fewest(config, weight_bytes, card_gib, context=CONTEXT)
    return str(found.gpus) if found else "–"


def written(page: str, text: str) -> str:
    """`page` with its table replaced."""
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{text}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8"), table()), encoding="utf-8")

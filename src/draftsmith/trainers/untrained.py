"""A draft folder of the right shape that has learned nothing: it costs what a trained one costs and is worth nothing.

Random weights rather than zeros: processors draw less power, and so clock higher, on zeros.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from draftsmith.contract.draft import TargetFacts
from draftsmith.contract.errors import InputError
from draftsmith.kit.files import private_dir, write_json
from draftsmith.trainers.draft_config import clean_config
from draftsmith.trainers.draft_folder import AUX, Draft
from draftsmith.trainers.draft_shape import draft_shape
from draftsmith.trainers.draft_shapes import expected_tensors
from draftsmith.trainers.target_config import read_config

SPREAD = 0.02


def write_untrained(
    target: TargetFacts, out: Path, layer_ids: tuple[int, ...], draft_vocab: int, seed: int = 0, *, normed: bool = True
) -> Path:
    """An EAGLE3 folder for `target`: one Llama layer of the target's own widths, as the trainer makes it. Returns `out`.

    `normed`: its norm_before_residual.

    Written under another name and renamed when whole. Raises InputError if the target's config.json lacks a width.
    """
    if out.exists():
        return out
    draft = _draft(target, out, layer_ids, min(draft_vocab, target.vocab_size), normed)
    shaped = expected_tensors(draft)
    if shaped is None:  # pragma: no cover - the layer is written as `llama` above
        raise InputError("a draft of this layer type cannot be made here", "give --draft FOLDER of an existing draft")
    private_dir(out.parent)
    shop = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    try:
        _write_weights(shop / "model.safetensors", shaped[0], draft, np.random.default_rng(seed))
        write_json(shop / "config.json", clean_config(draft, verifier_name=Path(target.path).name, layer_ids=layer_ids))
        os.rename(shop, out)
    except BaseException:
        shutil.rmtree(shop, ignore_errors=True)
        raise
    return out


def default_draft_vocab(target: TargetFacts) -> int:
    """Size to assume where no corpus says better: a quarter of the target's, as published drafts have it."""
    return max(1, target.vocab_size // 4)


def _draft(target: TargetFacts, out: Path, layer_ids: tuple[int, ...], draft_vocab: int, normed: bool) -> Draft:
    try:
        layer = draft_shape(read_config(Path(target.path))).layer_config()
    except InputError as error:
        raise InputError(error.message, "give --draft FOLDER of an existing draft for this target") from None
    config: dict[str, Any] = {
        "architectures": ["Eagle3DraftModel"],
        "draft_vocab_size": draft_vocab,
        "dtype": target.dtype,
        AUX: list(layer_ids),
        "norm_before_fc": True,
        "norm_before_residual": normed,
        "norm_output": True,
        "fc_norm": False,
        "speculators_config": {"algorithm": "eagle3", "verifier": {"architectures": [target.architecture]}},
        "speculators_model_type": "eagle3",
        "speculators_version": "0.9.0",
        "tie_word_embeddings": False,
        "transformer_layer_config": layer,
    }
    return Draft(
        folder=out,
        form="speculators",
        method="eagle3",
        config=config,
        layer=layer,
        layer_ids=layer_ids,
        layer_ids_key=AUX,
        hidden_size=target.hidden_size,
        target_hidden_size=target.hidden_size,
        vocab_size=target.vocab_size,
        draft_vocab_size=draft_vocab,
        tensors={},
    )


def _write_weights(path: Path, shapes: dict[str, tuple[int, ...]], draft: Draft, chance: np.random.Generator) -> None:
    """float16, which the engine turns into the target's own type. The map takes every n-th token of the vocabulary."""
    from safetensors.numpy import save_file

    ids = np.linspace(0, draft.vocab_size - 1, draft.draft_vocab_size).astype(np.int64)
    marks = np.zeros(draft.vocab_size, bool)
    marks[ids] = True
    known = {"d2t": ids - np.arange(len(ids)), "t2d": marks}
    tensors = {}
    for name, shape in shapes.items():
        if name in known:
            tensors[name] = known[name]
        elif name.endswith("norm.weight") or ".hidden_norm" in name:
            tensors[name] = np.ones(shape, np.float16)
        else:
            tensors[name] = (chance.standard_normal(shape, np.float32) * SPREAD).astype(np.float16)
    save_file(tensors, path, metadata={"format": "pt"})
    path.chmod(0o600)

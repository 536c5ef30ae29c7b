"""From a trainer's checkpoint to the folder that an engine loads and a person can check.

`draft/` holds safetensors, config.json, README.md and draft-manifest.json and nothing else: no programs, no pickles,
no optimizer state, no path of the machine. It is built under another name in a private folder and renamed when whole,
so a folder of that name is complete.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from draftsmith.contract.draft import DraftManifest, TargetFacts
from draftsmith.contract.errors import InputError
from draftsmith.kit.files import private_dir, read_json, write_atomic, write_json
from draftsmith.trainers.convert import is_trainers_notation
from draftsmith.trainers.draft_card import draft_card
from draftsmith.trainers.draft_config import clean_config
from draftsmith.trainers.draft_folder import Draft, read_draft
from draftsmith.trainers.layers import stored
from draftsmith.trainers.lint_files import MANIFEST, weights_sha256
from draftsmith.trainers.vocabulary_map import read_map
from draftsmith.trainers.weights import INDEX, weight_files

MASK_EMBEDDING = "mask_embedding.pt"  # read by the engine beside some DFlash weights


def package_draft(
    checkpoint: Path,
    out: Path,
    *,
    target: TargetFacts,
    trainer: str,
    versions: dict[str, str] | None = None,
    verifier_name: str | None = None,
    layer_ids: tuple[int, ...] | None = None,
    corpus_sha256: str | None = None,
    warm_start_from: str | None = None,
    epoch: int | None = None,
    validation_acceptance: tuple[float, ...] = (),
    trained_tokens: int | None = None,
) -> DraftManifest:
    """Package `checkpoint` as `out` and return its manifest. Packaging the same again returns the one that is there.

    `layer_ids` (engine notation) is needed for a checkpoint that does not name its layers. `verifier_name` defaults to
    the last part of the target's path. Raises InputError if the checkpoint cannot be read or served, if its layers
    are others than `layer_ids`, or if `out` exists and holds something else.
    """
    draft = read_draft(checkpoint)
    if (checkpoint / MASK_EMBEDDING).is_file():
        raise InputError(
            f"the checkpoint keeps an embedding in {MASK_EMBEDDING}, a pickle, and serves wrongly without it",
            "train a draft that uses a token of the vocabulary as its mask",
        )
    ids = _layers(draft, layer_ids)
    config = clean_config(draft, verifier_name=_name(verifier_name or target.path), layer_ids=ids)
    manifest = DraftManifest(
        method=draft.method,
        layer_ids=ids,
        hidden_size=draft.hidden_size,
        target_vocab_size=draft.vocab_size,
        draft_vocab_size=draft.draft_vocab_size,
        vocab_map_sha256=read_map(draft).sha256() if "d2t" in draft.tensors else "",
        has_own_embeddings="embed_tokens.weight" in draft.tensors,
        has_own_lm_head="lm_head.weight" in draft.tensors,
        target_sha256=target.sha256,
        tokenizer_sha256=target.tokenizer_sha256,
        corpus_sha256=corpus_sha256,
        warm_start_from=warm_start_from,
        trainer=trainer,
        versions=versions or {},
        epoch=epoch,
        validation_acceptance=validation_acceptance,
        weights_sha256=weights_sha256(checkpoint),
        trained_tokens=trained_tokens,
    )
    if out.exists():
        return _already_there(out, manifest)
    private_dir(out.parent)
    shop = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))  # readable by the owner alone
    try:
        for file in (*weight_files(checkpoint), *((checkpoint / INDEX,) if (checkpoint / INDEX).is_file() else ())):
            _copy(file, shop / file.name)
        write_json(shop / "config.json", config)
        write_atomic(shop / "README.md", draft_card(manifest, config, target, _name(verifier_name or target.path)))
        write_json(shop / MANIFEST, manifest)
        os.rename(shop, out)
    except BaseException:
        shutil.rmtree(shop, ignore_errors=True)
        raise
    _sync(out.parent)
    return manifest


def trainers_form(draft: Path) -> Path:
    """Where a draft that was converted for another engine has its folder as the trainer wrote it."""
    return draft.with_name(f"{draft.name}-as-trained")


def for_training(packaged: Path, out: Path, target_path: Path) -> Path:
    """A copy of a packaged draft that the trainer can start from: it looks for the target at verifier.name_or_path.

    Weights are linked where the file system allows. Raises InputError if `packaged` is no draft, or one in another notation.
    """
    config = read_draft(packaged).config
    if not is_trainers_notation(packaged):
        raise InputError(
            f"{packaged} is in another notation than the trainer's",
            "give the folder that it was converted from",
        )
    private_dir(out)
    for file in (*weight_files(packaged), *((packaged / INDEX,) if (packaged / INDEX).is_file() else ())):
        (out / file.name).unlink(missing_ok=True)
        try:
            os.link(file.resolve(), out / file.name)
        except OSError:
            _copy(file, out / file.name)
    serving = config.get("speculators_config")
    if isinstance(serving, dict):
        verifier = {**(serving.get("verifier") or {}), "name_or_path": str(target_path.resolve())}
        config = {**config, "speculators_config": {**serving, "verifier": verifier}}
    write_json(out / "config.json", config)
    return out


def _layers(draft: Draft, given: tuple[int, ...] | None) -> tuple[int, ...]:
    ids = draft.layer_ids or given
    if ids is None:
        raise InputError("the checkpoint names no layers to read", "say which layers it was trained on (layer_ids)")
    if given is not None and ids != given:
        raise InputError(
            f"the checkpoint reads layers {list(ids)}, {list(given)} were expected",
            "train again, or package it with the layers that it was trained on",
        )
    if stored(ids) != ids:
        raise InputError(f"layer ids {list(ids)} are not sorted and unique", "train with sorted ids")
    return ids


def _already_there(out: Path, manifest: DraftManifest) -> DraftManifest:
    try:
        held = DraftManifest.model_validate(read_json(out / MANIFEST))
    except (OSError, ValueError):
        held = None
    if held != manifest:
        raise InputError(f"{out} exists and holds another draft", "choose another folder, or remove that one")
    return manifest


def _name(path_or_name: str) -> str:
    """A name that gives nothing away: the last part of an absolute path, anything else as it is."""
    return Path(path_or_name).name if path_or_name.startswith(("/", "~", ".")) else path_or_name


def _copy(source: Path, copy: Path) -> None:
    with source.open("rb") as reader, open(os.open(copy, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as writer:
        shutil.copyfileobj(reader, writer, 1 << 22)
        writer.flush()
        os.fsync(writer.fileno())


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

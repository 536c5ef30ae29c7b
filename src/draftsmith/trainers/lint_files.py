"""Checks of the folder itself, of its manifest, and against the draft it was started from."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from draftsmith.contract.base import digest
from draftsmith.contract.draft import Finding
from draftsmith.contract.errors import InputError
from draftsmith.kit.files import sha256_file
from draftsmith.trainers.contents import Kind, kind_of
from draftsmith.trainers.draft_folder import Draft
from draftsmith.trainers.findings import Case, error, ok, some, warn
from draftsmith.trainers.target_config import walk
from draftsmith.trainers.weights import read_object, shown, stray_files, weight_files

MANIFEST = "draft-manifest.json"
MOST_FILES = 10_000
CODE_KEYS = frozenset({"auto_map", "trust_remote_code", "custom_pipelines", "_target_", "quantization_code"})
PRIVATE_FILES = frozenset({"train_command.txt", "training_state.json", "run.yaml"})


def check_files(folder: Path) -> Iterator[Finding]:
    """Nothing that could run: no programs, no pickles, no keys that ask for either."""
    if not folder.is_dir():
        yield error("files", f"{folder} is no folder", "point to the folder of a draft")
        return
    entries = sorted(islice(folder.rglob("*"), MOST_FILES + 1))
    if len(entries) > MOST_FILES:
        yield error("files", f"more than {MOST_FILES:,} files: no draft has so many", "point to the folder of a draft")
        return
    names = [shown(str(path.relative_to(folder))) for path in entries if path.is_file()]
    findings = []
    if odd := [
        shown(str(p.relative_to(folder)))
        for p in entries
        if (p.is_symlink() and p.is_dir()) or not (p.is_file() or p.is_dir())
    ]:
        findings.append(
            error(
                "files",
                f"neither plain files nor folders: {some(odd)}",
                "copy the draft's own files into a folder",
            )
        )
    kinds: dict[Kind, list[str]] = {}
    for path in entries:
        if path.is_file():
            kinds.setdefault(kind_of(path), []).append(shown(str(path.relative_to(folder))))
    if programs := kinds.get("program"):
        findings.append(
            error("files", f"the folder holds programs: {some(programs)}", "package the checkpoint: it keeps none")
        )
    if pickles := kinds.get("pickle"):
        findings.append(
            error(
                "files",
                f"the folder holds pickles or archives, which can run code when read: {some(pickles)}",
                "package the checkpoint: it keeps safetensors only",
            )
        )
    if unknown := kinds.get("unknown"):
        findings.append(
            warn(
                "files",
                f"neither text nor safetensors, and not looked at: {some(unknown)}",
                "remove what the engine does not need",
            )
        )
    if left := [name for name in names if name in PRIVATE_FILES]:
        findings.append(
            warn(
                "files", f"left over from training: {', '.join(left)}", "package the checkpoint before it is passed on"
            )
        )
    for path in sorted({folder / "config.json", *folder.glob("*config*.json")}):
        try:
            keys = sorted({key for key, _ in walk(read_object(path)) if key in CODE_KEYS})
        except InputError:
            continue  # config.json is reported once, when the draft itself is read; the others no engine could read
        except RecursionError:
            keys = ["(nested too deeply to read)"]
        if keys:
            findings.append(
                error(
                    "files",
                    f"{path.name} asks for code of its own: {', '.join(keys)}",
                    "remove the keys, or package it",
                )
            )
    yield from findings or [ok("files", "safetensors and plain files only")]


def check_manifest(case: Case) -> Iterator[Finding]:
    """The manifest describes these weights and this target."""
    manifest, draft, target = case.manifest, case.draft, case.target
    if manifest is None:
        return
    mismatches = [
        (name, stated, real)
        for name, stated, real in (
            ("method", manifest.method, draft.method),
            ("hidden size", manifest.hidden_size, draft.hidden_size),
            ("target vocabulary", manifest.target_vocab_size, draft.vocab_size),
            ("draft vocabulary", manifest.draft_vocab_size, draft.draft_vocab_size),
            ("weights", manifest.weights_sha256, weights_sha256(draft.folder)),
        )
        if stated != real
    ]
    findings = [
        error(
            "manifest", f"{name} in the manifest is {_short(stated)}, in the folder {_short(real)}", "package it again"
        )
        for name, stated, real in mismatches
    ]
    if manifest.tokenizer_sha256 != target.tokenizer_sha256:
        findings.append(
            error(
                "manifest",
                "it was trained with another tokenizer than the target has now",
                "train again, or serve the target with the tokenizer it had",
            )
        )
    if manifest.target_sha256 != target.sha256:
        findings.append(
            error(
                "manifest",
                "it was trained for another target (weights, configuration or tokenizer differ)",
                "train a draft for this target; after a fine-tune of the target, start from this one",
            )
        )
    yield from findings or [ok("manifest", "describes these weights, and this target and tokenizer")]


def check_parent(case: Case) -> Iterator[Finding]:
    """After a warm start: same method, layers and sizes as the draft it began from."""
    parent, draft = case.parent, case.draft
    if parent is None:
        return
    changed = [
        name for name in ("method", "layer_ids", "hidden_size", "draft_vocab_size") if _differs(name, parent, draft)
    ]
    if changed:
        yield error(
            "parent",
            f"differs from the draft it was started from in {', '.join(changed)}: the old weights mean something else",
            "start afresh, or keep the parent's settings",
        )
    else:
        yield ok("parent", "method, layers and sizes are those of the draft it was started from")


def weights_sha256(folder: Path) -> str:
    """Identity of a folder's weights: of the one file, or of all shards by name."""
    files = (*weight_files(folder), *stray_files(folder))  # an engine may load those too
    if len(files) == 1:
        return sha256_file(files[0])
    return digest({file.name: sha256_file(file) for file in files})


def _differs(name: str, left: Draft, right: Draft) -> bool:
    return bool(getattr(left, name) != getattr(right, name))


def _short(value: object) -> str:
    text = str(value)
    return text[:12] if len(text) == 64 else text or "(none)"

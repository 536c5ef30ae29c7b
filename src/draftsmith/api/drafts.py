"""A draft checked without being loaded, a bundle verified, and a recipe for training elsewhere."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from draftsmith.api.settings import require_target
from draftsmith.contract.base import Frozen
from draftsmith.contract.config import Config
from draftsmith.contract.draft import LintReport, TargetFacts
from draftsmith.contract.errors import InputError, RefusedError
from draftsmith.kit.files import write_atomic

if TYPE_CHECKING:
    from draftsmith.store.bundle_check import VerifyReport


NODE = 8  # GPUs of a usual node


class Scaffold(Frozen):
    """A recipe that was written: its folder, and its files relative to it."""

    folder: str
    files: tuple[str, ...]


class Converted(Frozen):
    """A draft in another engine's notation. `layer_ids`: k = the residual stream after k layers, whatever is written."""

    folder: str
    engine: str
    method: str
    layer_ids: tuple[int, ...]


def lint(config: Config, draft: Path | str, *, parent: Path | None = None) -> LintReport:
    """Check a draft's folder against the configured target. `parent`: the draft that a warm start began from."""
    from draftsmith.trainers.lint import lint_draft, served_tokens

    target = require_target(config)
    tokens = served_tokens(config.engine.max_model_len, target)
    return lint_draft(Path(draft), target, served_tokens=tokens, parent=parent, engine=config.engine.kind)


def convert(draft: Path | str, out: Path | str, to: Literal["vllm", "sglang"]) -> Converted:
    """Write a draft's folder in another engine's notation into a new folder. Raises InputError with the reason if it cannot be."""
    from draftsmith.trainers.convert import convert_draft

    made = convert_draft(Path(draft), Path(out), to)
    return Converted(folder=str(out), engine=to, method=made.method, layer_ids=made.layer_ids or ())


def verify(bundle: Path | str, key: Path | str | None = None) -> VerifyReport:
    """Recompute the verdict of an evidence bundle from its raw samples, and find every altered, missing or added file.

    `key`: the public key (PEM, Ed25519) that must have signed it. Raises InputError if there is no bundle, EvidenceError if it
    is not signed by that key. A bundle that does not hold is a report whose `ok` is False.
    """
    from draftsmith.store.evidence import verify_bundle

    report = verify_bundle(Path(bundle))
    if key is None or not report.ok:
        return report
    from draftsmith.store.attestation import signed_by

    return replace(report, signed_by=signed_by(report, Path(key)))


def sign(bundle: Path | str, key: Path | str) -> Path:
    """Sign a bundle that verifies; returns the DSSE envelope beside it. `key`: private, PEM, Ed25519, without a password.

    Raises EvidenceError if the bundle does not verify, InputError for a key that is none.
    """
    from draftsmith.store.attestation import sign as signed
    from draftsmith.store.evidence import verify_bundle

    return signed(verify_bundle(Path(bundle)), Path(key))


def scaffold(
    config: Config,
    out: Path | str,
    *,
    method: Literal["eagle3", "dflash"] = "eagle3",
    name: str | None = None,
    chat_template: str | None = None,
    own_template: bool = False,
    draft_vocab: int | None = None,
    gpus: int | None = None,
    image: str = "vllm/vllm-openai:v0.24.0",
    claim: str = "models",
    k: int = 3,
) -> Scaffold:
    """Write a recipe for SpecForge on Slurm into an empty folder.

    `chat_template`: SpecForge's name; None = by the target's own template. `own_template`: it is registered in a SpecForge of
    your own. `gpus`: of a node; None = eight, or as many as a server of the target takes. Raises InputError if the folder is
    not empty, for a template that SpecForge has not, and for a target that cannot be trained for.
    """
    from draftsmith.api.recipe_text import Recipe, files
    from draftsmith.contract.cluster import plain_slug
    from draftsmith.trainers.layers import default_layers
    from draftsmith.trainers.specforge_config import default_draft_vocab
    from draftsmith.trainers.specforge_lists import require_template, template_of
    from draftsmith.trainers.target_config import read_config

    facts = require_target(config, capture=False)  # SGLang hands out the states
    folder = Path(out).resolve()
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"{out} is not empty", "give another folder: a recipe that was edited is not overwritten")
    read = read_config(Path(facts.path))
    template = chat_template or template_of(Path(facts.path), read, facts.model_type)
    if not own_template:
        require_template(template)
    tp = _split(config, read, facts)
    recipe = Recipe(
        slug=plain_slug(name or Path(facts.path).name),
        folder=str(folder),
        target=facts.path,
        config=read,
        method=method,
        layer_ids=config.trainer.layers or default_layers(facts.num_layers),
        target_layers=facts.num_layers,
        draft_vocab=draft_vocab or default_draft_vocab(facts),
        head_key=_head_key(Path(facts.path)),
        chat_template=template,
        gpus=gpus or max(NODE, tp),
        tp=tp,
        standing=config.serving.standing_config,
        image=image,
        claim=claim,
        k=k,
        max_length=config.corpus.max_length,
        epochs=config.trainer.epochs,
        seed=config.trainer.seed,
        block_size=config.trainer.block_size,
    )
    written = files(recipe, *_site(config))
    for file, text in written.items():
        write_atomic(folder / file, text)
        if file.endswith(".sh"):
            (folder / file).chmod(0o700)
    for stage in ("prepare", "capture", "train", "eval"):
        (folder / "work" / stage).mkdir(parents=True, exist_ok=True)
    return Scaffold(folder=str(folder), files=tuple(sorted(written)))


def _split(config: Config, read: dict[str, Any], facts: TargetFacts) -> int:
    """GPUs of one server of the target, by its size; those of engine.gpus where they are said."""
    from draftsmith.api.fitting import ASSUMED_GIB
    from draftsmith.trainers.fit import DEGREES, fewest

    if config.engine.gpus:
        return config.engine.gpus
    split = fewest(
        read, facts.weight_bytes, config.engine.gpu_memory_gib or ASSUMED_GIB, context=config.engine.max_model_len
    )
    return split.gpus if split else DEGREES[-1]


def _head_key(target: Path) -> str:
    from draftsmith.trainers.specforge_config import EMBEDDINGS, HEAD
    from draftsmith.trainers.weights import read_tensors, weight_files

    return HEAD if HEAD in read_tensors(weight_files(target)) else EMBEDDINGS


def _site(config: Config) -> tuple[Any, Any]:
    """What the cluster's own options say, where they are configured. Raises ConfigError."""
    from draftsmith.backends.slurm_options import parse_options
    from draftsmith.serving.kubernetes.options import parse_serving_options

    slurm = parse_options(config.backend.options if config.backend.kind == "slurm" else {})
    return slurm, parse_serving_options(config.serving.options if config.serving.kind == "kubernetes" else {})


def require_clean_drafts(config: Config, target: TargetFacts) -> None:
    """Raise RefusedError if a draft of `compare.drafts` does not pass lint: it would be served by the engine."""
    from draftsmith.trainers.lint import lint_draft, served_tokens

    for folder in config.compare.drafts:
        tokens = served_tokens(config.engine.max_model_len, target)
        report = lint_draft(Path(folder), target, served_tokens=tokens, engine=config.engine.kind)
        if not report.passed:
            words = "; ".join(finding.sentence for finding in report.at("error"))
            raise RefusedError(
                f"compare.drafts: {Path(folder).name} does not pass lint: {words}", "see `draftsmith lint`"
            )

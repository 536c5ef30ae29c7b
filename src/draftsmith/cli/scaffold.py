"""`draftsmith scaffold`: the recipe for teams that run SpecForge on their own cluster."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from draftsmith.cli import options as o
from draftsmith.cli.output import show

if TYPE_CHECKING:
    from draftsmith.contract.config import Config


def scaffold(
    out: Annotated[Path, typer.Option("--out", "-o", help="folder to write, on a file system that the cluster sees")],
    target: o.Target = None,
    method: Annotated[Literal["eagle3", "dflash"], typer.Option("--method", help="kind of draft")] = "eagle3",
    name: Annotated[str | None, typer.Option("--name", help="short name of the target; default: its folder's")] = None,
    chat_template: Annotated[
        str, typer.Option("--chat-template", help="SpecForge's name of the target's chat template")
    ] = "llama3",
    draft_vocab: Annotated[
        int | None, typer.Option("--draft-vocab", help="tokens the draft knows; default: 32000, or all")
    ] = None,
    gpus: Annotated[int, typer.Option("--gpus", help="GPUs of a node, for capture and training")] = 8,
    image: Annotated[str, typer.Option("--image", help="image of the canaries")] = "vllm/vllm-openai:v0.24.0",
    claim: Annotated[str, typer.Option("--claim", help="volume claim with models, mounted at /models")] = "models",
    k: Annotated[int, typer.Option("--k", help="tokens the canary's draft proposes")] = 3,
    config: o.ConfigFile = None,
    settings: o.Settings = None,
    json: o.Json = False,
) -> None:
    """Write a recipe for SpecForge on Slurm: configurations, run script, batch scripts, canaries, README.

    Everything is derived from the target's config.json. `[backend.options]` of a Slurm back end and `[serving.options]` of
    Kubernetes are taken over where they are configured. Nothing is submitted or created.
    """
    from draftsmith.api.recipe_text import Recipe, files
    from draftsmith.api.runs import require_target
    from draftsmith.contract.cluster import slug
    from draftsmith.contract.errors import InputError
    from draftsmith.kit.files import write_atomic
    from draftsmith.trainers.layers import default_layers
    from draftsmith.trainers.specforge_config import default_draft_vocab
    from draftsmith.trainers.target_config import read_config

    settled = o.configuration(config, target=target, settings=settings)
    facts = require_target(settled)
    folder = out.resolve()
    if folder.exists() and any(folder.iterdir()):
        raise InputError(f"{out} is not empty", "give another folder: a recipe that was edited is not overwritten")
    recipe = Recipe(
        slug=slug(name or Path(facts.path).name, 40),
        folder=str(folder),
        target=facts.path,
        config=read_config(Path(facts.path)),
        method=method,
        layer_ids=settled.trainer.layers or default_layers(facts.num_layers),
        target_layers=facts.num_layers,
        draft_vocab=draft_vocab or default_draft_vocab(facts),
        head_key=_head_key(Path(facts.path)),
        chat_template=chat_template,
        gpus=gpus,
        image=image,
        claim=claim,
        k=k,
        max_length=settled.corpus.max_length,
        epochs=settled.trainer.epochs,
        seed=settled.trainer.seed,
        block_size=settled.trainer.block_size,
    )
    written = files(recipe, *_site(settled))
    for name_, text in written.items():
        write_atomic(folder / name_, text)
        if name_.endswith(".sh"):
            (folder / name_).chmod(0o700)
    for stage in ("prepare", "capture", "train", "eval"):
        (folder / "work" / stage).mkdir(parents=True, exist_ok=True)
    show({"folder": str(folder), "files": sorted(written)}, "\n".join(str(folder / name_) for name_ in sorted(written)))


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

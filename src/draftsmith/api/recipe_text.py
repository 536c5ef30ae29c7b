"""The texts of a SpecForge recipe, from frozen values. Pure: nothing is read, run or created."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from draftsmith.api.recipe_jobs import ENTRY, PROBE
from draftsmith.api.recipe_run import README, RUN
from draftsmith.backends.slurm_options import PhaseOptions, SlurmOptions
from draftsmith.backends.slurm_text import batch_script
from draftsmith.contract.cluster import EXPIRES
from draftsmith.contract.job import JobSpec
from draftsmith.serving.canary.text import ArmPlan, render_arm
from draftsmith.serving.kubernetes.manifests import to_yaml
from draftsmith.serving.kubernetes.options import ServingOptions
from draftsmith.serving.kubernetes.standing import read_standing
from draftsmith.trainers.layers import to_specforge
from draftsmith.trainers.specforge_config import dflash_config, eagle3_config, run_config, yaml_text
from draftsmith.trainers.specforge_lists import lists
from draftsmith.trainers.weights import shown

MODELS = "/models"
HOUR = 3600
ROWS_A_STEP = {"eagle3": 8, "dflash": 4}
# Stage -> (phase of the site's options, GPUs: none, -1 one node's, -2 two servers', hours)
STAGES = {
    "prepare": ("corpus", 0, 4),
    "capture": ("capture", -1, 24),
    "train": ("train", -1, 48),
    "eval": ("compare", -2, 12),
}
TITLES = {"prepare": "prepare-data", "capture": "capture", "train": "train", "eval": "eval"}


@dataclass(frozen=True)
class Recipe:
    """What a recipe is made of. `layer_ids` in engine notation, `config` the target's config.json, paths absolute."""

    slug: str
    folder: str
    target: str
    config: dict[str, Any]
    method: str
    layer_ids: tuple[int, ...]
    target_layers: int
    draft_vocab: int
    head_key: str
    chat_template: str
    gpus: int
    image: str
    claim: str
    k: int
    max_length: int = 2048
    epochs: int = 6
    seed: int = 0
    block_size: int = 8
    tp: int = 1
    standing: dict[str, Any] | None = None

    @property
    def draft_config(self) -> str:
        """Name of the draft configuration in the recipe's folder."""
        return f"configs/{self.slug}-{self.method}.json"


def files(recipe: Recipe, slurm: SlurmOptions, serving: ServingOptions) -> dict[str, str]:
    """Every file of the recipe by its path in the folder. Raises ConfigError, InputError."""
    texts = {
        recipe.draft_config: json.dumps(draft_config(recipe), indent=2) + "\n",
        f"configs/{recipe.slug}-{recipe.method}.yaml": yaml_text(training(recipe)),
        f"run-{recipe.slug}-offline.sh": fill(RUN, recipe),
        f"deploy/{recipe.slug}-spec-canary.yaml": canary(recipe, serving),
        "slurm/train_entry.py": ENTRY,
        "slurm/probe_states.py": PROBE,
        "README.md": fill(README, recipe),
    }
    for stage in STAGES:
        texts[f"slurm/{TITLES[stage]}.sbatch"] = sbatch(recipe, stage, slurm)
    return texts


def draft_config(recipe: Recipe) -> dict[str, Any]:
    """The draft head's own configuration."""
    if recipe.method == "eagle3":
        return eagle3_config(recipe.config, recipe.draft_vocab, recipe.layer_ids)
    layers = max(1, min(5, recipe.target_layers // 10))
    return dflash_config(recipe.config, recipe.layer_ids, layers=layers, block_size=recipe.block_size)


def training(recipe: Recipe) -> dict[str, Any]:
    """SpecForge's run configuration. What depends on the data is overridden by the run script."""
    place = Path(recipe.folder)
    return run_config(
        target=recipe.target,
        draft_config=str(place / recipe.draft_config),
        states=str(place / "states" / "train"),
        validation_states=str(place / "states" / "validation") if recipe.method == "eagle3" else None,
        output=str(place / "output"),
        layer_ids=recipe.layer_ids,
        head_key=recipe.head_key,
        method=recipe.method,
        max_length=recipe.max_length,
        batch_size=ROWS_A_STEP[recipe.method],
        per_epoch=500,
        epochs=recipe.epochs,
        learning_rate=1e-4,
        attention="flex_attention",
        seed=recipe.seed,
        run_id=recipe.slug,
        log_every=50,
        workers=4,
        keep=3,
    )


def sbatch(recipe: Recipe, stage: str, site: SlurmOptions) -> str:
    """One batch script. The site's options win over the recipe's; training runs under torchrun on every GPU."""
    phase, gpus, hours = STAGES[stage]
    place = Path(recipe.folder)
    given = site.phases.get(phase, PhaseOptions())  # type: ignore[call-overload]
    request = {-1: recipe.gpus, -2: 2 * recipe.tp if 2 * recipe.tp <= recipe.gpus else recipe.tp}.get(gpus, gpus)
    wanted: dict[str, Any] = {"gpus": request, "time_limit_s": hours * HOUR}
    if stage == "train":
        wanted["launcher"] = "torchrun"
    options = site.model_copy(
        update={
            "phases": {phase: given.model_copy(update=wanted | given.model_dump(exclude_unset=True) | {"shards": 1})},
            "setup_lines": (*site.setup_lines, "export HF_HUB_OFFLINE=1 DO_NOT_TRACK=1"),
            "export": "ALL" if site.export == "NONE" else site.export,  # the run script is driven by variables
            "requeue": True,
        }
    )
    run = str(place / f"run-{recipe.slug}-offline.sh")
    argv: tuple[str, ...] = ("bash", run, stage)
    if stage == "train":
        yaml = str(place / "configs" / f"{recipe.slug}-{recipe.method}.yaml")
        argv = (site.python or "python", str(place / "slurm" / "train_entry.py"), yaml)
    spec = JobSpec(name=f"{recipe.slug}.{phase}", argv=argv, workdir=str(place / "work" / stage), cpus=16)
    return batch_script(spec, options)


def canary(recipe: Recipe, options: ServingOptions) -> str:
    """Servers of one image: what stands first, then without speculation, and with the draft. Nothing routes to them."""
    model, draft = f"{MODELS}/{recipe.slug}", f"{MODELS}/drafts/{recipe.slug}"
    spec = {"method": recipe.method, "model": draft, "num_speculative_tokens": recipe.k}
    if recipe.method == "dflash":
        spec["num_speculative_tokens"] = recipe.block_size - 1
    standing = read_standing(_deployment(recipe, options, model), options)
    items = []
    arms = [ArmPlan("standing", recipe.standing)] if recipe.standing else []
    for arm in (*arms, ArmPlan("off", None), ArmPlan("draft", spec)):
        made = render_arm(standing, arm, options, f"{recipe.slug}-spec", options.node, 0)
        made.workload["metadata"]["annotations"].pop(EXPIRES)  # a file has no birthday: activeDeadlineSeconds ends it
        items += [made.workload, made.service]
    return to_yaml(items)


def _deployment(recipe: Recipe, options: ServingOptions, model: str) -> dict[str, Any]:
    """The deployment that both canaries copy."""
    split = ["--tensor-parallel-size", str(recipe.tp)] if recipe.tp > 1 else []
    container = {
        "name": "vllm",
        "image": recipe.image,
        "command": ["vllm", "serve", model],
        "args": ["--served-model-name", recipe.slug, "--max-model-len", str(recipe.max_length * 2), *split],
        "resources": {
            "limits": {options.gpu_resource: str(recipe.tp)},
            "requests": {options.gpu_resource: str(recipe.tp)},
        },
        "volumeMounts": [{"name": "models", "mountPath": MODELS, "readOnly": True}],
    }
    volumes = [{"name": "models", "persistentVolumeClaim": {"claimName": recipe.claim}}]
    pod = {"containers": [container], "volumes": volumes}
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": recipe.slug, "namespace": options.namespace},
        "spec": {"replicas": 1, "template": {"metadata": {"labels": {}}, "spec": pod}},
    }


def _arms(recipe: Recipe) -> str:
    """The arms beside the draft, as words of a shell: what stands is the baseline."""
    if not recipe.standing:
        return "--standing off --arm off=none"
    return f"--standing standing --arm standing={shlex.quote(json.dumps(recipe.standing))} --arm off=none"


def fill(text: str, recipe: Recipe) -> str:
    """A template with @name@ replaced by the recipe's values."""
    specforge = ",".join(map(str, to_specforge(recipe.layer_ids)))
    values = {
        "slug": recipe.slug, "folder": recipe.folder, "target": shown(recipe.target), "target_word": shlex.quote(recipe.target),
        "method": recipe.method,
        "layers": specforge, "engine_layers": ", ".join(map(str, recipe.layer_ids)),
        "chat_template": recipe.chat_template, "draft_config": recipe.draft_config, "gpus": str(recipe.gpus),
        "max_length": str(recipe.max_length), "k": str(recipe.k), "epochs": str(recipe.epochs),
        "batch": str(ROWS_A_STEP[recipe.method]), "head_key": recipe.head_key, "tp": str(recipe.tp),
        "release": lists()["release"], "arms": _arms(recipe),
        "canaries": "what stands, without speculation, with the draft" if recipe.standing else "without speculation and with the draft",
        "baseline": "what stands" if recipe.standing else "serving without speculation",
    }  # fmt: skip
    return re.sub(
        r"@([a-z_]+)@", lambda match: values.get(match[1], match[0]), text
    )  # in one pass: values are not templates

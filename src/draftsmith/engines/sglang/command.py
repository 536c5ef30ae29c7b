"""Command line and environment of an SGLang server: text from pure functions, and a look into the draft's config.json.

A speculative config has the keys of vLLM's, and SGLang's own beside them; flags.py turns it into flags.
"""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import draftsmith
from draftsmith.contract.errors import ConfigError, InputError, PrerequisiteError
from draftsmith.contract.speculation import read
from draftsmith.engines.base import Command, Features, Installation, ServerSpec
from draftsmith.engines.earlier_answers import earlier_answers
from draftsmith.engines.gpu_memory import USABLE
from draftsmith.engines.sglang.exclusions import adaptive_steps, require_possible
from draftsmith.engines.sglang.flags import speculation_flags, variables

MODULE = "sglang.launch_server"
# Decided by ServerSpec's own fields: given twice, the server would not be what its specification says.
RESERVED = frozenset(
    {
        "--model-path",
        "--model",
        "--served-model-name",
        "--host",
        "--port",
        "--context-length",
        "--max-running-requests",
        "--disable-radix-cache",
        "--disable-cuda-graph",
        "--mem-fraction-static",
        "--chunked-prefill-size",
        "--disable-overlap-schedule",
        "--enable-metrics",
    }
)
PRIVACY = {"HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1", "TRANSFORMERS_OFFLINE": "1", "DO_NOT_TRACK": "1"}
KV_TOKENS = "--max-total-tokens"
MODELS = Path(draftsmith.__file__).resolve().parent / "work" / "inside" / "sglang_models"
LAYERS, MANIFEST = "eagle_aux_hidden_state_layer_ids", "draft-manifest.json"
OWN_MODELS = "SGLANG_EXTERNAL_MODEL_PACKAGE"  # model classes of the user's, which may read what SGLang's own ignore


def render(spec: ServerSpec, installed: Installation, known: Features) -> Command:
    """The command for `spec`. Raises ConfigError for contradictions, PrerequisiteError for what is not supported."""
    check(spec, installed, known)
    argv = [
        installed.python,
        "-m",
        MODULE,
        "--model-path",
        spec.model,
        "--served-model-name",
        spec.served_name,
        "--host",
        spec.host,
        "--port",
        str(spec.port),
        "--context-length",
        str(spec.max_model_len),
        "--max-running-requests",
        str(spec.max_num_seqs),
        "--enable-metrics",
        "--enable-cache-report",
    ]
    if spec.prefix_caching is False:
        argv.append("--disable-radix-cache")
    if spec.chunked_prefill is False:
        argv += ["--chunked-prefill-size", "-1"]
    if spec.async_scheduling is False:
        argv.append("--disable-overlap-schedule")
    if spec.enforce_eager:
        argv.append("--disable-cuda-graph")
    if spec.gpu_memory_share is not None:
        # A fraction of what is free when this server starts. Servers that start at the same time take memory too: where the cache
        # has a size of its own, the fraction must not bound it.
        share = max(spec.gpu_memory_share, USABLE) if KV_TOKENS in spec.flags else spec.gpu_memory_share
        argv += ["--mem-fraction-static", f"{share:g}"]
    if spec.tensor_parallel > 1:
        argv += ["--tp-size", str(spec.tensor_parallel)]
    if (speculation := read(spec.spec_config)) is not None:
        if speculation.k is None and (steps := adaptive_steps(speculation, known)):
            speculation = speculation.model_copy(update={"k": steps[-1]})
        argv += speculation_flags(speculation)
    own = own_models(spec) if speculation is not None and speculation.draft else {}
    spelled = variables(speculation) if speculation is not None else {}
    return Command(argv=(*argv, *spec.flags), env={**PRIVACY, **own, **spelled, **spec.env} | _path(spec, own))


def own_models(spec: ServerSpec) -> dict[str, str]:
    """What makes SGLang read `norm_before_residual`, for a draft that has it: a model class of Draftsmith's."""
    speculation = read(spec.spec_config)
    config = draft_config(Path(speculation.draft)) if speculation and speculation.draft else None
    if OWN_MODELS in spec.env or not (config and config.get("norm_before_residual")):
        return {}
    return {OWN_MODELS: MODELS.name}


def _path(spec: ServerSpec, own: dict[str, str]) -> dict[str, str]:
    """The folder of that class before the user's own path. Not Draftsmith's: beside it may lie another torch."""
    if not own:
        return {}
    rest = spec.env.get("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
    return {"PYTHONPATH": os.pathsep.join(part for part in (str(MODELS.parent), rest) if part)}


def check(spec: ServerSpec, installed: Installation, known: Features) -> None:
    """Refuse what would contradict itself or what this release does not know."""
    twice = [flag for flag in spec.flags if _decided(flag)]
    if twice:
        raise ConfigError(
            f"engine flags that Draftsmith decides itself: {', '.join(twice)}",
            "remove them from engine.flags and use the setting of the same meaning",
        )
    if spec.capture is not None:
        raise PrerequisiteError(
            "SGLang hands out no hidden states of a served model here",
            "capture with engine.kind = vllm, or train with SpecForge, which captures by itself",
        )
    if spec.middleware:
        raise ConfigError("SGLang takes no middleware", "record its traffic at a proxy, or with --log-requests")
    speculation = read(spec.spec_config)
    if speculation is None:
        return
    if speculation.method is None or not known.supports(speculation.method):
        raise PrerequisiteError(
            f"speculation method {speculation.method!r} is not known for SGLang {installed.version}",
            f"use one of {', '.join(sorted(known.methods))}",
        )
    require_possible(speculation, spec.flags, known)
    if speculation.corpus:
        earlier_answers(Path(speculation.corpus))
    if speculation.draft:
        require_own_notation(Path(speculation.draft))


def draft_config(draft: Path) -> dict[str, Any] | None:
    """config.json of a draft; None for one that is not here. Raises InputError if it cannot be read."""
    try:
        config: Any = json.loads((draft / "config.json").read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise InputError(f"config.json of the draft {draft.name} cannot be read ({error})", "export it again") from None
    if not isinstance(config, dict):
        raise InputError(f"config.json of the draft {draft.name} is no object", "export it again")
    return config


def require_own_notation(draft: Path) -> None:
    """Raise InputError for a draft that SGLang would load wrongly or not at all. One that is not here is not looked at.

    Flat drafts of both engines look alike: where a manifest says which layers the draft was trained on, they are compared.
    """
    config = draft_config(draft)
    if config is None:
        return
    nested = "transformer_layer_config" in config or "speculators_config" in config
    if nested or (_trained_on(draft) is not None and _read_layers(config) not in (None, _trained_on(draft))):
        raise InputError(
            f"the draft {draft.name} is in vLLM's notation: SGLang reads no nested config, and adds one to every layer id",
            "convert it: draftsmith convert DRAFT OUT --to sglang",
        )


def _read_layers(config: dict[str, Any]) -> tuple[int, ...] | None:
    """The layers that SGLang would read, as k = after k layers."""
    eagle = config.get("eagle_config")
    ids = (eagle.get(LAYERS) if isinstance(eagle, dict) else None) or config.get(LAYERS)
    return tuple(k + 1 for k in ids) if isinstance(ids, list) and all(type(k) is int for k in ids) else None


def _trained_on(draft: Path) -> tuple[int, ...] | None:
    try:
        return tuple(json.loads((draft / MANIFEST).read_bytes())["layer_ids"])
    except (OSError, ValueError, LookupError, TypeError):
        return None


def _decided(flag: str) -> bool:
    name = re.split("=", flag, maxsplit=1)[0].replace("_", "-")
    return name in RESERVED or name.startswith("--speculative-")

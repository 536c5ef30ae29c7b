"""Command line and environment of an SGLang server: text from pure functions, and a look into the draft's config.json.

A speculative config has the keys of vLLM's, and SGLang's own beside them; flags.py turns it into flags.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from draftsmith.contract.errors import ConfigError, InputError, PrerequisiteError
from draftsmith.contract.speculation import read
from draftsmith.engines.base import Command, Features, Installation, ServerSpec
from draftsmith.engines.sglang.flags import speculation_flags

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
        argv += ["--mem-fraction-static", f"{spec.gpu_memory_share:g}"]
    if spec.tensor_parallel > 1:
        argv += ["--tp-size", str(spec.tensor_parallel)]
    if (said := read(spec.spec_config)) is not None:
        argv += speculation_flags(said)
    return Command(argv=(*argv, *spec.flags), env={**PRIVACY, **spec.env})


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
    said = read(spec.spec_config)
    if said is None:
        return
    if said.method is None or not known.supports(said.method):
        raise PrerequisiteError(
            f"speculation method {said.method!r} is not known for SGLang {installed.version}",
            f"use one of {', '.join(sorted(known.methods))}",
        )
    if said.draft:
        require_own_notation(Path(said.draft), own_models=OWN_MODELS in spec.env)


def require_own_notation(draft: Path, *, own_models: bool = False) -> None:
    """Raise InputError for a draft that SGLang would load wrongly or not at all. One that is not here is not looked at.

    `own_models`: a model class of the user's is loaded, which may read `norm_before_residual`.
    """
    try:
        config: Any = json.loads((draft / "config.json").read_bytes())
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise InputError(f"config.json of the draft {draft.name} cannot be read ({error})", "export it again") from None
    if not isinstance(config, dict):
        raise InputError(f"config.json of the draft {draft.name} is no object", "export it again")
    if "transformer_layer_config" in config or "speculators_config" in config:
        raise InputError(
            f"the draft {draft.name} is in vLLM's notation: its config is nested, and SGLang counts layers from the other end",
            "convert it: draftsmith convert DRAFT OUT --to sglang",
        )
    if config.get("norm_before_residual") and not own_models:
        raise InputError(
            f"the draft {draft.name} was trained with norm_before_residual, which SGLang ignores: it would accept little",
            f"train it without, or give SGLang a class that reads it ({OWN_MODELS} in engine.env)",
        )


def layers_of(ids: tuple[int, ...]) -> tuple[int, ...]:
    """Layer ids as SGLang's config has them, from Draftsmith's (k = residual stream after k layers): it adds one itself."""
    if min(ids, default=1) < 1:
        raise InputError("SGLang cannot name the embedding as a layer to read", "choose layers from 1 on")
    return tuple(k - 1 for k in sorted(set(ids)))


def _decided(flag: str) -> bool:
    name = re.split("=", flag, maxsplit=1)[0].replace("_", "-")
    return name in RESERVED or name.startswith("--speculative-")

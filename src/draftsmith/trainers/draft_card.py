"""README.md of a packaged draft: what it is, what it is for, how to serve it, and what its numbers are not."""

from __future__ import annotations

import json
from typing import Any

from draftsmith.contract.draft import DraftManifest, TargetFacts
from draftsmith.trainers.layers import to_specforge


def draft_card(manifest: DraftManifest, config: dict[str, Any], target: TargetFacts, target_name: str) -> str:
    """The card as Markdown. Pure; tells no path and no text of the traffic."""
    rows = [
        ("Target", f"{target_name} ({target.architecture}, {target.num_layers} layers, {target.dtype})"),
        ("Target sha256", f"`{manifest.target_sha256}`"),
        ("Method", manifest.method),
        ("Layers read", _layers(manifest)),
        ("Draft vocabulary", f"{manifest.draft_vocab_size} of {manifest.target_vocab_size} tokens"),
        ("Embeddings, output head", ", ".join(_owned(manifest))),
        ("Trained with", _trainer(manifest)),
        ("Trained tokens", f"{manifest.trained_tokens}" if manifest.trained_tokens is not None else "not recorded"),
        ("Epoch", f"{manifest.epoch}" if manifest.epoch is not None else "not recorded"),
        ("Corpus sha256", f"`{manifest.corpus_sha256}`" if manifest.corpus_sha256 else "not recorded"),
    ]
    if manifest.warm_start_from:
        rows.append(("Started from", f"`{manifest.warm_start_from}`"))
    table = "\n".join(f"| {name} | {value} |" for name, value in rows)
    return f"""---
library_name: vllm
tags:
- speculative-decoding
- {manifest.method}
---

# Draft for {target_name}

A small model that proposes tokens for {target_name}, which checks each of them: answers stay the target's own.
It works with this target only, and is tailored to the traffic it was trained on. On other traffic it may make serving
slower.

| | |
|---|---|
{table}

## Serve it

```
vllm serve <target> --speculative-config '{_speculative(manifest, config)}'
```

## Acceptance

{_acceptance(manifest)}
"""


def _layers(manifest: DraftManifest) -> str:
    ids = list(manifest.layer_ids)
    other = f"; SpecForge notation {list(to_specforge(ids))}" if min(ids, default=0) >= 1 else ""
    return f"{ids} (residual stream after k layers{other})"


def _owned(manifest: DraftManifest) -> tuple[str, str]:
    return (
        "own embeddings" if manifest.has_own_embeddings else "the target's embeddings",
        "own head" if manifest.has_own_lm_head else "the target's head",
    )


def _trainer(manifest: DraftManifest) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in sorted(manifest.versions.items()))
    return f"{manifest.trainer}{f' ({versions})' if versions else ''}"


def _speculative(manifest: DraftManifest, config: dict[str, Any]) -> str:
    serving = config.get("speculators_config") or {}
    tokens = (serving.get("proposal_methods") or [{}])[0].get("speculative_tokens", 3)
    value = {
        "method": "eagle3" if manifest.method == "peagle" else manifest.method,
        "model": "<this folder>",
        "num_speculative_tokens": tokens,
    }
    if manifest.method == "peagle":
        value["parallel_drafting"] = True
    return json.dumps(value)


def _acceptance(manifest: DraftManifest) -> str:
    if not manifest.validation_acceptance:
        return "Not measured in training. Only a comparison against the serving configuration says what it is worth."
    shares = ", ".join(f"{share:.3f}" for share in manifest.validation_acceptance)
    return (
        f"Per position on validation rows, teacher-forced during training: {shares}. This is no measurement of serving:"
        "\nonly a comparison against the serving configuration says what the draft is worth."
    )

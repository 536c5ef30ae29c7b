"""Loaded by the engine through `--worker-extension-cls`: importing it puts the rule of `synthetic_acceptance` in place."""

from __future__ import annotations

from vllm.v1.sample import rejection_sampler

from draftsmith.work.inside.synthetic_acceptance import install


class Extension:
    """Adds nothing to the worker; naming it makes the engine import this module before it loads a model."""


install(rejection_sampler)

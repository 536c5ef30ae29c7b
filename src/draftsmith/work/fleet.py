"""The servers of a comparison: all up together where memory allows, else one at a time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager

import psutil

from draftsmith import wiring
from draftsmith.contract.config import Config
from draftsmith.contract.errors import InputError
from draftsmith.contract.measure import Arm, EngineFacts
from draftsmith.engines import vllm_metrics
from draftsmith.engines.base import Server, ServerSpec
from draftsmith.engines.vllm import VllmEngine
from draftsmith.work.job import Job
from draftsmith.work.measure import Endpoint
from draftsmith.work.servers import serving

CPU_PROCESS_GIB = 3.0  # resident size of one CPU server beside its weights and KV cache, as measured
RESERVE_GIB = 2.0


class Fleet:
    """Arms by name, and how to reach them. `facts` gains an entry for every server start."""

    def __init__(self, job: Job, config: Config, engine: VllmEngine, target: str, weight_bytes: int) -> None:
        self.job, self.config, self.engine, self.target = job, config, engine, target
        self.weight_bytes = weight_bytes
        self.facts: list[tuple[str, EngineFacts]] = []

    def fits(self, arms: int) -> bool:
        """Whether so many servers can be resident together. On a GPU the share of each shrinks instead."""
        if self.config.compare.resident != "auto":
            return self.config.compare.resident == "yes"
        found, _ = self.engine.installed(self._spec(Arm(name="probe", role="other"), 1))
        if found.device != "cpu":
            return True
        each = self.config.engine.cpu_kv_gib + CPU_PROCESS_GIB + self.weight_bytes / 2**30
        return psutil.virtual_memory().available / 2**30 >= arms * each + RESERVE_GIB

    @contextmanager
    def up(self, arms: Mapping[str, Arm]) -> Iterator[dict[str, Endpoint]]:
        """All of `arms` together, started side by side; endpoints of the user are looked up and left alone."""
        own = {name: self._spec(arm, len(arms)) for name, arm in arms.items() if arm.endpoint is None}
        with ExitStack() as stack:
            servers = stack.enter_context(serving(self.job, self.engine, own, self.config.engine.start_timeout_s))
            endpoints = {name: self._started(name, server) for name, server in servers.items()}
            endpoints |= {name: self._external(arm) for name, arm in arms.items() if arm.endpoint is not None}
            yield {name: endpoints[name] for name in arms}

    def _spec(self, arm: Arm, residents: int) -> ServerSpec:
        _found, known = self.engine.installed(wiring.server_spec(self.config, self.target))
        per_request = arm.spec_config is not None and known.per_request_metrics
        return wiring.server_spec(
            self.config,
            self.target,
            spec_config=arm.spec_config,
            flags=arm.flags,
            residents=residents,
            per_request=per_request,
        )

    def _started(self, name: str, server: Server) -> Endpoint:
        facts = self.engine.facts(server)
        self.facts.append((name, facts))
        return Endpoint(server.url, server.spec.served_name, server.start_id, facts.kv_tokens)

    def _external(self, arm: Arm) -> Endpoint:
        url = (arm.endpoint or "").rstrip("/").removesuffix("/v1")
        who = vllm_metrics.identity(url)
        if who.model is None:
            raise InputError(f"{arm.endpoint} does not name its model", f"check the endpoint of arm {arm.name}")
        start_id = who.start_id or f"{arm.name}-unknown"
        facts = EngineFacts(version=who.version, start_id=start_id, max_model_len=who.max_model_len)
        self.facts.append((arm.name, facts))
        return Endpoint(url, who.model, start_id)

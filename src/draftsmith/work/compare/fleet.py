"""The servers of a comparison: rendered from a specification, started from the user's own command, or running already."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

import psutil

from draftsmith import wiring
from draftsmith.client.replay import served_model
from draftsmith.contract.config import Config
from draftsmith.contract.errors import EngineError, InputError, PrerequisiteError
from draftsmith.contract.measure import Arm, EngineFacts
from draftsmith.engines.base import Engine, Server, ServerSpec, free_port
from draftsmith.engines.catalog import ENGINES
from draftsmith.kit import gpu, hardware, load, processes
from draftsmith.kit.addresses import LOOPBACK_NAMES
from draftsmith.trainers.fit import fit
from draftsmith.trainers.target_config import read_config
from draftsmith.work.compare import commands, loaded
from draftsmith.work.compare.trial import Endpoint
from draftsmith.work.job import Watched
from draftsmith.work.servers import serving

CPU_PROCESS_GIB = 3.0  # resident size of one CPU server beside its weights and KV cache, as measured
RESERVE_GIB = 2.0


class Servers(Protocol):
    """Arms by name, and how to reach them. `facts` gains an entry for every server start."""

    facts: list[tuple[str, EngineFacts]]

    @property
    def served(self) -> str | None:
        """Fingerprint of the standing deployment that the servers are copies of; None if they are of none."""
        ...

    def tidy(self) -> None:
        """Stop what an earlier attempt left running, if anybody else would not."""
        ...

    def together(self, arms: Sequence[Arm]) -> bool:
        """Whether the servers of all arms are up at once."""
        ...

    def restartable(self, arms: Sequence[Arm]) -> bool:
        """Whether a server that died can be started again from here."""
        ...

    def up(self, arms: Mapping[str, Arm]) -> AbstractContextManager[dict[str, Endpoint]]:
        """Servers of these arms, ready; stopped on every way out."""
        ...


class Fleet:
    """Servers of this job, on this machine, and those of the user that run already. See Servers."""

    served: str | None = None

    def __init__(
        self, job: Watched, config: Config, engine: Engine, target: str, weight_bytes: int, *, cwd: str | None = None
    ) -> None:
        self.job, self.config, self.engine, self.target = job, config, engine, target
        self.weight_bytes = weight_bytes
        self.cwd = Path(cwd or job.workdir)
        self.facts: list[tuple[str, EngineFacts]] = []
        self._starts = itertools.count(1)
        self._said: set[str] = set()
        self._engines: dict[str, Engine] = {engine.name: engine}

    def tidy(self) -> None:
        """Nothing: processes of an earlier attempt are stopped before the job begins."""

    def together(self, arms: Sequence[Arm]) -> bool:
        """Whether all servers can be resident. On a GPU the share of a rendered one shrinks; of a full command it cannot."""
        own = [arm for arm in arms if arm.endpoint is None]
        if self.config.compare.resident != "auto" or len(own) < 2:
            return self.config.compare.resident != "no"
        if any(arm.command for arm in own):
            if hardware.gpu_names():
                return False
        elif self.engine.installed(wiring.server_spec(self.config, self.target))[0].device != "cpu":
            return self._fit_gpus(len(own))
        return self._memory_for(len(own))

    def restartable(self, arms: Sequence[Arm]) -> bool:
        """See Servers."""
        return all(arm.endpoint is None for arm in arms)

    def fits(self, arms: int) -> bool:
        """Whether this many rendered servers can be up together."""
        return self.together([Arm(name=f"probe-{n}", role="other") for n in range(arms)])

    def _fit_gpus(self, servers: int) -> bool:
        """By the target's own weights and cache; where the GPUs do not tell their size, yes: the engine will say."""
        sizes = gpu.sizes_gib()
        if not sizes:
            return True
        gpus, engine = self.config.engine.gpus_a_server, self.config.engine
        config, weights = read_config(Path(self.target)), self.weight_bytes
        return fit(config, weights, gpus, min(sizes), context=engine.max_model_len, residents=servers).fits

    def _memory_for(self, servers: int) -> bool:
        each = self.config.engine.cpu_kv_gib + CPU_PROCESS_GIB + self.weight_bytes / 2**30
        return psutil.virtual_memory().available / 2**30 >= servers * each + RESERVE_GIB

    @contextmanager
    def up(self, arms: Mapping[str, Arm]) -> Iterator[dict[str, Endpoint]]:
        """All of `arms` together, started side by side; endpoints of the user are looked up and left alone."""
        own: dict[str, ServerSpec | Callable[[], Server]] = {
            name: partial(self._start_command, arm) if arm.command else self._spec(arm, len(arms))
            for name, arm in arms.items()
            if arm.endpoint is None
        }
        engines = {name: self._engine(arms[name].engine) for name in own}
        with serving(self.job, engines, own, self.config.engine.start_timeout_s) as servers:
            endpoints = {name: self._started(arms[name], server) for name, server in servers.items()}
            endpoints |= {name: self._external(arm) for name, arm in arms.items() if arm.endpoint is not None}
            if uneven := loaded.warm_alone(self._served(arms, endpoints)):
                self._say(uneven)
            yield {name: endpoints[name] for name in arms}

    def _served(self, arms: Mapping[str, Arm], endpoints: Mapping[str, Endpoint]) -> dict[str, int]:
        """Requests that each server with a prefix cache answered before; nothing where none ran already."""
        keeps = {name for name, facts in self.facts if facts.prefix_caching}
        served = {
            name: loaded.served(reached.engine, reached.url)
            for name, reached in endpoints.items()
            if name in keeps and reached.engine is not None
        }
        return served if any(arms[name].endpoint for name in served) else {}

    def _engine(self, kind: str) -> Engine:
        """The engine of an arm; its servers are in the registry of this job too."""
        if kind not in self._engines:
            self._engines[kind] = wiring.engine(wiring.of_engine(self.config, kind), self.engine.registry)
        return self._engines[kind]

    def _spec(self, arm: Arm, residents: int) -> ServerSpec:
        config = wiring.of_engine(self.config, arm.engine)
        _found, known = self._engine(arm.engine).installed(wiring.server_spec(config, self.target))
        if known.note:
            self._say(known.note)
        per_request = arm.spec_config is not None and known.per_request_metrics
        return wiring.server_spec(
            config,
            self.target,
            spec_config=arm.spec_config,
            flags=arm.flags,
            residents=residents,
            per_request=per_request,
        )

    def _start_command(self, arm: Arm) -> Server:
        """The user's own command, on a free port, in the folder that the user stands in, recorded in the registry."""
        settings, host = wiring.of_engine(self.config, arm.engine).engine, self.config.engine.host
        spec = ServerSpec(
            model=arm.name,
            served_name=arm.name,
            host=host,
            port=free_port(host),
            env={**settings.env, **arm.env},
            cpu_kv_gib=settings.cpu_kv_gib,
            python=settings.python,
        )
        command = self._engine(arm.engine).own(arm.command or (), spec)
        process = processes.start(
            commands.render(command.argv, host, spec.port),
            registry=self.engine.registry,
            label=f"{arm.name} :{spec.port}",
            log=self.job.workdir / "servers" / f"{arm.name.replace('/', '_')}-{os.getpid()}-{next(self._starts)}.log",
            env={**os.environ, **command.env},
            cwd=self.cwd,
        )
        return Server(spec=spec, process=process, start_id=process.record.token)

    def _started(self, arm: Arm, server: Server) -> Endpoint:
        engine = self._engine(arm.engine)
        facts = engine.facts(server)
        self.facts.append((arm.name, facts))
        own_processes = tuple(processes.members(server.process.record))
        known = arm.command is None
        return Endpoint(
            server.url,
            server.spec.served_name if known else served_model(server.url),
            server.start_id,
            facts.kv_tokens,
            counted=known or _counts(engine, server.url),
            processes=own_processes,
            engine=engine,
            asks=engine.asks(facts.version),
            method=facts.spec_method,
        )

    def _external(self, arm: Arm) -> Endpoint:
        """A server that runs already. What it does not publish (counters, version, start) stays unknown."""
        url = (arm.endpoint or "").rstrip("/").removesuffix("/v1")
        key = api_key(self.config)
        try:
            model = served_model(url, key)
        except InputError as error:
            raise InputError(error.message, f"check the address of arm {arm.name}") from None
        published = self._published(arm, url, key)
        engine, facts = published or (None, EngineFacts(engine="unknown", start_id=""))
        process_start = facts.start_id or None
        facts = facts.model_copy(update={"start_id": process_start or f"{arm.name}-unknown"})
        self.facts.append((arm.name, facts))
        for sentence in loaded.cautions(arm.name, engine, facts):
            self._say(sentence)
        return Endpoint(
            url,
            model,
            facts.start_id,
            facts.kv_tokens,
            counted=engine is not None or _counts(self.engine, url),
            process_start=process_start,
            api_key=key,
            processes=_listening(url),
            engine=engine,
            asks=engine.asks(facts.version) if engine else {},
        )

    def _say(self, sentence: str) -> None:
        """Once, before its server is measured."""
        if sentence not in self._said:
            self._said.add(sentence)
            self.job.say(sentence)

    def _published(self, arm: Arm, url: str, key: str | None) -> tuple[Engine, EngineFacts] | None:
        """Which engine a running server belongs to, and its facts. The arm's own engine is tried first, then the others."""
        for kind in (arm.engine, *(kind for kind in ENGINES if kind != arm.engine)):
            engine = self._engine(kind)
            try:
                facts = engine.published(url, key)
                engine.asks(facts.version)
            except (EngineError, ValueError):
                continue
            except PrerequisiteError as error:
                self._say(f"{arm.name}: {error.message}: what it publishes is not read")
                continue
            return engine, facts
        return None


def _counts(engine: Engine, url: str) -> bool:
    """Whether the server publishes the engine's counters."""
    try:
        engine.reading(url)
    except EngineError:
        return False
    return True


def api_key(config: Config) -> str | None:
    """The key of servers that are not started here, if they want one. Raises PrerequisiteError if it is not there."""
    name = config.compare.api_key_env
    key = os.environ.get(name) if name else None
    if name and not key:
        raise PrerequisiteError(f"the environment has no {name}", "export it, or leave compare.api_key_env out")
    return key


def _listening(url: str) -> tuple[psutil.Process, ...] | None:
    """The processes behind a server of the user on this machine, so that they do not count as others; None if unknown."""
    parts = urlsplit(url)
    if parts.hostname not in LOOPBACK_NAMES or parts.port is None:
        return None
    listening = load.listening(parts.port)
    return tuple(listening) if listening else None

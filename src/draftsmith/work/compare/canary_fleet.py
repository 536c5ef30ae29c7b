"""The arms of a comparison as canaries in a cluster: copies of what serves, beside it, on one node.

Every start makes them anew, so that two starts differ here as they do in production. The first start says what was
copied and on which node (`canaries.json`); later ones are held to it, also after a crash.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from draftsmith import wiring
from draftsmith.client.replay import served_model
from draftsmith.contract.base import Frozen
from draftsmith.contract.config import Config
from draftsmith.contract.errors import DraftsmithError, EngineLostError, PrerequisiteError
from draftsmith.contract.jobs import CanaryRequest
from draftsmith.contract.measure import Arm, EngineFacts
from draftsmith.engines.base import Engine
from draftsmith.kit.files import private_dir, read_json, write_atomic, write_json
from draftsmith.serving.canary.canaries import Canaries
from draftsmith.serving.canary.ready import CanaryServer
from draftsmith.serving.canary.text import ArmPlan
from draftsmith.work.compare.fleet import api_key
from draftsmith.work.compare.trial import Endpoint
from draftsmith.work.job import Watched

NOTE = "canaries.json"
REACH_S = 60.0  # a Service needs a moment after its pod is ready
LOOK_S = 0.2


class Copied(Frozen):
    """What the first start settled. `served`: fingerprint of the deployment that the canaries are copies of."""

    node: str | None = None
    served: str | None = None


class CanaryFleet:
    """See fleet.Servers. The cluster is touched only if the job's plan allows it."""

    def __init__(self, job: Watched, config: Config, request: CanaryRequest, engine: Engine) -> None:
        self.job, self.config, self.engine = job, config, engine
        self.experiment = request.experiment
        self.canaries: Canaries = wiring.canaries(config, Path(request.workspace), allow_cluster=request.allow_cluster)
        self.facts: list[tuple[str, EngineFacts]] = []
        self._file = job.workdir / NOTE
        self._copied = Copied.model_validate(read_json(self._file)) if self._file.exists() else Copied()

    @property
    def served(self) -> str | None:
        """See fleet.Servers."""
        return self._copied.served

    def together(self, arms: Sequence[Arm]) -> bool:
        """Whether all arms are up at once: `auto` asks the cluster whether an idle node has room for all of them."""
        if self.config.compare.resident != "auto":
            return self.config.compare.resident != "no"
        return self.canaries.fits(len(arms))

    def restartable(self, arms: Sequence[Arm]) -> bool:
        """A canary that was taken away is the cluster's decision: it is said, and not fought."""
        return False

    def tidy(self) -> None:
        """See fleet.Servers."""
        self.canaries.tidy(self.experiment)

    @contextmanager
    def up(self, arms: Mapping[str, Arm]) -> Iterator[dict[str, Endpoint]]:
        """All of `arms` together; gone from the cluster on the way out, whatever the way.

        Raises EngineLostError with the cluster's own reason if a canary is taken away meanwhile.
        """
        self.job.progress("starting canaries", 0, len(arms), "canaries")
        plans = [ArmPlan(arm.name, arm.spec_config, arm.flags) for arm in arms.values()]
        before = self._copied
        with self.canaries.up(self.experiment, plans, node=before.node, served=before.served) as servers:
            self._settle(next(iter(servers.values())))
            try:
                yield {name: self._endpoint(servers[name]) for name in arms}
            except EngineLostError as lost:
                raise self._explained(servers, lost) from None

    def _engine(self, server: CanaryServer) -> Engine:
        """The engine that the canary runs: what serves decides that, and not `engine.kind`."""
        if server.engine in ("", self.engine.name):
            return self.engine
        return wiring.engine(wiring.of_engine(self.config, server.engine), self.engine.registry)

    def _settle(self, first: CanaryServer) -> None:
        self._copied = Copied(node=first.node, served=first.served)
        write_json(self._file, self._copied)

    def _endpoint(self, server: CanaryServer) -> Endpoint:
        """How the canary is reached, with what its engine said of this start."""
        key = api_key(self.config)
        self._reach(server)
        engine = self._engine(server)
        facts = engine.facts_of(self.canaries.log(server), server.start_id)
        if facts.version is None:  # not every engine logs it
            facts = facts.model_copy(update={"version": engine.published(server.url).version})
        self.facts.append((server.arm, facts))
        return Endpoint(
            server.url,
            server.model or served_model(server.url, key),
            server.start_id,
            facts.kv_tokens,
            process_start=engine.reading(server.url).start_id,
            api_key=key,
            node=server.node,
        )

    def _reach(self, server: CanaryServer) -> None:
        engine = self._engine(server)
        clock = engine.clock
        end = clock.monotonic() + REACH_S
        while not engine.healthy(server.url):
            if clock.monotonic() >= end:
                raise PrerequisiteError(
                    f"canary {server.arm} is ready, and does not answer here at {server.url}",
                    "run where the cluster's Services are reached, or set serving.options.endpoint",
                )
            clock.sleep(LOOK_S)

    def _explained(self, servers: dict[str, CanaryServer], lost: EngineLostError) -> EngineLostError:
        """What the cluster knows of a canary that does not answer any more. Their logs are kept: they go with the pods."""
        reason = lost.message
        try:
            self.canaries.require_alive(servers)
        except EngineLostError as known:
            reason = known.message
        except DraftsmithError:
            pass  # its state is unknown
        folder = private_dir(self.job.workdir / "servers")
        for server in servers.values():
            with suppress(DraftsmithError):
                write_atomic(folder / f"{server.pod}.log", self.canaries.log(server))
        return EngineLostError(reason, f"run again: finished blocks are kept. The engines' logs are in {folder}")

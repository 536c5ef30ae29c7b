"""The real world of one workspace, put together from its configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from draftsmith import wiring
from draftsmith.contract.config import Config
from draftsmith.contract.profile import WorkloadProfile
from draftsmith.controller.cursor import require_local
from draftsmith.controller.hands import WorldHands
from draftsmith.controller.jobs import RunJobs
from draftsmith.controller.journal import Journal
from draftsmith.controller.live import LiveReader
from draftsmith.controller.managed import ManagedHands
from draftsmith.controller.notify import Notifier
from draftsmith.controller.traffic import TrafficReader
from draftsmith.kit.clock import Clock


def hands_of(config: Config, sources: list[str], journal: Journal, *, allow_cluster: bool, clock: Clock) -> WorldHands:
    """Everything that the controller of `config` looks at and acts with. Raises ConfigError, PrerequisiteError."""
    require_local(sources)
    policy, workspace = config.controller, journal.workspace
    engine = wiring.engine(config)
    target = Path(str(config.target))

    def profiled(records: Path) -> WorkloadProfile:
        from draftsmith.corpus.redaction import shown_names
        from draftsmith.profiling.profile import build_profile

        tokenizer = target / "tokenizer.json"
        rename = shown_names(config.corpus)
        return build_profile([str(records)], tokenizer=tokenizer if tokenizer.exists() else None, rename=rename)

    def engine_name(url: str | None) -> str | None:
        if url is not None:
            return f"{engine.name} {engine.identify(url).version}"
        if config.serving.kind == "kubernetes":
            return None  # the image serves: its fingerprint is looked at before a promotion
        installation = engine.installation(config.engine.python)
        return f"{installation.engine} {installation.version}"

    parts: dict[str, Any] = {
        "config": config,
        "workspace": workspace,
        "serving": wiring.serving(config, workspace, allow_cluster=allow_cluster),
        "engine": engine,
        "traffic": TrafficReader(journal.folder, sources, policy, profiled),
        "jobs": RunJobs(journal.folder / "runs", config, allow_cluster=allow_cluster),
        "live": LiveReader(engine, policy),
        "notifier": Notifier(target.name, policy.notify),
        "target": lambda: wiring.target(config, target).sha256,
        "engine_name": engine_name,
        "clock": clock,
        "keep": journal.looked,
    }
    if config.serving.kind != "managed":
        return WorldHands(**parts)
    fleet = wiring.fleet(config, workspace)
    return ManagedHands(**parts, fleet=fleet, standby=fleet.options.standby)

"""What a service needs of this machine beside what the loop needs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from importlib.util import find_spec

from draftsmith.api.findings import Check
from draftsmith.contract.config import Config
from draftsmith.contract.errors import ConfigError
from draftsmith.serving.managed.options import parse_managed
from draftsmith.serving.managed.proxy import GET_IT


def service_checks(config: Config) -> Iterator[Check]:
    """HAProxy for a managed service, apprise for notifications; nothing if neither is configured."""
    if config.serving.kind == "managed":
        try:
            program = parse_managed(config.serving).haproxy
        except ConfigError as error:
            yield Check("proxy", "missing", error.message, error.next_step)
            return
        executable = shutil.which(program)
        yield (
            Check("proxy", "ok", f"HAProxy at {executable}")
            if executable
            else Check("proxy", "missing", f"{program} is not installed: a managed service needs it", GET_IT)
        )
    if config.controller.notify and find_spec("apprise") is None:
        yield Check(
            "notify",
            "missing",
            "controller.notify is set and apprise is not installed",
            "pip install 'draftsmith[notify]'",
        )

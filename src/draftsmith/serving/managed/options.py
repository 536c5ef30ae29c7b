"""`[serving.options]` of draftsmith.toml when `serving.kind = "managed"`."""

from __future__ import annotations

from urllib.parse import urlsplit

from pydantic import Field, ValidationError

from draftsmith.contract.base import Frozen
from draftsmith.contract.config import ServingConfig
from draftsmith.contract.errors import ConfigError


class ManagedOptions(Frozen):
    """How the served model is run here. The address that clients use is `serving.endpoint`."""

    haproxy: str = Field("haproxy", description="path of HAProxy, or a name in PATH")
    served_name: str = Field("target", description="model name that clients request")
    standby: bool = Field(
        True,
        description="keep a replica without the draft running, so that a fallback takes seconds; it needs the memory of a server",
    )
    drain_s: float = Field(600.0, ge=0, description="seconds that requests in flight may take when a side is stopped")
    record_to: str | None = Field(
        None, description="folder that the engines' recorder writes to; absent = not recorded"
    )
    warm_requests: int = Field(4, ge=1, description="requests that a new engine answers before live traffic reaches it")
    hot_swap: bool = Field(
        False,
        description="replace a draft of the same shape inside the running engine, if it takes all of the traffic at once; vLLM, and SGLang from 0.5.22 on",
    )
    room_gib: float = Field(1.0, ge=0, description="memory that must stay free when a second engine starts, in GiB")


def parse_managed(serving: ServingConfig) -> ManagedOptions:
    """The options of a managed service. Raises ConfigError naming every wrong key."""
    try:
        return ManagedOptions.model_validate(serving.options)
    except ValidationError as error:
        wrong = "; ".join(f"serving.options.{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
        raise ConfigError(wrong, f"known here: {', '.join(ManagedOptions.model_fields)}") from None


def address(serving: ServingConfig) -> tuple[str, int]:
    """Host and port that clients use. Raises ConfigError without a usable serving.endpoint."""
    try:
        parts = urlsplit(serving.endpoint or "")
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if host is None or port is None:
        raise ConfigError(
            "a managed service needs serving.endpoint with a port: the address that clients use",
            'for example endpoint = "http://127.0.0.1:8000"',
        )
    return host, port

"""The proxy's configuration, the words of its runtime socket, and what it tells. Pure."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable

from draftsmith.contract.base import Frozen

BACKEND = "engines"
SLOTS = ("a", "b", "c")
"""Places for engines: what serves, what comes in, and a standby. The configuration never changes, so nothing is reloaded."""


class SlotStats(Frozen):
    """One server as HAProxy sees it. `current`: requests in flight; `errors`: 5xx, failed connections, broken answers."""

    slot: str
    status: str
    weight: int
    current: int
    total: int
    errors: int

    @property
    def up(self) -> bool:
        """Whether its health check passes and it may take requests."""
        return self.status.startswith("UP") or self.status == "no check"


def config_text(host: str, port: int, socket: str) -> str:
    """haproxy.cfg: one front, one backend with fixed places, all of them closed at first.

    A connection that an engine refuses is tried again elsewhere. An answer that has begun is never cut: time-outs are
    longer than any generation, and a side that is drained ends its requests first.
    """
    listen = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    servers = "\n".join(f"    server {slot} 127.0.0.1:9 weight 0 check disabled" for slot in SLOTS)
    return f"""# Written by draftsmith; it is switched through its runtime socket and never edited.
global
    stats socket {socket} mode 600 level admin
    stats timeout 1m
    maxconn 8192

defaults
    mode http
    log global
    timeout connect 5s
    timeout client 1h
    timeout server 1h
    timeout http-request 1m
    timeout http-keep-alive 1m
    timeout queue 1m
    retries 3
    option redispatch 1
    retry-on conn-failure
    default-server inter 1s fall 2 rise 1 on-error fastinter

frontend clients
    bind {listen}
    default_backend {BACKEND}

backend {BACKEND}
    balance roundrobin
    option httpchk GET /health
{servers}
"""


def open_words(slot: str, host: str, port: int) -> list[str]:
    """Point a place at an engine and let it in, with no traffic yet."""
    server = f"{BACKEND}/{slot}"
    return [
        f"set server {server} addr {host} port {port}",
        f"set server {server} weight 0",
        f"set server {server} state ready",
        f"enable health {server}",
    ]


def weight_words(slot: str, share: int) -> str:
    """Give a place a share of the traffic."""
    return f"set server {BACKEND}/{slot} weight {share}"


def drain_words(slot: str) -> str:
    """No new requests; those in flight go on."""
    return f"set server {BACKEND}/{slot} state drain"


def close_words(slot: str) -> str:
    """Take a place out."""
    return f"set server {BACKEND}/{slot} state maint"


def read_stats(text: str) -> dict[str, SlotStats]:
    """`show stat` by place. Raises ValueError if it is none."""
    rows = csv.DictReader(io.StringIO(text.lstrip("# ").lstrip()))
    stats = {
        row["svname"]: SlotStats(
            slot=row["svname"],
            status=row["status"],
            weight=_number(row["weight"]),
            current=_number(row["scur"]),
            total=_number(row["stot"]),
            errors=_number(row["hrsp_5xx"]) + _number(row["econ"]) + _number(row["eresp"]),
        )
        for row in rows
        if row.get("pxname") == BACKEND and row.get("svname") in SLOTS
    }
    if not stats:
        raise ValueError("no servers in the answer")
    return stats


def weights(shares: Iterable[tuple[str, int]]) -> list[str]:
    """Commands that set shares, growing shares first, so that at every moment some server takes traffic."""
    return [weight_words(slot, share) for slot, share in sorted(shares, key=lambda pair: -pair[1])]


def _number(text: str | None) -> int:
    return int(text) if text and text.isdigit() else 0

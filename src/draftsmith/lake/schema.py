"""The columns of the lake's tables, version 1. One may be added, and is null before; none is renamed nor retyped: that would be another version."""

from __future__ import annotations

from typing import Any

import pyarrow as pa

from draftsmith.lake.rows import SCHEMA_VERSION

_KEY = {"manifest_sha256": pa.string(), "campaign": pa.string()}
_ENGINE = {
    "role": pa.string(),
    "method": pa.string(),
    "k": pa.int64(),
    "draft_sha256": pa.string(),
    "engine": pa.string(),
    "engine_version": pa.string(),
}
_SPEED = {"speedup": pa.float64(), "speedup_low": pa.float64(), "speedup_high": pa.float64()}
_GUARD = {"name": pa.string(), "passed": pa.bool_(), "observed": pa.float64(), "limit": pa.float64()}

TABLES = {
    "campaigns": _KEY
    | {"measured_unix_s": pa.float64()}
    | dict.fromkeys(("model", "hardware", "outcome", "tier", "reason", "winner", "candidate", "baseline"), pa.string())
    | {"primary_point": pa.string(), "cell": pa.string(), "rigor": pa.string()}
    | _SPEED
    | {"confidence": pa.float64(), "aa_floor": pa.float64(), "trials": pa.int64(), "nodes": pa.int64()}
    | {"plan_sha256": pa.string(), "samples_sha256": pa.string()}
    | {name: kind for name, kind in _ENGINE.items() if name != "role"},
    "pairs": _KEY
    | {"candidate": pa.string(), "baseline": pa.string(), "point": pa.string()}
    | {"concurrency": pa.int64(), "blocks": pa.int64()}
    | _SPEED
    | {"min_speedup": pa.float64(), "outcome": pa.string(), "reason": pa.string()}
    | {"guards": pa.list_(pa.struct(_GUARD))},
    "arms": _KEY
    | {"arm": pa.string(), "point": pa.string(), "baseline": pa.bool_(), "concurrency": pa.int64()}
    | dict.fromkeys(("isl_p50", "osl_p50", "trials", "requests", "errors", "preemptions", "kv_tokens"), pa.int64())
    | dict.fromkeys(
        (
            "median_tpot_s",
            "p99_tpot_s",
            "server_mean_tpot_s",
            "median_ttft_s",
            "throughput_tok_s",
            "acceptance_length",
            "tokens_per_step",
        ),
        pa.float64(),
    )
    | {"acceptance_by_position": pa.list_(pa.float64())}
    | _ENGINE
    | {"device": pa.string(), "dtype": pa.string(), "graph_mode": pa.string(), "enforce_eager": pa.bool_()}
    | {"max_num_seqs": pa.int64(), "prefix_caching": pa.bool_()},
}
PARTITIONS = {"schema": pa.int32(), "family": pa.string(), "date": pa.string()}


def schema_of(table: str) -> Any:
    """The stored columns of a table."""
    return pa.schema(list(TABLES[table].items()))


def table_of(table: str, rows: list[dict[str, Any]], manifest_sha256: str) -> Any:
    """Rows as an Arrow table that names its bundle and version. Raises pyarrow.ArrowInvalid for a value of another type."""
    named = {"draftsmith.manifest_sha256": manifest_sha256, "draftsmith.lake_schema": str(SCHEMA_VERSION)}
    return pa.Table.from_pylist(rows, schema=schema_of(table)).replace_schema_metadata(named)

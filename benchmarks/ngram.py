"""Whether the replay of n-gram lookup says what the engine reports, request by request.

    python benchmarks/ngram.py --data DIR --target FOLDER --out DIR [--tenants rewrite sql chat] [--requests 48]

DIR of --data holds <tenant>.jsonl files (id, messages). One vLLM server with method ngram answers them greedily; the access
log keeps the engine's own token ids. The replay then gets those ids and nothing else, and is compared with the engine's
counters: acceptance length (steps that drafted) and tokens per step (all decode steps). Logs that are there already are not
recorded again; `--table` starts no server. A short --max-model-len shows how the end of the context is treated; take
--concurrency 1 with it, as the longest request of a batch decides for all others there.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

from draftsmith.client.log import record
from draftsmith.contract.access import AccessRecord
from draftsmith.contract.measure import SpecCounters
from draftsmith.engines.base import ServerSpec
from draftsmith.engines.vllm.engine import VllmEngine
from draftsmith.kit.files import private_dir, read_json, read_lines, write_atomic
from draftsmith.profiling.acceptance import LOOKUP
from draftsmith.profiling.simulate import SimCounts, simulate_ngram_many

TENANTS = ("rewrite", "sql", "chat")


def speculation(options: argparse.Namespace) -> dict[str, object]:
    """The engine's setting; the lookup lengths are those that the profile predicts with."""
    return {"method": "ngram", "num_speculative_tokens": options.k, **LOOKUP}


def measure(options: argparse.Namespace) -> None:
    """Answer every tenant's prompts, and keep what the counters moved by."""
    out = private_dir(options.out)
    engine = VllmEngine(private_dir(out / "processes"))
    server = engine.start(
        ServerSpec(
            model=str(options.target),
            spec_config=speculation(options),
            max_num_seqs=options.concurrency,
            max_model_len=options.max_model_len,
            per_request_metrics=True,
        ),
        out / "servers",
    )
    try:
        engine.wait_ready(server, 900)
        for tenant in options.tenants:
            before = engine.counters(server.url)
            figures = record(
                prompts(options, tenant),
                out / f"log-{tenant}.jsonl",
                endpoint=server.url,
                concurrency=options.concurrency,
            )
            moved = engine.diff(before, engine.counters(server.url))
            if figures["answered"]:
                write_atomic(out / f"counters-{tenant}.json", moved.model_dump_json())
            print(f"{tenant}: {figures['answered']} answers, {figures['output_tokens']} tokens", flush=True)
    finally:
        engine.stop(server)


def prompts(options: argparse.Namespace, tenant: str) -> Path:
    """The first prompts of a tenant, all with the same limit."""
    path = options.out / f"prompts-{tenant}.jsonl"
    rows = (json.loads(line) for line in read_lines(options.data / f"{tenant}.jsonl"))
    kept = [
        {"id": row["id"], "messages": row["messages"]} for _, row in zip(range(options.requests), rows, strict=False)
    ]
    write_atomic(path, "".join(json.dumps({**row, "max_tokens": options.max_tokens}) + "\n" for row in kept))
    return path


def table(options: argparse.Namespace) -> Iterator[str]:
    """Predicted and reported figures of every tenant as a Markdown table."""
    yield "| tenant | requests | answer tokens | AL predicted | reported | error | tokens a step predicted | reported | error |"
    yield "|---|---|---|---|---|---|---|---|---|"
    for tenant in options.tenants:
        records = [AccessRecord.model_validate_json(line) for line in read_lines(options.out / f"log-{tenant}.jsonl")]
        engine = SpecCounters.model_validate(read_json(options.out / f"counters-{tenant}.json"))
        each = simulate(options, records)
        simulated = sum(each, SimCounts())
        yield (
            f"| {tenant} | {len(records)} | {simulated.output_tokens} | {compared(simulated.acceptance_length, engine.acceptance_length)} "
            f"| {compared(simulated.tokens_per_step, engine.tokens_per_step)} |"
        )
        if options.each:
            yield from differences(records, each)


def simulate(options: argparse.Namespace, records: list[AccessRecord]) -> list[SimCounts]:
    """The replay of recorded ids."""
    pairs = [(record.prompt_token_ids or [], record.output_token_ids or []) for record in records]
    low, high = LOOKUP["prompt_lookup_min"], LOOKUP["prompt_lookup_max"]
    return simulate_ngram_many(pairs, k=options.k, lookup_min=low, lookup_max=high, max_model_len=options.max_model_len)


def compared(predicted: float | None, reported: float | None) -> str:
    """`predicted | reported | error`."""
    if predicted is None or reported is None:
        return f"{predicted} | {reported} | -"
    return f"{predicted:.3f} | {reported:.3f} | {(predicted / reported - 1) * 100:+.2f} %"


def differences(records: list[AccessRecord], each: list[SimCounts]) -> Iterator[str]:
    """Requests whose counts the replay did not get exactly: (drafts, drafted, accepted) predicted and reported."""
    for item, simulated in zip(records, each, strict=True):
        spec = item.spec
        if spec and (simulated.drafts, simulated.draft_tokens, simulated.accepted) != (
            spec.drafts,
            spec.draft_tokens,
            spec.accepted_tokens,
        ):
            yield (
                f"  {item.id} {item.finish_reason}, {simulated.output_tokens} tokens: predicted {simulated.drafts} {simulated.draft_tokens} "
                f"{simulated.accepted}, reported {spec.drafts} {spec.draft_tokens} {spec.accepted_tokens}"
            )


def main() -> None:
    """Parse, measure, compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--target", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--tenants", nargs="+", default=list(TENANTS))
    parser.add_argument("--requests", type=int, default=48)
    parser.add_argument("--max-tokens", type=int, default=128)
    parser.add_argument("--concurrency", type=int, default=4)
    parser.add_argument("--max-model-len", type=int, default=2048)
    parser.add_argument("--k", type=int, default=3)
    parser.add_argument("--each", action="store_true", help="name the requests whose counts differ")
    parser.add_argument("--table", action="store_true", help="compare what was recorded; start nothing")
    options = parser.parse_args()
    if not options.table:
        measure(options)
    for line in table(options):
        print(line)


if __name__ == "__main__":
    main()

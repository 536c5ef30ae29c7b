"""Hot swaps of a draft in a running vLLM under load: longest stall, failed requests, acceptance before and after each.

    python benchmarks/hot_swap.py --target FOLDER --draft FOLDER --out DIR [--swaps 20] [--in-flight 32]

The server starts with the draft. Then it is swapped for one that proposes nothing of use (the same weights, the columns of one
matrix shuffled) and back, in turn, while `--in-flight` requests stream without a pause. The baseline of every figure is the same
load in the same server without swaps, before the first. Exit code 1 if a request failed, a swap was not proved, or the
acceptance did not follow the draft.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import shutil
import statistics
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from draftsmith import wiring
from draftsmith.contract.config import Config, EngineConfig
from draftsmith.engines.vllm.engine import VllmEngine
from draftsmith.engines.vllm.hot_swap import prepared, swap
from draftsmith.kit.files import private_dir, write_json
from draftsmith.traffic.demo import demo_prompts

SETTLE_S = 3.0  # of load between two swaps, over which acceptance is counted


@dataclass
class Load:
    """Requests without a pause, and when each of their chunks came."""

    url: str
    in_flight: int
    ended: threading.Event = field(default_factory=threading.Event)
    chunks: list[tuple[float, float]] = field(default_factory=list)  # (when, seconds since the one before it)
    answered: int = 0
    failed: list[str] = field(default_factory=list)

    def run(self) -> None:
        """Until told to end; for a thread."""
        asyncio.run(self._all())

    async def _all(self) -> None:
        prompts = itertools.cycle(demo_prompts(400))
        limits = httpx.Limits(max_connections=self.in_flight)
        async with httpx.AsyncClient(trust_env=False, timeout=120, limits=limits) as client:
            await asyncio.gather(*(self._one(client, prompts) for _ in range(self.in_flight)))

    async def _one(self, client: httpx.AsyncClient, prompts: itertools.cycle[dict[str, object]]) -> None:
        while not self.ended.is_set():
            body = {
                "model": wiring.SERVED_NAME,
                "messages": next(prompts)["messages"],
                "max_tokens": 128,
                "temperature": 0,
                "stream": True,
            }
            last = None
            try:
                async with client.stream("POST", f"{self.url}/v1/chat/completions", json=body) as answer:
                    if answer.status_code != httpx.codes.OK:
                        self.failed.append(f"status {answer.status_code}")
                        continue
                    whole = False
                    async for line in answer.aiter_lines():
                        now = time.monotonic()
                        if last is not None and line:
                            self.chunks.append((now, now - last))
                        last = now if line else last
                        whole = whole or line == "data: [DONE]"
                if whole:
                    self.answered += 1
                else:
                    self.failed.append("cut off")
            except httpx.HTTPError as error:
                self.failed.append(type(error).__name__)

    def longest(self, since: float, until: float) -> float:
        """The longest wait for a chunk that ended within this time, in seconds."""
        return max((wait for when, wait in self.chunks if since <= when <= until), default=0.0)


def shuffled(draft: Path, out: Path) -> Path:
    """A draft of the same shape that proposes nothing of use."""
    import torch
    from safetensors.torch import load_file, save_file

    shutil.copytree(draft, out, dirs_exist_ok=True)
    tensors = load_file(out / "model.safetensors")
    name = next(name for name in tensors if name.endswith("fc.weight"))
    order = torch.randperm(tensors[name].shape[1], generator=torch.Generator().manual_seed(0))
    tensors[name] = tensors[name][:, order].contiguous()
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    return out


def measured(engine: VllmEngine, load: Load, change: Callable[[], object]) -> dict[str, float | None]:
    """One change under load: how long it took, the longest stall around it, and the acceptance after it."""
    began = time.monotonic()
    change()
    took = time.monotonic() - began
    before = engine.reading(load.url)
    time.sleep(SETTLE_S)
    counted = engine.diff(before, engine.reading(load.url))
    return {
        "swap_s": took,
        "longest_stall_s": load.longest(began, time.monotonic()),
        "acceptance_length": counted.acceptance_length,
    }


def main() -> int:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", type=Path, required=True)
    parser.add_argument("--draft", type=Path, required=True, help="an EAGLE3 draft of it")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--swaps", type=int, default=20)
    parser.add_argument("--in-flight", type=int, default=32)
    parser.add_argument("--k", type=int, default=3)
    parser.add_argument("--kv-gib", type=float, help="the server's KV cache on a GPU; default: what is free")
    parser.add_argument("--gpu-memory-share", type=float, help="what it may take of a GPU that other work shares")
    options = parser.parse_args()
    out = private_dir(options.out.resolve())
    drafts = private_dir(out / "drafts")
    good = shutil.copytree(options.draft, drafts / "good", dirs_exist_ok=True)
    poor = shuffled(good, drafts / "poor")
    settings = EngineConfig(
        max_num_seqs=options.in_flight, gpu_kv_gib=options.kv_gib, gpu_memory_share=options.gpu_memory_share
    )
    config = Config(target=str(options.target), engine=settings)
    engine = VllmEngine(private_dir(out / "processes"))
    method = {"method": "eagle3", "model": str(good), "num_speculative_tokens": options.k}
    spec = wiring.server_spec(config, str(options.target), spec_config=method)
    server = engine.start(prepared(spec, out / "plugin", drafts), out / "servers")
    try:
        engine.wait_ready(server, 900)
        load = Load(server.url, options.in_flight)
        thread = threading.Thread(target=load.run)
        thread.start()
        time.sleep(SETTLE_S)
        plain = [measured(engine, load, lambda: None) for _ in range(3)]
        rows = [
            measured(engine, load, lambda draft=draft: swap(server.url, draft))
            for draft, _ in zip(itertools.cycle([poor, good]), range(options.swaps), strict=False)
        ]
        load.ended.set()
        thread.join()
    finally:
        engine.stop(server)
    return report(out, load, plain, rows)


def report(out: Path, load: Load, plain: list[dict[str, float | None]], rows: list[dict[str, float | None]]) -> int:
    """Print the table, write it, and say whether all was well."""
    before = statistics.fmean(row["acceptance_length"] or 0.0 for row in plain)
    stall = max(row["longest_stall_s"] or 0.0 for row in plain)
    goods = [row["acceptance_length"] or 0.0 for row in rows[1::2]]
    poors = [row["acceptance_length"] or 0.0 for row in rows[::2]]
    summary = {
        "swaps": len(rows), "in_flight": load.in_flight, "answered": load.answered, "failed": len(load.failed),
        "failures": sorted(set(load.failed)),
        "swap_s": [min(r["swap_s"] or 0.0 for r in rows), statistics.median(r["swap_s"] or 0.0 for r in rows), max(r["swap_s"] or 0.0 for r in rows)],
        "longest_stall_s": max(r["longest_stall_s"] or 0.0 for r in rows), "longest_stall_without_swaps_s": stall,
        "acceptance_length_before": before, "after_a_swap_back": goods, "with_the_poor_draft": poors,
    }  # fmt: skip
    write_json(out / "hot_swap.json", {"summary": summary, "plain": plain, "swaps": rows})
    print(json.dumps(summary, indent=1))
    follows = all(abs(al / before - 1) < 0.05 for al in goods) and all(al < before for al in poors)
    return 0 if not load.failed and follows else 1


if __name__ == "__main__":
    sys.exit(main())

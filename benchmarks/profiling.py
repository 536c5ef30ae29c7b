"""How fast and how exact the profile is, against a straightforward reader.

    python benchmarks/profiling.py --tokenizer FOLDER [--requests 1000000] [--baseline 5000] [--folder /tmp]

Writes a log of realistic lengths (prose and code cut from the standard library's own sources, with fresh words mixed in so
that no text but a system prompt comes twice and the vocabulary keeps growing), then reads it four ways: the straightforward
reader (one json.loads and one tokenizer call a record, lists, sort), exact, default, and default on the same log with usage
counts. Exact runs on the first tenth, the others on that and on the whole. The straightforward reader reads the first
`--baseline` requests before and after each of the others, and a ratio is against the mean of those two: other work on the
machine then weighs on both sides. Rates are requests a second of wall time; CPU and peak memory are of all processes.
"""

from __future__ import annotations

import argparse
import ast
import json
import os
import random
import resource
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import psutil

from draftsmith.profiling.profile import build_profile
from draftsmith.profiling.simulate import SimCounts, simulate_ngram_many, simulate_suffix_many
from draftsmith.traffic.tokens import load_counter

FRESH = 0.03
MARK = "@" * 10
BODIES = 20_000
CLASSES = ("chat", "code", "rag", "json")
WEIGHTS = (0.45, 0.25, 0.2, 0.1)
SYSTEM = {
    "chat": "You are a helpful assistant. Answer clearly, and say so when you do not know.",
    "code": "You are a coding assistant. Reply with one code block and no explanation.",
    "rag": "Answer the question from the passage only. Quote the passage where you can.",
    "json": "Extract the fields from the message. Reply with JSON only.",
}


def library_text() -> tuple[list[str], list[str]]:
    """Prose (docstrings) and code of the standard library."""
    prose, code = [], []
    for path in sorted(Path(sysconfig.get_paths()["stdlib"]).glob("*.py")):
        source = path.read_text(encoding="utf-8", errors="replace")
        code.append(source)
        try:
            tree = ast.parse(source)
        except SyntaxError:
            continue
        nodes = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.ClassDef | ast.Module))
        prose += [" ".join(text.split()) for node in nodes if (text := ast.get_docstring(node)) and len(text) > 80]
    return prose, code


class Writer:
    """Makes requests of four kinds with log-normal lengths."""

    def __init__(self, seed: int = 0) -> None:
        self.random = random.Random(seed)
        prose, code = library_text()
        self.random.shuffle(prose)
        self.prose, self.code = " ".join(prose), "\n".join(code)

    def cut(self, text: str, size: int) -> str:
        at = self.random.randrange(len(text) - size)
        words = text[at : at + size].split(" ")
        filled = [place for place, word in enumerate(words) if word]
        for place in self.random.sample(filled, max(1, int(len(filled) * FRESH)) if filled else 0):
            words[place] = MARK
        return " ".join(words)

    def size(self, median: float, spread: float) -> int:
        return max(8, min(60_000, int(self.random.lognormvariate(np.log(median), spread))))

    def record(self, number: int, *, usage: bool) -> dict[str, Any]:
        kind = self.random.choices(CLASSES, WEIGHTS)[0]
        messages = [{"role": "system", "content": SYSTEM[kind]}]
        if kind == "json":
            fields = {f"field_{i}": self.cut(self.prose, 24) for i in range(self.random.randrange(2, 9))}
            messages.append({"role": "user", "content": self.cut(self.prose, self.size(300, 0.6))})
            line = json.dumps(fields)
        elif kind == "code":
            messages.append(
                {"role": "user", "content": "Fix this function.\n\n" + self.cut(self.code, self.size(1200, 0.9))}
            )
            line = "```python\n" + self.cut(self.code, self.size(700, 0.8)) + "\n```"
        elif kind == "rag":
            passage = self.cut(self.prose, self.size(3500, 0.7))
            messages.append({"role": "user", "content": f"Passage: {passage}\n\nQuestion: what is meant?"})
            line = self.cut(self.prose, self.size(250, 0.6))
        else:
            for _ in range(self.random.choice((0, 0, 1, 2))):
                messages.append({"role": "user", "content": self.cut(self.prose, self.size(200, 0.8))})
                messages.append({"role": "assistant", "content": self.cut(self.prose, self.size(500, 0.7))})
            messages.append({"role": "user", "content": self.cut(self.prose, self.size(250, 0.9))})
            line = self.cut(self.prose, self.size(600, 0.8))
        size = sum(len(message["content"]) for message in messages)
        return {
            "schema": "draftsmith_access_v1",
            "id": f"req-{number}",
            "route": kind,
            "messages": messages,
            "completion": line,
            "params": {"temperature": self.random.choice((0.0, 0.7)), "max_tokens": 1024},
            "usage": {"prompt_tokens": size // 4, "completion_tokens": len(line) // 4} if usage else {},
            "timing": {"start_unix_s": 1.76e9 + number * 0.05, "latency_s": 1.0 + len(line) / 200},
        }


def write_log(path: Path, requests: int, *, usage: bool) -> None:
    """Bodies are cut once and drawn many times; their fresh words, id and time are new in every line."""
    writer = Writer()
    bodies = [orjson.dumps(writer.record(0, usage=usage)).split(MARK.encode()) for _ in range(min(BODIES, requests))]
    random_, partial = random.Random(1), path.with_suffix(".partial")
    with partial.open("wb") as out:
        for number in range(requests):
            pieces = random_.choice(bodies)
            noise = random_.randbytes(5 * len(pieces)).hex()
            line = b"".join(
                part for at, piece in enumerate(pieces) for part in (piece, noise[10 * at : 10 * at + 10].encode())
            )[:-10]
            line = line.replace(b'"req-0"', b'"req-%d"' % number, 1)
            line = line.replace(b"1760000000.0", b"%.2f" % (1.76e9 + number * 0.05), 1)
            out.write(line + b"\n")
    partial.rename(path)


def head(source: Path, requests: int) -> Path:
    """A log of the first requests of another."""
    target = source.with_suffix(f".{requests}.jsonl")
    with source.open("rb") as lines, target.open("wb") as out:
        for _, line in zip(range(requests), lines, strict=False):
            out.write(line)
    return target


def straightforward(path: Path, tokenizer: Path) -> dict[str, list[int]]:
    """What one would write first."""
    counter = load_counter(tokenizer)
    inputs, outputs = [], []
    with path.open(encoding="utf-8", newline="\n") as lines:
        for line in lines:
            row = json.loads(line)
            prompt = counter.render(row["messages"])
            inputs.append(len(counter.tokenizer.encode(prompt, add_special_tokens=False).ids))
            outputs.append(len(counter.tokenizer.encode(row["completion"], add_special_tokens=False).ids))
    inputs.sort()
    outputs.sort()
    return {"input": inputs, "output": outputs}


def cpu_seconds() -> float:
    """CPU time of this process and its ended children."""
    own, children = (resource.getrusage(scope) for scope in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime


@dataclass
class Baseline:
    """The straightforward reader, run anew between the others."""

    log: Path
    tokenizer: Path
    requests: int
    last: float = 0.0

    def run(self) -> dict[str, list[int]]:
        """Read once, and print how fast that was."""
        before = cpu_seconds()
        result, seconds, _ = timed(lambda: straightforward(self.log, self.tokenizer))
        self.last = self.requests / seconds
        cpu = (cpu_seconds() - before) / self.requests * 1e6
        print(f"straightforward: {self.last:.0f} requests/s, {cpu:.0f} us CPU a request", flush=True)
        return result

    def ratio(self, rate: float) -> float:
        """How many times as fast `rate` is as the mean of the runs before and after."""
        before = self.last
        self.run()
        return rate / ((before + self.last) / 2)


class Peak:
    """Peak resident memory of this process and its children, in bytes, sampled twenty times a second."""

    def __enter__(self) -> Peak:
        self.bytes, self._stop = 0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        me = psutil.Process()
        while not self._stop.wait(0.05):
            total = 0
            for process in (me, *me.children(recursive=True)):
                try:
                    total += process.memory_info().rss
                except psutil.Error:
                    continue
            self.bytes = max(self.bytes, total)


def timed(action: Callable[[], Any]) -> tuple[Any, float, int]:
    with Peak() as peak:
        begin = time.perf_counter()
        result = action()
        seconds = time.perf_counter() - begin
    return result, seconds, peak.bytes


def nearest(values: list[int], share: float) -> int:
    return values[min(len(values) - 1, max(0, int(np.ceil(share * len(values))) - 1))]


def errors(estimated: Any, exact: Any) -> Iterator[str]:
    for side in ("input_tokens", "output_tokens"):
        for name in ("p50", "p90", "p99"):
            estimate, true = getattr(getattr(estimated, side), name), getattr(getattr(exact, side), name)
            yield f"{side[:-7]} {name} {estimate:.0f}/{true:.0f} ({(estimate / true - 1) * 100:+.2f} %)"


def replay_rates(tokenizer: Path) -> Iterator[str]:
    """Tokens a second through the replays, on text that repeats itself as answers do."""
    counter, writer = load_counter(tokenizer), Writer(1)
    pairs = []
    for number in range(1500):
        row = writer.record(number, usage=False)
        pairs.append((counter.encode(counter.render(row["messages"])), counter.encode(row["completion"])))
    tokens = sum(len(prompt) + len(output) for prompt, output in pairs)
    for name, run in (
        ("ngram", lambda: simulate_ngram_many(pairs, k=3, lookup_min=2, lookup_max=5)),
        ("suffix", lambda: simulate_suffix_many(pairs, k=16)),
    ):
        counts, seconds, _ = timed(run)
        total = sum(counts, SimCounts())
        yield f"replay {name}: {tokens / seconds / 1e6:.2f} M tokens/s (AL {total.acceptance_length:.2f})"


def show(name: str, source: Path, requests: int, base: Baseline, **how: Any) -> Any:
    """Profile a log and print how fast that was."""
    before = cpu_seconds()
    profile, seconds, peak = timed(lambda: build_profile([str(source)], **how))
    cpu = (cpu_seconds() - before) / requests * 1e6
    rate = requests / seconds
    times = base.ratio(rate)
    print(
        f"{name} {requests}: {rate:.0f}/s, {times:.1f}x, {cpu:.0f} us CPU a request, peak {peak / 1e6:.0f} MB",
        flush=True,
    )
    return profile


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", type=Path, required=True)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--baseline", type=int, default=5_000)
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()))
    parser.add_argument("--only", choices=("exact", "default", "usage", "replay"), action="append")
    options = parser.parse_args()
    wanted = options.only or ["exact", "default", "usage", "replay"]
    text = options.folder / f"bench-{options.requests}.jsonl"
    if not text.exists():
        write_log(text, options.requests, usage=False)
    print(f"log: {options.requests} requests, {text.stat().st_size / 1e9:.2f} GB; {os.cpu_count()} cores", flush=True)
    base = Baseline(head(text, options.baseline), options.tokenizer, options.baseline)
    check(base.run(), build_profile([str(base.log)], tokenizer=options.tokenizer, exact=True))
    tenth = head(text, options.requests // 10)
    exact = None
    if "exact" in wanted:
        exact = show("exact", tenth, options.requests // 10, base, tokenizer=options.tokenizer, exact=True)
    if "default" in wanted:
        result = show("default", tenth, options.requests // 10, base, tokenizer=options.tokenizer, exact=False)
        if exact is not None:
            print("  default against exact: " + "; ".join(errors(result, exact)), flush=True)
        show("default", text, options.requests, base, tokenizer=options.tokenizer, exact=False)
    if "usage" in wanted:
        counted = options.folder / f"bench-usage-{options.requests}.jsonl"
        if not counted.exists():
            write_log(counted, options.requests, usage=True)
        show("usage", head(counted, options.requests // 10), options.requests // 10, base)
        show("usage", counted, options.requests, base)
    if "replay" in wanted:
        for line in replay_rates(options.tokenizer):
            print(line, flush=True)


def check(truth: dict[str, list[int]], profile: Any) -> None:
    """Exact counts must be the straightforward reader's, whatever made them fast."""
    for side, values in truth.items():
        lengths_estimated = getattr(profile, f"{side}_tokens")
        for share, value in ((0.5, lengths_estimated.p50), (0.9, lengths_estimated.p90), (0.99, lengths_estimated.p99)):
            assert value == nearest(values, share), (side, share)
        assert lengths_estimated.max == values[-1]
        assert round(lengths_estimated.mean * len(values)) == sum(values), side


if __name__ == "__main__":
    main()

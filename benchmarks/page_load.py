"""How soon the page and `draftsmith status` answer with many runs.

    python benchmarks/page_load.py --runs 1000 --models 10

The page runs as its users start it; each address is asked ten times after the first. Seconds of wall time, medians; the first look at
a workspace reads every run.json and is shown apart. A browser adds its own time to draw: tests/web/test_browser.py has it.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import httpx

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "web"))

from watched import served

DRAFTSMITH = (sys.executable, "-m", "draftsmith")
TIMES = 10


def make(place: Path, runs: int) -> None:
    """A workspace with a served model and this many runs."""
    served(place)
    for number in range(runs):
        folder = place / "runs" / f"r{number:05}"
        (folder / "journal").mkdir(parents=True)
        head = {
            "run_id": folder.name,
            "key": "k",
            "target": "/m",
            "profile": [],
            "config": {},
            "created_unix_s": number,
        }
        (folder / "run.json").write_text(json.dumps(head))


def seconds(url: str) -> float:
    """Wall time of one answer, its body included."""
    began = time.perf_counter()
    httpx.get(url, timeout=60, trust_env=False).raise_for_status()
    return time.perf_counter() - began


def main() -> None:
    """Measure and print one JSON value."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=1000, help="over all models")
    parser.add_argument("--models", type=int, default=10)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        places = [Path(folder) / f"model-{number}" for number in range(options.models)]
        for place in places:
            make(place, options.runs // options.models)
        request = [word for place in places for word in ("--workspace", str(place))]
        page = subprocess.Popen(
            [*DRAFTSMITH, "web", *request, "--listen", "127.0.0.1:0"], stdout=subprocess.PIPE, text=True
        )
        try:
            assert page.stdout is not None
            url = next(match[0] for line in page.stdout if (match := re.search(r"http://[\d.]+:\d+", line)))
            shown = {}
            for path in ("/", "/models/model-0", "/models/model-0?page=2"):
                first = seconds(url + path)
                rest = statistics.median(seconds(url + path) for _ in range(TIMES))
                shown[path] = {"first_s": round(first, 3), "median_s": round(rest, 3)}
        finally:
            page.terminate()
            page.wait()
        status = []
        for _ in range(3):
            began = time.perf_counter()
            command = [*DRAFTSMITH, "status", "--workspace", str(places[0])]
            subprocess.run(command, check=True, capture_output=True, cwd=folder)
            status.append(time.perf_counter() - began)
    value = {
        "runs": options.runs,
        "models": options.models,
        "page": shown,
        "status_s": round(statistics.median(status), 3),
    }
    print(json.dumps(value, indent=2))


if __name__ == "__main__":
    main()

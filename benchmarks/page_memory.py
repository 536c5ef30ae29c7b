"""Does the page keep its memory while it shows a service for long? Live updates at many times the usual pace, open pages included.

    python benchmarks/page_memory.py --updates 3600

An hour of a controller that looks every second is 3,600 updates. Each writes a look, moves the progress of a run, now and then adds an
event to the journal, and is awaited by open pages, one of which goes away and comes back. Resident memory is read after each tenth.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from pathlib import Path

import httpx
import psutil
import uvicorn

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "web"))

from watched import add_run, config, controlled, moment, served, under_way

from draftsmith.api.watching import watch
from draftsmith.contract.job import JobProgress
from draftsmith.kit.files import write_json
from draftsmith.web.app import make_app

PAGES, RUNS = 4, 100


def main() -> None:
    """Measure and print one JSON value. Memory in MiB."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--updates", type=int, default=3600)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        place = Path(folder) / "tiny"
        served(place)
        for number in range(RUNS):
            add_run(place, f"tiny-{number:04}", created=1_772_355_600.0 + number)
        train = under_way(place).phase_dir("train")
        journal = controlled(place)
        settings = uvicorn.Config(
            make_app(watch(config(place)), every_s=0.05), host="127.0.0.1", port=0, log_level="error"
        )
        server, listening = uvicorn.Server(settings), settings.bind_socket()
        threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True).start()
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        stop = threading.Event()
        for number in range(PAGES):
            threading.Thread(target=follow, args=(url, stop, number), daemon=True).start()
        process, seen, began = psutil.Process(), [], time.perf_counter()
        for number in range(options.updates):
            now = time.time()
            done = number % 100
            progress = JobProgress(
                stage="training", done=done, total=100, unit="steps", started_unix_s=now - 80, updated_unix_s=now
            )
            write_json(train / "progress.json", progress)
            journal.looked(moment())
            if number % 60 == 0:  # an act a minute, which is far more than a controller does
                journal.append("noted", f"update {number}")
            httpx.get(f"{url}/models/tiny", headers={"x-part": "1"}, timeout=30).raise_for_status()
            if number % max(1, options.updates // 10) == 0:
                seen.append(round(process.memory_info().rss / 2**20, 1))
        seen.append(round(process.memory_info().rss / 2**20, 1))
        stop.set()
        server.should_exit = True
        settled = seen[len(seen) // 3 :]
        print(
            json.dumps(
                {
                    "updates": options.updates,
                    "open_pages": PAGES,
                    "seconds": round(time.perf_counter() - began, 1),
                    "rss_mib": seen,
                    "growth_after_the_first_third_mib": round(settled[-1] - settled[0], 1),
                },
                indent=2,
            )
        )


def follow(url: str, stop: threading.Event, number: int) -> None:
    """An open page: listens, and fetches anew whenever it is told. Number 0 leaves after every tenth time and comes back."""
    while not stop.is_set():
        try:
            with httpx.stream("GET", f"{url}/events", timeout=httpx.Timeout(10, read=60)) as events:
                for messages, line in enumerate(events.iter_lines()):
                    if stop.is_set() or (number == 0 and messages > 10):
                        break
                    if line.startswith("data:"):
                        httpx.get(f"{url}/models/tiny", headers={"x-part": "1"}, timeout=30)
        except httpx.HTTPError:
            time.sleep(0.1)


if __name__ == "__main__":
    main()

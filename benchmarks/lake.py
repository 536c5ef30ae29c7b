"""How long publishing and the ten questions take with many campaigns in a lake, beside reading their bundles.

    python benchmarks/lake.py --campaigns 10000 --at file:///tmp/lake     (or s3://bucket/prefix with AWS_ENDPOINT_URL set)

The campaigns are one small bundle under many names and days: verified once, then put with a digest of its own each.
"""

from __future__ import annotations

import argparse
import datetime
import hashlib
import json
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "fakes"))

from bundle_world import parts

from draftsmith.lake.contents import compact
from draftsmith.lake.places import open_place
from draftsmith.lake.put import put
from draftsmith.lake.query import ask
from draftsmith.lake.questions import QUESTIONS
from draftsmith.lake.rows import BundleRows, rows_of
from draftsmith.store.evidence import write_bundle


def named(rows: BundleRows, number: int) -> BundleRows:
    """The same campaign under another digest, name and day of thirty."""
    sha = hashlib.sha256(str(number).encode()).hexdigest()
    key = {"manifest_sha256": sha, "campaign": f"{number:06}"}
    tables = {table: [row | key for row in rows_of_table] for table, rows_of_table in rows.tables.items()}
    date = (datetime.date(2026, 1, 1) + datetime.timedelta(days=number % 30)).isoformat()
    return replace(rows, date=date, campaign=key["campaign"], manifest_sha256=sha, tables=tables)


def main() -> None:
    """Measure and print one JSON value. Times in seconds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--campaigns", type=int, default=10_000)
    parser.add_argument("--at", required=True)
    parser.add_argument(
        "--begin", type=int, default=0, help="campaigns before this number are there already: copied, say"
    )
    options = parser.parse_args()
    place = open_place(options.at)
    with tempfile.TemporaryDirectory() as folder:
        bundle = write_bundle(Path(folder), parts())
        reading = []
        for _ in range(5):
            began = time.perf_counter()
            rows = rows_of(bundle)
            reading.append(time.perf_counter() - began)
    puts = []
    for number in range(options.begin, options.campaigns):
        began = time.perf_counter()
        put(named(rows, number), place)
        puts.append(time.perf_counter() - began)
    began = time.perf_counter()
    ask(place, "latest")
    loose_s = time.perf_counter() - began
    began = time.perf_counter()
    compact(place)
    compact_s = time.perf_counter() - began
    questions = {}
    for name in QUESTIONS:
        began = time.perf_counter()
        ask(place, name)
        questions[name] = round(time.perf_counter() - began, 3)
    bundles_s = statistics.median(reading) * options.campaigns
    print(
        json.dumps(
            {
                "campaigns": options.campaigns,
                "published": len(puts),
                "publish_p50_s": round(statistics.median(puts), 4),
                "publish_p99_s": round(sorted(puts)[int(0.99 * len(puts))], 4),
                "verify_and_read_one_bundle_s": round(statistics.median(reading), 4),
                "question_without_a_snapshot_s": round(loose_s, 1),
                "compact_s": round(compact_s, 1),
                "questions_s": questions,
                "reading_all_bundles_s": round(bundles_s, 1),
                "ratio_of_median_question": round(bundles_s / statistics.median(questions.values()), 1),
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()

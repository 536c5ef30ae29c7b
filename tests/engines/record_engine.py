"""Renews tests/engines/recordings/vllm: starts the real engine once, asks it everything, keeps what it said.

python tests/engines/record_engine.py [TARGET]      TARGET: a model folder (default: DRAFTSMITH_TARGET)
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from engine_seats import REAL, seat
from recorded import HERE, record


def main(target: str) -> None:
    with tempfile.TemporaryDirectory() as folder, seat(REAL, Path(folder), Path(target)) as served:
        made = record(served.server, speculates=True, hide=served.hide)
    made.write(HERE / "vllm")
    print(f"recorded {made.version} in {HERE / 'vllm'}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else os.environ["DRAFTSMITH_TARGET"])

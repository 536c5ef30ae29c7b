"""Training speed on one corpus: what Draftsmith runs against a plain `speculators train`, in turn, as a ratio.

    python benchmarks/training.py RUN_FOLDER --target FOLDER [--steps 12]

RUN_FOLDER is a run whose hidden states were kept (`--set corpus.keep_hidden_states=true`) and whose training data is there.
Both arms see the same data set, packing, seed and number of steps, on this machine: A B A B. The baseline is speculators'
own forward and its frozen output head; without an accelerator its trainer cannot start, so both arms use Draftsmith's
redirection to the CPU. Tokens/s are packed tokens (without padding) by the step timer of speculators, medians over steps.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from draftsmith.kit.files import read_json, read_lines
from draftsmith.kit.hardware import describe
from draftsmith.work.subprocess import environment

BASELINE = ("--forward", "stock", "--freeze-head")


def speed(run: Path, target: Path, own: tuple[str, ...], steps: int, batch: int) -> float:
    """Median tokens/s of one short training."""
    training = run / "phases" / "train" / "training"
    vocabulary = training / "vocabulary"
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        command = [
            *(
                sys.executable,
                "-m",
                "draftsmith.work.inside.train_speculators",
                "--metrics",
                str(out / "metrics.jsonl"),
                *own,
                "--",
            ),
            *(
                "--verifier-name-or-path",
                str(target),
                "--speculator-type",
                "eagle3",
                "--data-path",
                str(training / "data"),
            ),
            *("--save-path", str(out / "c"), "--log-dir", str(out / "l"), "--epochs", "1", "--max-steps", str(steps)),
            *("--total-seq-len", str(batch), "--loss-implementation", "eager", "--draft-attn-impl", "sdpa"),
            *("--num-workers", "0", "--on-missing", "raise", "--log-freq", "1", "--full-attention-indices", "0"),
            *("--target-layer-ids", *map(str, read_json(run / "phases" / "train" / "plan.json")["layer_ids"])),
            *(
                "--d2t-path",
                str(vocabulary / "d2t.npy"),
                "--t2d-path",
                str(vocabulary / "t2d.npy"),
                "--draft-arch",
                "llama",
            ),
        ]
        subprocess.run(command, check=True, capture_output=True, env=environment())
        records = [json.loads(line) for line in read_lines(out / "metrics.jsonl")]
    return statistics.median([r["profile"]["tokens_per_s"] for r in records if "train" in r][2:])


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--target", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--batch", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    pairs = []
    for number in range(options.rounds):
        plain = speed(options.run, options.target, BASELINE, options.steps, options.batch)
        own_speed = speed(options.run, options.target, (), options.steps, options.batch)
        pairs.append((plain, own_speed))
        print(
            f"round {number + 1}: plain {plain:,.0f}, draftsmith {own_speed:,.0f} tokens/s, ratio {own_speed / plain:.2f}",
            flush=True,
        )
    ratios = [own / plain for plain, own in pairs]
    print(
        f"median ratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}) on {describe()}, batch {options.batch}"
    )


if __name__ == "__main__":
    main()

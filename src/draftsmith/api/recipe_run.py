"""Templates of a SpecForge recipe: the run script, training's entry and the README. @name@ is replaced."""

RUN = r"""#!/usr/bin/env bash
# SpecForge for @slug@, in stages: prepare | capture | train | export | eval | all. Each may be run again.
# Everything below can be set from outside. On Slurm: sbatch slurm/<stage>.sbatch
set -euo pipefail
umask 077 # conversations and hidden states are as sensitive as the traffic
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
TARGET_MODEL_PATH=${TARGET_MODEL_PATH:-@target@} # the base checkpoint (BF16 or FP8), not a quantised serving copy
METHOD=${METHOD:-@method@}
AUX_LAYERS=${AUX_LAYERS:-@layers@}        # output of layer k; vLLM calls the same layers @engine_layers@
CHAT_TEMPLATE=${CHAT_TEMPLATE:-@chat_template@} # a name of specforge/data/template.py
DRAFT_CONFIG=${DRAFT_CONFIG:-$HERE/@draft_config@}
RUN_CONFIG=${RUN_CONFIG:-$HERE/configs/@slug@-$METHOD.yaml}
DATA=${DATA:-}                            # JSON lines, {"messages": [...]}: your own traffic, answers included
SPECFORGE_HOME=${SPECFORGE_HOME:-}        # a checkout of SpecForge 0.2.0: its scripts are not part of the package
PYTHON=${PYTHON:-python}                  # the interpreter that has SpecForge
NUM_GPUS=${NUM_GPUS:-@gpus@}
TP_SIZE=${TP_SIZE:-$NUM_GPUS}             # GPUs that hold the target during capture
MAX_LENGTH=${MAX_LENGTH:-@max_length@}
BATCH_SIZE=${BATCH_SIZE:-@batch@}         # training rows a GPU
EPOCHS=${EPOCHS:-@epochs@}
STATES=${STATES:-$HERE/states}
OUTPUT=${OUTPUT:-$HERE/output}
DRAFT=${DRAFT:-$HERE/draft}
PROMPTS=${PROMPTS:-$HERE/data/heldout.jsonl}

need() { [ -e "$2" ] || { echo "$1: $2 is missing. $3" >&2; exit 3; }; }

prepare() { # conversations for SpecForge, split by a hash of each: training, validation, held out
  [ -n "$DATA" ] || { echo "DATA is not set: name a file of JSON lines, {\"messages\": [...]}" >&2; exit 3; }
  need prepare "$DATA" "Set DATA."
  mkdir -p "$HERE/data"
  "$PYTHON" - "$DATA" "$HERE/data" <<'PY'
import hashlib, json, pathlib, sys

source, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
counts = {"train": 0, "validation": 0, "heldout": 0}
files = {name: (out / f"{name}.jsonl.part").open("w", encoding="utf-8") for name in counts}
dropped = 0
for raw in source.open("rb"):
    messages = json.loads(raw).get("messages") or []
    roles = [m.get("role") for m in messages]
    if not roles or roles[-1] != "assistant" or not all(isinstance(m.get("content"), str) for m in messages):
        dropped += 1
        continue
    opening = json.dumps(messages[:-1], sort_keys=True)  # the same prompt never lands on both sides
    share = int(hashlib.sha256(opening.encode()).hexdigest()[:8], 16) / 2**32
    split = "train" if share < 0.85 else "validation" if share < 0.92 else "heldout"
    name = hashlib.sha256(raw).hexdigest()[:16]
    row = {"id": name, "conversations": messages} if split != "heldout" else {"id": name, "messages": messages[:-1]}
    files[split].write(json.dumps(row, ensure_ascii=False) + "\n")
    counts[split] += 1
for name, file in files.items():
    file.close()
    (out / f"{name}.jsonl.part").rename(out / f"{name}.jsonl")
print(counts, "dropped:", dropped)
sys.exit(0 if all(counts.values()) else "a split is empty: more conversations are needed")
PY
}

capture() { # the target's hidden states of every conversation; files that exist are not made again
  need capture "${SPECFORGE_HOME:-.}/scripts/prepare_hidden_states.py" "Set SPECFORGE_HOME to a checkout of SpecForge 0.2.0."
  for split in train validation; do
    need capture "$HERE/data/$split.jsonl" "Run the stage prepare first."
    "$PYTHON" -m torch.distributed.run --standalone --nproc-per-node="$NUM_GPUS" "$SPECFORGE_HOME/scripts/prepare_hidden_states.py" \
      --target-model-path "$TARGET_MODEL_PATH" --enable-aux-hidden-states --aux-hidden-states-layers "$AUX_LAYERS" \
      --data-path "$HERE/data/$split.jsonl" --output-path "$STATES/$split" --chat-template "$CHAT_TEMPLATE" \
      --max-length "$MAX_LENGTH" --tp-size "$TP_SIZE" ${CAPTURE_ARGS:-}
  done
  "$PYTHON" - "$STATES" "$METHOD" "$HERE/data" <<'PY'
import pathlib, sys

import torch

states, method, data = pathlib.Path(sys.argv[1]), sys.argv[2], pathlib.Path(sys.argv[3])
for split in ("train", "validation"):
    files = sorted((states / split).rglob("*.ckpt"))
    wanted = sum(1 for _ in (data / f"{split}.jsonl").open("rb"))
    learned = 0
    for file in files:
        row = torch.load(file, weights_only=True)
        mask = row["loss_mask"].bool()
        if not (mask[:-1] & mask[1:]).any():  # nothing to learn from; SpecForge's DFlash refuses such a row
            file.unlink()
            continue
        learned += int(mask.sum())
        if method == "dflash" and "hidden_states" not in row:  # SpecForge reads the layers under another name there
            row["hidden_states"] = row["aux_hidden_state"].squeeze(0)
            torch.save({k: row[k] for k in ("input_ids", "loss_mask", "hidden_states")}, file)
    print(f"{split}: {len(files)} of {wanted} conversations, {learned} tokens to learn from")
    if not learned:
        sys.exit("the loss mask is zero everywhere: CHAT_TEMPLATE does not fit the target")
    if wanted - len(files) > 0.1 * wanted:
        sys.exit("states are missing for more than a tenth of the conversations")
PY
}

train() { # on this machine; slurm/train.sbatch does the same over nodes
  need train "$STATES/train" "Run the stage capture first."
  "$PYTHON" -m torch.distributed.run --standalone --nproc-per-node="$NUM_GPUS" "$HERE/slurm/train_entry.py" "$RUN_CONFIG" \
    model.target_model_path="$TARGET_MODEL_PATH" model.draft_model_config="$DRAFT_CONFIG" \
    data.hidden_states_path="$STATES/train" data.max_length="$MAX_LENGTH" training.batch_size="$BATCH_SIZE" \
    training.num_epochs="$EPOCHS" output_dir="$OUTPUT" ${TRAIN_ARGS:-}
}

export_draft() { # the best checkpoint by its simulated acceptance length, else the newest, as a folder that vLLM loads
  local checkpoint=$OUTPUT/@slug@-best
  [ -e "$checkpoint" ] || checkpoint=$OUTPUT/@slug@-latest
  need export "$checkpoint" "Run the stage train first."
  rm -rf "$DRAFT.part"
  "$PYTHON" -m specforge.cli export --to hf --checkpoint "$(readlink -f "$checkpoint")" --draft-config "$DRAFT_CONFIG" \
    --output-dir "$DRAFT.part" --embedding-source "$TARGET_MODEL_PATH"
  rm -rf "$DRAFT" && mv "$DRAFT.part" "$DRAFT"
}

evaluate() { # in the engine: training accuracy decides nothing
  need eval "$DRAFT" "Run the stage export first."
  need eval "$PROMPTS" "Run the stage prepare first, or set PROMPTS."
  draftsmith lint "$DRAFT" --target "$TARGET_MODEL_PATH"
  draftsmith compare --prompts "$PROMPTS" --target "$TARGET_MODEL_PATH" --standing off --arm off=none --arm draft="$DRAFT" \
    --out "$HERE/comparison"
}

case "${1:-}" in
  prepare | capture | train) "$1" ;;
  export) export_draft ;;
  eval) [ -d "$DRAFT" ] || export_draft; evaluate ;;
  all) prepare; capture; train; export_draft; evaluate ;;
  *) echo "usage: $0 prepare | capture | train | export | eval | all" >&2; exit 2 ;;
esac
"""

ENTRY = '''"""One process of a training: SpecForge's own command, from its last complete checkpoint if there is one.

    torchrun train_entry.py RUN.yaml [section.field=value ...]
"""

import os
import sys
from pathlib import Path

from specforge import cli
from specforge.config import load_config

config, overrides = sys.argv[1], sys.argv[2:]
if "WORLD_SIZE" in os.environ:  # SpecForge compares it with nnodes * nproc_per_node, and only the product counts here
    overrides.append(f"deployment.trainer.nproc_per_node={os.environ['WORLD_SIZE']}")
settled = load_config(config, overrides)
output = Path(settled.output_dir)
if any(path.is_file() for path in output.glob(f"{settled.run_id}-step*/training_state.pt")):
    overrides.append(f"training.resume_from={output}")
sys.exit(cli.main(["train", "--config", config, *overrides]))
'''

README = """# A draft for @slug@, trained by SpecForge

Target `@target@` · method `@method@` · layers @layers@ as SpecForge counts them (output of layer k), @engine_layers@ as vLLM
does (input of layer k): the same layers.

| file | what |
|---|---|
| `@draft_config@` | the draft head, derived from the target's config.json; it names the layers for vLLM |
| `configs/@slug@-@method@.yaml` | SpecForge's run configuration |
| `run-@slug@-offline.sh` | the stages, driven by variables: read its head |
| `slurm/*.sbatch` | the stages as batch jobs; each starts again by itself after preemption |
| `slurm/train_entry.py` | one process of the training, continued from its last checkpoint |
| `deploy/@slug@-spec-canary.yaml` | two servers on Kubernetes, without speculation and with the draft; nothing routes to them |

Before anything: the target's architecture must be known to the SGLang of the trainer's environment, `CHAT_TEMPLATE`
(now `@chat_template@`) must be the target's, and `TARGET_MODEL_PATH` the base checkpoint, not a quantised serving copy.

```sh
export DATA=/path/to/conversations.jsonl SPECFORGE_HOME=/path/to/SpecForge
sbatch slurm/prepare-data.sbatch   # CPU: training, validation and held-out conversations
sbatch slurm/capture.sbatch        # holds the target; stops if the loss mask is zero or states are missing
sbatch slurm/train.sbatch          # hours; torchrun over every GPU; acc_0 near zero means wiring, not data
sbatch slurm/eval.sbatch           # exports, checks, and compares in the engine
```

`run-@slug@-offline.sh all` does the same on one machine. Nothing here is submitted by itself. Training accuracy is no result:
`eval` measures acceptance and time per token against serving without speculation, and a draft that does not win is not shipped.

For the comparison on Kubernetes, put the target at `/models/@slug@` and the draft at `/models/drafts/@slug@` on the claim,
`kubectl apply -f deploy/@slug@-spec-canary.yaml`, and give both addresses to `draftsmith compare`. Remove them by label:
`kubectl delete job,service -l app.kubernetes.io/managed-by=draftsmith,draftsmith.dev/experiment=@slug@-spec`.
"""

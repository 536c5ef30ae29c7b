"""Templates of a SpecForge recipe: the run script and the README. @name@ is replaced."""

RUN = r"""#!/usr/bin/env bash
# SpecForge for @slug@, in stages: prepare | probe | capture | train | export | eval | all. Each may be run again.
# Everything below can be set from outside. On Slurm: sbatch slurm/<stage>.sbatch
set -euo pipefail
umask 077 # conversations and hidden states are as sensitive as the traffic
HERE=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
[ -n "${TARGET_MODEL_PATH:-}" ] || TARGET_MODEL_PATH=@target_word@ # the base checkpoint (BF16 or FP8), not a quantised serving copy
METHOD=${METHOD:-@method@}
AUX_LAYERS=${AUX_LAYERS:-@layers@}        # output of layer k; vLLM calls the same layers @engine_layers@
CHAT_TEMPLATE=${CHAT_TEMPLATE:-@chat_template@} # a name of specforge/data/template.py
DRAFT_CONFIG=${DRAFT_CONFIG:-$HERE/@draft_config@}
RUN_CONFIG=${RUN_CONFIG:-$HERE/configs/@slug@-$METHOD.yaml}
DATA=${DATA:-}                            # JSON lines of your own traffic, answers included; shapes: see prepare
SPECFORGE_HOME=${SPECFORGE_HOME:-}        # a checkout of SpecForge 0.2.0: its scripts are not part of the package
PYTHON=${PYTHON:-python}                  # the interpreter that has SpecForge
NUM_GPUS=${NUM_GPUS:-@gpus@}
TP_SIZE=${TP_SIZE:-@tp@}                     # GPUs that hold the target during capture: by its size
MAX_LENGTH=${MAX_LENGTH:-@max_length@}
BATCH_SIZE=${BATCH_SIZE:-@batch@}         # training rows a GPU
EPOCHS=${EPOCHS:-@epochs@}
STATES=${STATES:-$HERE/states}
PROBED=${PROBED:-16}                      # conversations that are captured and checked before all others
HEAD_KEY=${HEAD_KEY:-@head_key@}
OUTPUT=${OUTPUT:-$HERE/output}
DRAFT=${DRAFT:-$HERE/draft}
PROMPTS=${PROMPTS:-$HERE/data/heldout.jsonl}

need() { [ -e "$2" ] || { echo "$1: $2 is missing. $3" >&2; exit 3; }; }

prepare() { # conversations for SpecForge, split by a hash of each: training, validation, held out
  # Taken: {"messages": [...]} that end with the answer, {"messages", "completion"}, {"conversations": [...]} with role and
  # content or with from and value. Any other log: `draftsmith profile` knows it.
  [ -n "$DATA" ] || { echo "DATA is not set: name a file of JSON lines with conversations" >&2; exit 3; }
  need prepare "$DATA" "Set DATA."
  mkdir -p "$HERE/data"
  "$PYTHON" - "$DATA" "$HERE/data" <<'PY'
import hashlib, json, pathlib, sys

source, out = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
counts = {"train": 0, "validation": 0, "heldout": 0}
files = {name: (out / f"{name}.jsonl.part").open("w", encoding="utf-8") for name in counts}
dropped = 0
ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant"}


def conversation(row):
    # turns of one line, or none where it is no conversation that ends with an answer
    if not isinstance(row, dict):
        return []
    turns = row.get("messages") or row.get("conversations") or []
    if not isinstance(turns, list) or not all(isinstance(turn, dict) for turn in turns):
        return []
    found = []
    for turn in turns:
        role = turn.get("role") or turn.get("from")
        found.append({"role": ROLES.get(role, role), "content": turn.get("content", turn.get("value"))})
    answer = row.get("completion")
    if isinstance(answer, dict):
        answer = answer.get("content")
    if isinstance(answer, str) and found and found[-1]["role"] != "assistant":
        found.append({"role": "assistant", "content": answer})
    whole = found and found[-1]["role"] == "assistant" and all(isinstance(turn["content"], str) for turn in found)
    return found if whole else []


for raw in source.open("rb"):
    try:
        messages = conversation(json.loads(raw))
    except ValueError:
        messages = []
    if not messages:
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

settle() { # before any GPU: SpecForge knows the template, and its capture takes the layers of AUX_LAYERS
  need capture "${SPECFORGE_HOME:-.}/scripts/prepare_hidden_states.py" "Set SPECFORGE_HOME to a checkout of SpecForge @release@."
  "$PYTHON" - "$SPECFORGE_HOME" "$CHAT_TEMPLATE" "$DRAFT_CONFIG" "$METHOD" "$AUX_LAYERS" "$HERE/work/capture.json" <<'PY'
import json, pathlib, re, sys

home, template, draft, method, layers, out = sys.argv[1:]
script = pathlib.Path(home, "scripts", "prepare_hidden_states.py").read_text()
for flag in ("--strategy", "--draft-model-config"):
    if f'"{flag}"' not in script:
        sys.exit(f"scripts/prepare_hidden_states.py has no {flag}: SPECFORGE_HOME is not a checkout of SpecForge @release@")
registry = pathlib.Path(home, "specforge", "data", "template.py")
known = re.findall(r'name="([^"]+)"', registry.read_text()) if registry.is_file() else [template]
if template not in known:
    sys.exit(f"SpecForge has no chat template {template!r}: register it in {registry}, or set CHAT_TEMPLATE to one of {sorted(known)}")
config, ids = json.loads(pathlib.Path(draft).read_text()), [int(part) for part in layers.split(",")]
if method == "eagle3":  # read by SpecForge's capture alone; in the served configuration vLLM would read it too
    config["eagle_config"] = {"eagle_aux_hidden_state_layer_ids": ids}
else:
    config["dflash_config"]["target_layer_ids"] = ids
pathlib.Path(out).parent.mkdir(parents=True, exist_ok=True)
pathlib.Path(out).write_text(json.dumps(config))
PY
}

states_of() { # states_of FILE FOLDER [flags]: the target's hidden states of conversations; files that exist are not made again
  local data=$1 out=$2; shift 2
  "$PYTHON" -m torch.distributed.run --standalone --nproc-per-node="$NUM_GPUS" "$SPECFORGE_HOME/scripts/prepare_hidden_states.py" \
    --target-model-path "$TARGET_MODEL_PATH" --strategy "$METHOD" --draft-model-config "$HERE/work/capture.json" \
    --data-path "$data" --output-path "$out" --chat-template "$CHAT_TEMPLATE" --cache-dir "$HERE/work/cache" \
    --max-length "$MAX_LENGTH" --tp-size "$TP_SIZE" "$@" ${CAPTURE_ARGS:-}
}

probe() { # a few conversations first: are these states what training takes them for?
  settle
  need probe "$HERE/data/train.jsonl" "Run the stage prepare first."
  rm -rf "$STATES/probe"
  states_of "$HERE/data/train.jsonl" "$STATES/probe" --num-samples "$PROBED"
  "$PYTHON" "$HERE/slurm/probe_states.py" "$STATES/probe" "$TARGET_MODEL_PATH" "$HEAD_KEY"
  rm -rf "$STATES/probe"
}

capture() { # probed first; then all conversations
  probe
  for split in train validation; do
    need capture "$HERE/data/$split.jsonl" "Run the stage prepare first."
    states_of "$HERE/data/$split.jsonl" "$STATES/$split"
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

vocabulary() { # the map that the capture of the training conversations wrote
  local map=$STATES/train/vocab_mapping/vocab_mapping.pt
  [ "$METHOD" = eagle3 ] && [ -e "$map" ] && echo "model.vocab_mapping_path=$map" || true
}

train() { # on this machine; slurm/train.sbatch does the same over nodes
  need train "$STATES/train" "Run the stage capture first."
  "$PYTHON" -m torch.distributed.run --standalone --nproc-per-node="$NUM_GPUS" "$HERE/slurm/train_entry.py" "$RUN_CONFIG" \
    model.target_model_path="$TARGET_MODEL_PATH" model.draft_model_config="$DRAFT_CONFIG" \
    data.hidden_states_path="$STATES/train" data.max_length="$MAX_LENGTH" training.batch_size="$BATCH_SIZE" \
    training.num_epochs="$EPOCHS" output_dir="$OUTPUT" $(vocabulary) ${TRAIN_ARGS:-}
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
  draftsmith compare --prompts "$PROMPTS" --target "$TARGET_MODEL_PATH" @arms@ --arm draft="$DRAFT" \
    --out "$HERE/comparison"
}

case "${1:-}" in
  prepare | probe | capture | train) "$1" ;;
  export) export_draft ;;
  eval) [ -d "$DRAFT" ] || export_draft; evaluate ;;
  all) prepare; capture; train; export_draft; evaluate ;;
  *) echo "usage: $0 prepare | probe | capture | train | export | eval | all" >&2; exit 2 ;;
esac
"""

README = """# A draft for @slug@, trained by SpecForge

Target `@target@` · method `@method@` · layers @layers@ as SpecForge counts them (output of layer k), @engine_layers@ as vLLM
does (input of layer k): the same layers.

| file | what |
|---|---|
| `@draft_config@` | the draft head, derived from the target's config.json; it names the layers for vLLM |
| `configs/@slug@-@method@.yaml` | SpecForge's run configuration |
| `run-@slug@-offline.sh` | the stages, driven by variables: read its head |
| `slurm/*.sbatch` | the stages as batch jobs; each starts again by itself after preemption |
| `slurm/probe_states.py` | asked of a few conversations before all are captured |
| `slurm/train_entry.py` | one process of the training, continued from its last checkpoint |
| `deploy/@slug@-spec-canary.yaml` | servers on Kubernetes: @canaries@; nothing routes to them |

Before anything: the target's architecture must be known to the SGLang of the trainer's environment, `CHAT_TEMPLATE`
(now `@chat_template@`) must be the target's: `probe` and `capture` ask SpecForge's own registry before any GPU is used. A server takes
@tp@ GPUs (`TP_SIZE`), and `TARGET_MODEL_PATH` the base checkpoint, not a quantised serving copy.

```sh
export DATA=/path/to/conversations.jsonl SPECFORGE_HOME=/path/to/SpecForge
sbatch slurm/prepare-data.sbatch   # CPU: training, validation and held-out conversations
sbatch slurm/capture.sbatch        # holds the target; probes first; stops if the loss mask is zero or states are missing
sbatch slurm/train.sbatch          # hours; torchrun over every GPU; acc_0 near zero means wiring, not data
sbatch slurm/eval.sbatch           # exports, checks, and compares in the engine
```

`run-@slug@-offline.sh all` does the same on one machine. Nothing here is submitted by itself. Training accuracy is no result:
`eval` measures acceptance and time per token against @baseline@, and a draft that does not win is not shipped.

For the comparison on Kubernetes, put the target at `/models/@slug@` and the draft at `/models/drafts/@slug@` on the claim,
`kubectl apply -f deploy/@slug@-spec-canary.yaml`, and give both addresses to `draftsmith compare`. Remove them by label:
`kubectl delete job,service -l app.kubernetes.io/managed-by=draftsmith,draftsmith.dev/experiment=@slug@-spec`.
"""

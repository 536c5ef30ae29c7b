"""SGLang. What is handed to it and what comes back is text, made and read by pure functions; engine.py alone starts anything.

causes.py      what SGLang logs when it does not start or goes away: its own texts, before those of every engine
corpus.py      earlier answers, given to a running server to draft from
command.py     command line and environment of an SGLang server
engine.py      SGLang as an engine
exclusions.py  what excludes what in SGLang, beyond the keys of a speculative config
features.py    what an installed SGLang can do, found out without importing it
flags.py       a speculative config as SGLang's flags
log.py         what SGLang's own log says: facts for the record, and the stage of a start
metrics.py     SGLang's counters: read from /metrics, compared across a window
weights.py     a draft's weights replaced in a running SGLang, from 0.5.22 on
words.py       the words of an SGLang container
"""

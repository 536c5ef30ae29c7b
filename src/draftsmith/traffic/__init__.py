"""Logs read: records, tokens, classes. What cannot be used is counted by its reason; nothing is guessed and nothing is lost in silence.

agreement.py  whether a logged answer and its token ids are of one model
classes.py    content classes by evidence: what the answer is made of, and only then what the prompt asked for
demo.py       prompts of the demo: booking requests to be turned into JSON, and word problems
languages.py  a light guess of the language of a text: by script first, then by the commonest words
messages.py   messages as they exist in logs: text, reasoning, tool calls and results, media, refusals
phrases.py    what the words of a request ask for
pieces.py     counting the tokens of many texts exactly, without encoding what was counted before
shaped.py     prompts made to bench shapes, for a profile that has lengths and no text
tokens.py     the served model's tokenizer and chat template: counts, ids, prompts as the engine would see them
importers/    importers: any known traffic log becomes a stream of access records
"""

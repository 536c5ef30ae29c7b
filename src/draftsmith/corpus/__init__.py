"""Training rows from traffic: token ids of the engine's own, never rendered again. Whole conversations are held out, and what is left
out is counted by reason.

    answers.py        which logged answers are the target's own, and which prompts it must answer again
    build.py          building corpus/: from access records to rows of the engine's own token ids, split, cleaned and described
    cell_prompts.py   prompts of an exact length, made of real ones
    dedup.py          what a row says that its template does not, and which rows say nearly the same
    general.py        two dozen everyday requests, written for Draftsmith: (kind, text)
    matching.py       making a corpus look like the traffic
    prompts.py        the pinned prompts of a comparison: chosen once, in a stable order, hashed
    public_mix.py     public prompts in place of traffic of which only lengths and classes are known
    reading.py        opening a corpus that was built: verified first, then row by row
    redaction.py      personal data and secrets in prompts and answers: found, replaced in prompts, and refused in answers
    rows.py           one access record becomes one row of engine token ids, or a reason why it cannot
    selection.py      which spilled rows enter which split, and why the others do not
    spill.py          rows on disk while a corpus is built: memory stays at one chunk and a few numbers per row
    splits.py         which rows belong to one conversation, and which conversations are held out
    target_tokens.py  the target's tokenizer, for checks alone: rows always keep the engine's own ids
    vocabulary.py     the draft's reduced vocabulary
"""

"""The first edition of the gate, frozen: plans of `draftsmith_comparison_v1` are decided here as they always were, bit for bit, so
that their bundles verify.

    decide.py      the gate: from frozen plan and raw trials to WIN, LOSS or INCONCLUSIVE, with the reason and the tier
    floor.py       A/A: how far equal servers differ here, and what gain is therefore worth claiming
    guards.py      non-inferiority checks: what a faster median must not cost
    pair.py        one arm against the baseline at one operating point
    power.py       how many blocks a comparison will need, before it is run
    sequential.py  the stopping rule: what the gate says after each block, without charging twice for looking often
    tier.py        how far a decision may be trusted
"""

"""Statistics and the decision. Pure: no clock, no files, no randomness beyond a seeded generator.

across.py          the plans of several engines side by side: which engine, method and K
advice.py          what to do at each concurrency, in one sentence with its numbers
agreement.py       how well a few starts have to agree before they may carry a claim
arms.py            what an arm says of itself, in its configuration or in the words of its command
bench.py           the evidence of one operating point, laid out once for all pairs
blocks.py          blocks and the server starts behind them: what both editions of the rule are made of
break_even.py      what a step costs with a draft, and the acceptance at which that is paid back
conditions.py      what else tier `verdict` promises: the same model, the same answers, the same clocks and caches
decide.py          the gate: from frozen plan and raw trials to WIN, LOSS or INCONCLUSIVE, with the reason and the tier
divergence.py      how often an arm answers other than the baseline, against how often the baseline answers other than itself
estimate.py        from trials to per-block log ratios
guards.py          non-inferiority checks: what a faster median must not cost
learning_curve.py  how well a draft accepts, by how much traffic it was trained on
measures.py        what a block says of a candidate: one log ratio, and how much each prompt has to do with it
moved.py           what moved between two campaigns beyond the noise of both
modes.py           whether two arms were served in the same mode, by the engine's own word
pair.py            one arm against the baseline at one operating point
plan_check.py      a plan against what was measured afterwards
points.py          which operating points decide, and which arms are on trial
prompts_needed.py  how many different prompts a claim needs, before anything is measured
record.py          what is wrong with trials as a record of a campaign, whatever they say of speed
rule.py            when the gate looks, and what it says at a look
samples.py         the identity of the raw evidence
schedule.py        speculation length by concurrency, where the winner changes with the load
second.py          the second edition: a plan of `draftsmith_comparison_v2` and its trials to a decision
spread.py          an estimate over server starts, and what its error is made of
stricter.py        thresholds against the defaults: which ones let more through
summary.py         what one arm did at one operating point, for the tables of a report
tier.py            how far a decision may be trusted
twin.py            the baseline's twin: its second pass in every block
validate.py        which trials may be used at all
visits.py          when each arm is asked what: the order of a block's visits
first/             the first edition of the gate, frozen: plans of `draftsmith_comparison_v1` are decided here as they always were, bit for bit, so that their bundles verify
"""

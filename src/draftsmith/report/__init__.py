"""The report: one HTML page without scripts, its plots and tables. No number without its context; a missing figure says why.

cells.py           what a table of a report is made of
counters.py        which readings of the GPU's counters belong to which arm
frontier.py        what new evidence does to the frontier: levers join it, are refuted, or no longer spoken for
next_lever.py      what to try next, what it should bring, and the gate that would prove it
numbers.py         numbers as text, and the context that goes with every one of them
page.py            report.html: one file, no scripts, nothing loaded from elsewhere, readable in light, dark and print
parts.py           what a report is made from
atlas_page.py      the page of a campaign: every cell, and what it says
plan_page.py       plan.html: break-even curves and what follows from them
plots.py           the plots of a report
plots_draft.py     plots of the draft: acceptance while serving, and training
plots_traffic.py   plots of the traffic: lengths, content classes, and what trainless methods would reach on it
reduce.py          from trials and training records to the few numbers a plot or table shows
sol.py             speed of light: the shortest TPOT that memory traffic allows, and how close each arm is to it
story.py           the path of a decision, step by step from the frozen plan to the verdict
summary.py         the verdict in a few lines: summary.md, and what the terminal shows
svg.py             from a matplotlib figure to SVG that lives inside the page: its colours are the page's CSS variables
tables.py          tables of a comparison: arms, load, answers, guards
tables_draft.py    tables of the corpus and of the draft
tables_machine.py  tables of engine and machine: what the engine said, how near the ceiling, where the time went
tables_traffic.py  tables of the traffic, as profiled
templates.py       the pages' templates, which lie beside this file
"""

"""The forecast job of `draftsmith plan`: what a step costs with a draft, and what that draft must reach.

__main__.py  runs the job: `python -m draftsmith.work.plan job.json`
bench.py     measuring what a step costs
forecast.py  job: the break-even pre-flight
prompts.py   the prompts of a plan: the profile's lengths, and nothing of its text
records.py   what earlier runs in a workspace measured on the same target
"""

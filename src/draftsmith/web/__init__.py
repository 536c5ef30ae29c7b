"""What operators see: a page, metrics for Prometheus. It reads workspaces through `api.watch` and acts through `api` alone.

acts.py      what an operator can do from the page
app.py       addresses, headers, and what each shows
metrics.py   metrics in the text format of Prometheus
pages.py     HTML from views, everything escaped
pulse.py     telling open pages that something changed
running.py   the page on a port: alone, or beside a controller in its process
session.py   who may act: token, cookie, forms
traces.py    runs and acts as OpenTelemetry spans

The folders templates and static hold the pages, and the two files that a browser is given beside them.
"""

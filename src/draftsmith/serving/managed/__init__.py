"""A served model on this machine: engines as processes behind HAProxy, switched through its runtime socket.

fleet.py    engines and proxy brought to what is wanted: start, warm, smoke, shift, drain, stop
haproxy.py  the proxy's configuration and the words of its runtime socket. Pure
hot_swap.py  a draft's weights replaced in a running engine
options.py  `[serving.options]` when `serving.kind = "managed"`
proxy.py    the proxy as a process, and its runtime socket
sides.py    configurations side by side, each with its share of live traffic. Pure
smoke.py    a few requests that an engine answers before live traffic reaches it
"""

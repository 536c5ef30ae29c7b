"""The tools of an agent, over the Model Context Protocol: what the commands do, on the same functions, with the same laws.

acts.py      tools that act, there only where the server was started to allow it
answers.py   how a tool answers: values as JSON, errors with their next step, progress as notifications
http.py      streamable HTTP on loopback, for requests that name this address alone
server.py    the server: tools that look, tools that act, and bundles and reports as resources
"""

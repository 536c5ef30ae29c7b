"""Records live traffic from inside the server, as pure ASGI. Serving comes first: what cannot be recorded is counted, never waited for.
Every voice can say no, and unknown means no.

    files.py       private JSON-lines files that rotate by size and day, with a cap on what they take together
    middleware.py  recording a served model's traffic from inside the server, for `vllm serve --middleware`
    policy.py      who may be recorded: API keys by hash, headers, and fields of the request
    record.py      from the copied bytes of one request and its answer to an access record
    settings.py    settings of the capture middleware, from environment variables
"""

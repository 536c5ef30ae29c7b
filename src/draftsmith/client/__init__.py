"""The load client: sends prompts to a server and times the answers. Times come from the monotonic clock; no text is kept except in
the requested access log.

    dcgm.py    DCGM's profiling counters with their times, from an exporter's text or from Prometheus
    log.py     from a prompts file to an access log, resumable
    replay.py  replaying prompts against an OpenAI-compatible server, and recording exactly what came back
"""

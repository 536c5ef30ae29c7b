"""A stand-in for vLLM that speaks its wire protocol. See api_server.py."""

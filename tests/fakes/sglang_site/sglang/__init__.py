"""A stand-in for SGLang that speaks its wire protocol. See launch_server.py."""

"""The certificates that a client trusts, loaded once: it takes 0.1 s of a core, as long as many an answer that is measured."""

from __future__ import annotations

import ssl
from functools import lru_cache


@lru_cache
def trusted(*, environment: bool = False) -> ssl.SSLContext:
    """For `verify` of a client. `environment`: also what SSL_CERT_FILE or SSL_CERT_DIR names."""
    import httpx

    return httpx.create_ssl_context(trust_env=environment)

"""What an engine's speculative configuration says. `None` stands for no speculation.

A speculative config is the JSON object that vLLM takes with `--speculative-config`; SGLang's flags are translated into
the same keys. Only `method`, `model` and `num_speculative_tokens` are read here; everything else is the engine's own.
"""

from __future__ import annotations

from typing import Any

SpecConfig = dict[str, Any] | None

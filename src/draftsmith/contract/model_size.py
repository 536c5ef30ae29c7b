"""How large a model is, by what one decode step reads of it."""

from __future__ import annotations

from draftsmith.contract.base import Frozen

BYTES = {None: 2.0, "fp8": 1.0, "mxfp4": 0.53}  # of a routed weight; the rest of an MXFP4 model stays in 16 bits
CACHE_BYTES = 2


class ModelSize(Frozen):
    """Parameters by what a step reads of them, and the cache.

    `dense`: read at every step. `routed`: of all experts together; a token reads `chosen` of `experts` of them.
    `looked_up`: embeddings, of which a step reads single rows (0 where they serve as the head too).
    `cache_elements`: keys and values that one token adds over all layers that keep the whole context;
    `window_elements`: over layers that keep a window, which stops growing at `window` tokens.
    """

    dense: int
    routed: int = 0
    experts: int = 0
    chosen: int = 0
    looked_up: int = 0
    cache_elements: int = 0
    window_elements: int = 0
    window: int | None = None

    @property
    def total(self) -> int:
        """All parameters."""
        return self.dense + self.routed + self.looked_up

    @property
    def active(self) -> int:
        """Parameters that one token passes through, embeddings included as publishers count them."""
        return self.dense + self.looked_up + (self.routed * self.chosen // self.experts if self.experts else 0)

    def weight_bytes(self, precision: str | None = None) -> float:
        """Of all weights. `precision` as in TargetFacts: None (16 bits), fp8, mxfp4 (routed weights alone)."""
        rest = 2.0 if precision == "mxfp4" else BYTES[precision]
        return rest * self.dense + BYTES[precision] * self.routed + 2.0 * self.looked_up

    def experts_read(self, tokens: float) -> float:
        """Share of the routed weights that `tokens` tokens of one step read, if each chooses evenly and alone."""
        if not self.experts:
            return 0.0
        return float(1 - (1 - self.chosen / self.experts) ** max(tokens, 0.0))

    def cache_bytes(self, context: float, element_bytes: float = CACHE_BYTES) -> float:
        """Cache of one sequence of `context` tokens: what a step reads of it."""
        window = min(context, self.window) if self.window else context
        return element_bytes * (self.cache_elements * context + self.window_elements * window)

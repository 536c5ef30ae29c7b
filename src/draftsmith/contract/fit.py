"""Whether a target fits its GPUs: memory by part, for one number of GPUs a server."""

from __future__ import annotations

from draftsmith.contract.base import Frozen


class Fit(Frozen):
    """One server split over `gpus` GPUs by tensor parallelism. Sizes in GiB on each GPU.

    `cache` is what is left for keys and values, below 0 where weights alone are too much; `tokens` is what it holds, of
    target and draft together. `refused`: why the model cannot be split so, whatever the memory.
    """

    gpus: int
    gpu_gib: float
    residents: int = 1
    weights: float
    draft: float
    process: float
    cache: float
    tokens: int
    needed_tokens: int
    refused: str | None = None
    notes: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether the server starts: split as asked, with a cache for one request of the longest context."""
        return self.refused is None and self.tokens >= self.needed_tokens

    @property
    def sentence(self) -> str:
        """For people: every part, and whether that is enough."""
        where = f"{self.gpus} GPU{'s' if self.gpus > 1 else ''} of {self.gpu_gib:.0f} GiB"
        if self.residents > 1:
            where += f", {self.residents} servers beside each other"
        if self.refused:
            return f"{where}: {self.refused}"
        parts = f"on each {self.weights:.1f} GiB of weights, {self.draft:.1f} of the draft, {self.process:.1f} of work space"
        if self.cache <= 0:
            return f"{where}: does not fit: {parts}, which leaves no room for a cache"
        held = f"{self.cache:.1f} of cache for {self.tokens:,} tokens"
        if not self.fits:
            return f"{where}: does not fit: {parts}, {held}; one request of the longest context takes {self.needed_tokens:,}"
        return f"{where}: {parts}, {held}"

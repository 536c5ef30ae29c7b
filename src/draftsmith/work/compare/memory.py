"""What a server remembers of its answers. One that drafts from them must not find there the answer to the very prompt.

SGLang's n-gram trie is fed with every answer of the server. In service a prompt seldom comes twice; here one does, at every operating
point and wherever blocks share prompts, and its answer would be accepted from memory.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from draftsmith.corpus.prompts import Prompt
from draftsmith.engines.base import Engine
from draftsmith.work.compare.trial import Endpoint


class Memory:
    """What each start of a server was asked since it last forgot. A start that is not known may have been asked anything."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._asked: dict[str, set[str]] = {}

    def before(self, endpoint: Endpoint, prompts: Iterable[Prompt], forgot: Callable[[], None]) -> None:
        """Call before `prompts` are sent. `forgot` is called where the server had to forget, its prefix cache included.

        Raises EngineError or EngineLostError if a server that should forget does not.
        """
        now = {prompt.prompt_id for prompt in prompts}
        expected = self._asked.get(endpoint.start_id)
        if expected is not None and not expected & now:
            expected |= now
            return
        self._asked[endpoint.start_id] = now
        if (endpoint.engine or self.engine).forget(endpoint.url, endpoint.method):
            forgot()

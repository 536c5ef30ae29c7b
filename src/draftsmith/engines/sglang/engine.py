"""SGLang as an engine. The decisions are in the modules beside this one."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path, PurePath
from typing import Any

from draftsmith.contract.errors import DraftsmithError, EngineStartError, PrerequisiteError
from draftsmith.contract.measure import EngineFacts, SpecCounters
from draftsmith.contract.speculation import read
from draftsmith.engines.base import (
    Command,
    Device,
    Features,
    Installation,
    OnStage,
    Server,
    ServerIdentity,
    ServerSpec,
    Snapshot,
)
from draftsmith.engines.container_command import ContainerCommand
from draftsmith.engines.diagnosis import Diagnosis
from draftsmith.engines.models import KnownModels
from draftsmith.engines.process import ServerProcess, read_head
from draftsmith.engines.sglang import causes as sglang_causes
from draftsmith.engines.sglang import command as sglang_command
from draftsmith.engines.sglang import corpus as sglang_corpus
from draftsmith.engines.sglang import log as sglang_log
from draftsmith.engines.sglang import metrics as sglang_metrics
from draftsmith.engines.sglang import weights as sglang_weights
from draftsmith.engines.sglang import words as sglang_words
from draftsmith.engines.sglang.exclusions import require_possible
from draftsmith.engines.sglang.features import KNOWN, features, installed
from draftsmith.engines.sglang.flags import speculation_flags


class SglangEngine(ServerProcess):
    """See engines.base.Engine."""

    name = "sglang"
    title = "SGLang"
    captures = False  # it returns those of the last layer or of the auxiliary ones, never both, as JSON
    normed_residual = False  # see command.own_models
    not_inherited = frozenset({"SGLANG_API_KEY"})

    def installation(self, python: str | None, *, elsewhere: bool = False) -> Installation:
        """See Engine."""
        return installed(python)

    def features(self, version: str, device: Device) -> Features:
        """See Engine."""
        return features(version)

    def known_models(self, python: str | None) -> KnownModels:
        """See Engine. SGLang is not asked for its models: which target can be captured is the capturing engine's matter."""
        raise PrerequisiteError(
            "SGLang does not list the models it knows", "the list of a known release is used instead"
        )

    def installed(self, spec: ServerSpec) -> tuple[Installation, Features]:
        """See Engine."""
        installation = installed(spec.python)
        return installation, features(installation.version)

    def command(self, spec: ServerSpec) -> Command:
        """See Engine. Raises ConfigError, InputError or PrerequisiteError for what SGLang would refuse or misread."""
        installation, known = self.installed(spec)
        return sglang_command.render(spec, installation, known)

    def kv_flags(self, gib: float, token_bytes: float) -> tuple[str, ...]:
        """See Engine. Its cache is counted in tokens, draft's and target's alike."""
        return (sglang_command.KV_TOKENS, str(int(gib * 2**30 / token_bytes))) if token_bytes else ()

    def runs(self, words: Sequence[str]) -> bool:
        """See Engine."""
        console = len(words) > 1 and PurePath(words[0]).name == "sglang" and words[1] == "serve"
        return console or sglang_command.MODULE in words

    def own(self, words: Sequence[str], spec: ServerSpec) -> Command:
        """See Engine. It is left as it is: SGLang's console command and module start alike."""
        return Command(argv=tuple(words), env={**sglang_command.PRIVACY, **spec.env})

    def no_swaps(self, python: str | None) -> str | None:
        """See Engine. Older releases load what they are given into draft and target alike."""
        installation = installed(python)
        if features(installation.version).draft_updates:
            return None
        first = ".".join(map(str, sglang_weights.FIRST))
        return f"SGLang {installation.version} replaces no draft alone in a running server; {first} does"

    def ready_for_swaps(self, spec: ServerSpec, folder: Path, drafts: Path) -> ServerSpec:
        """See Engine. Nothing has to be prepared."""
        return spec

    def swap_draft(self, spec: ServerSpec, url: str, old: Path, new: Path) -> dict[str, Any]:
        """See Engine."""
        return sglang_weights.replace(url, old, new, spec.python, spec.tensor_parallel)

    def check_own(self, words: Sequence[str]) -> None:
        """See Engine. Of releases the newest known is meant: the command brings an SGLang of its own."""
        speculation = read(sglang_words.own_config(words))
        if speculation is None:
            return
        # Without a draft of its own, the target is meant.
        speculation_flags(speculation.model_copy(update={"draft": speculation.draft or "the target"}))
        require_possible(speculation, words, KNOWN[max(KNOWN)])
        if speculation.draft:
            sglang_command.require_own_notation(Path(speculation.draft))

    def stage(self, lines: list[str]) -> str:
        """See ServerProcess."""
        return sglang_log.stage(lines)

    def diagnose(self, text: str, exit_code: int | None) -> Diagnosis:
        """See ServerProcess."""
        return sglang_causes.diagnose(text, exit_code)

    def wait_ready(self, server: Server, timeout_s: float, on_stage: OnStage | None = None) -> None:
        """See Engine. A server that drafts from earlier answers has them when it is ready."""
        super().wait_ready(server, timeout_s, on_stage)
        speculation = read(server.spec.spec_config)
        if speculation is None or speculation.corpus is None:
            return
        try:
            sglang_corpus.load(server.url, Path(speculation.corpus))
        except DraftsmithError as error:
            self.stop(server)
            raise EngineStartError(error.message, "", error.next_step) from None

    def facts(self, server: Server) -> EngineFacts:
        """See Engine. The version is queried from the server: its log does not contain it."""
        version = None
        with contextlib.suppress(DraftsmithError, ValueError):
            version = sglang_metrics.server_info(server.url).get("version")
        return sglang_log.facts(read_head(server.log), server.start_id, version)

    def facts_of(self, log: str, start_id: str) -> EngineFacts:
        """See Engine."""
        return sglang_log.facts(log, start_id)

    def published(self, url: str, key: str | None = None) -> EngineFacts:
        """See Engine."""
        return sglang_metrics.published(url, key)

    def asks(self, version: str | None) -> dict[str, Any]:
        """See Engine. Token ids of a streamed chat answer it does not hand out: a request that asks for them is refused."""
        known = version is not None and features(version).per_request_metrics
        return {"return_token_ids": False} | ({"return_spec_tokens_details": True} if known else {})

    def identify(self, url: str) -> ServerIdentity:
        """See Engine."""
        return sglang_metrics.identity(url)

    def reading(self, url: str) -> Snapshot:
        """See Engine."""
        return sglang_metrics.read(url)

    def counters(self, url: str) -> Snapshot:
        """See Engine."""
        return sglang_metrics.settled(url, self.clock, self.pause_s)

    def diff(self, before: Snapshot, after: Snapshot) -> SpecCounters:
        """See Engine."""
        return sglang_metrics.diff(before, after)

    def forget(self, url: str, method: str | None) -> bool:
        """See Engine. Its n-gram trie holds every answer; a corpus that was loaded stays."""
        if method == "ngram":
            sglang_metrics.flush(url)
        return method == "ngram"

    def speculates(self, reading: Snapshot) -> bool:
        """See Engine."""
        return sglang_metrics.speculates(reading)

    def read_words(self, command: list[str], args: list[str], *, image: bool) -> ContainerCommand:
        """See Engine. SGLang's images start no server by themselves: the words have to."""
        return sglang_words.read_command(command, args)

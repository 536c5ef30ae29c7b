"""Personal data and secrets in prompts and answers: found, replaced in prompts, and refused in answers.

Law: a redacted answer is not what the target said, so its row is dropped. A redacted prompt loses its old answer and
its token ids, and goes back to the target, which answers the redacted text. What is stored is checked again as stored: the text of the token ids.
Patterns find structured data (addresses of e-mail, cards, keys); they do not find names. See docs/corpus.md.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from draftsmith.contract.access import AccessRecord, Usage
from draftsmith.contract.config import CorpusConfig
from draftsmith.contract.errors import PrerequisiteError
from draftsmith.corpus.rows import Row, asked, pseudonym, sampling
from draftsmith.corpus.target_tokens import TargetTokens

# Dates and postal codes are left out: they are everywhere and rarely identify anyone by themselves.
ENTITIES = (
    "API_KEY", "BEARER_TOKEN", "CREDENTIAL_URI", "CREDIT_CARD", "EMAIL", "IP_ADDRESS", "JWT", "PHONE",
    "PRIVATE_KEY", "SSN", "US_ROUTING_NUMBER",
)  # fmt: skip
# Detectors of detect-secrets that know a token by its form; its guesses by entropy or by a word nearby are not used.
SECRET_DETECTORS = (
    "artifactory.ArtifactoryDetector", "aws.AWSKeyDetector", "azure_storage_key.AzureStorageKeyDetector",
    "basic_auth.BasicAuthDetector", "discord.DiscordBotTokenDetector", "github_token.GitHubTokenDetector",
    "gitlab_token.GitLabTokenDetector", "mailchimp.MailchimpDetector", "npm.NpmDetector", "openai.OpenAIDetector",
    "pypi_token.PypiTokenDetector", "sendgrid.SendGridDetector", "slack.SlackDetector",
    "square_oauth.SquareOAuthDetector", "stripe.StripeDetector", "telegram_token.TelegramBotTokenDetector",
    "twilio.TwilioKeyDetector",
)  # fmt: skip
# What a detector's tokens always hold: looked for first, where its pattern is slow on text that only begins like one.
MARKS = {"OpenAIDetector": "T3BlbkFJ"}
# Keys of model providers that neither library knows yet.
PATTERNS = {"API_KEY": r"\b(?:sk-(?:ant|proj|svcacct)-[\w-]{20,}|hf_[A-Za-z0-9]{30,}|AIza[\w-]{35})"}
# Keys of a message that are structure, not speech.
STRUCTURE = frozenset({"role", "type", "id", "tool_call_id"})


@dataclass(frozen=True)
class Finding:
    """Where in a text (characters [start, end)) something of this kind stands."""

    start: int
    end: int
    kind: str


Finder = Callable[[str], Iterable[Finding]]
PIECE, OVERLAP = 8192, 4096  # characters; the longest thing looked for is a private key


def _pieces(text: str) -> Iterator[tuple[int, str]]:
    """A long text in overlapping pieces, with where each begins: patterns of the libraries cost the square of a text's length.

    A piece begins behind white space where there is some, so that no word is cut in two.
    """
    begin = 0
    while True:
        yield begin, text[begin : begin + PIECE]
        if begin + PIECE >= len(text):
            return
        begin += PIECE - OVERLAP
        gap = next((place for place in range(begin, begin - OVERLAP // 4, -1) if text[place - 1].isspace()), begin)
        begin = gap


class Redactor:
    """Finds and replaces. `allow`: exact texts that are no secret (a public support address). `patterns`: kind -> regex."""

    def __init__(self, *, allow: Collection[str] = (), patterns: dict[str, str] | None = None) -> None:
        named = [*PATTERNS.items(), *(patterns or {}).items()]
        self._finders: list[Finder] = [_personal_data(), _secrets(), *(_pattern(kind, regex) for kind, regex in named)]
        self._allow = frozenset(allow)

    def find(self, text: str) -> list[Finding]:
        """Findings in order, without overlap (the longer one wins)."""
        findings = [f for f in self._all(text) if text[f.start : f.end] not in self._allow]
        result: list[Finding] = []
        for finding in sorted(findings, key=lambda f: (f.start, -f.end, f.kind)):
            if not result or finding.start >= result[-1].end:
                result.append(finding)
        return result

    def _all(self, text: str) -> Iterator[Finding]:
        for begin, piece in _pieces(text):
            for finder in self._finders:
                for f in finder(piece):
                    yield Finding(begin + f.start, begin + f.end, f.kind)

    def clean(self, text: str) -> tuple[str, Counter[str]]:
        """(text with [KIND] for every finding, findings by kind)."""
        findings = self.find(text)
        for finding in reversed(findings):
            text = f"{text[: finding.start]}[{finding.kind}]{text[finding.end :]}"
        return text, Counter(f.kind for f in findings)

    def prompt(self, record: AccessRecord) -> tuple[AccessRecord, Counter[str]]:
        """(record with a clean prompt, clean parameters and clean names, findings by kind in the first two).

        A changed prompt leaves without answer and token ids. What only names a user is left out, and is no finding.
        """
        counts: Counter[str] = Counter()

        def clean(text: str) -> str:
            text, findings = self.clean(text)
            counts.update(findings)
            return text

        messages, params = _mapped(record.messages, clean), _mapped(sampling(record.params), clean)
        names = {
            "id": self.name(record.id),
            "conversation": record.conversation and self.name(record.conversation),
            "route": record.route and self.name(record.route),
        }
        if not counts:
            return record.model_copy(update={**names, "params": params}), counts
        cleared = {
            "completion": None,
            "answer": None,
            "prompt_token_ids": None,
            "output_token_ids": None,
            "finish_reason": None,
        }
        changed = {**names, **cleared, "messages": messages, "params": params, "usage": Usage(), "spec": None}
        return record.model_copy(update=changed), counts

    def check(self, tokens: TargetTokens) -> Callable[[Row], Row | str]:
        """The test `build_corpus` runs on each row: a reason to drop it, or the row with clean names."""

        def test(row: Row) -> Row | str:
            prompt, answer = row.input_ids[: row.prompt_tokens], row.input_ids[row.prompt_tokens :]
            if self.find(tokens.text(answer.tolist())):
                return "redacted_answer"
            if self.find(tokens.text(prompt.tolist())) or self.find(asked(row.messages)) or self.find(row.params):
                return "redacted_prompt"
            return replace(row, id=self.name(row.id), conversation=row.conversation and self.name(row.conversation))

        return test

    def name(self, name: str) -> str:
        """`name`, or a hash where it holds something: gateways like to name conversations by the user's address."""
        return pseudonym(name) if self.find(name) else name


def shown_names(settings: CorpusConfig) -> Callable[[str], str] | None:
    """How the routes of a profile are named: hashed under zero retention, since gateways name them by users; else as redaction says."""
    if settings.retention == "zero":
        return pseudonym
    return Redactor().name if settings.redact else None


def _mapped(value: Any, change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return change(value)
    if isinstance(value, dict):
        return {k: v if k in STRUCTURE else _mapped(v, change) for k, v in value.items()}
    if isinstance(value, list):
        return [_mapped(item, change) for item in value]
    return value


def _pattern(kind: str, regex: str) -> Finder:
    compiled = re.compile(regex)

    def find(text: str) -> Iterator[Finding]:
        return (Finding(*match.span(), kind) for match in compiled.finditer(text))

    return find


@cache
def _personal_data() -> Finder:
    try:
        from datafog_core import scan
    except ImportError:
        raise _missing("datafog-core") from None

    def find(text: str) -> Iterator[Finding]:
        for entity in scan(text, {"entities": list(ENTITIES)}):
            yield Finding(entity.codepoint_range.start, entity.codepoint_range.end, str(entity.entity_type))

    return find


@cache
def _secrets() -> Finder:
    import importlib

    try:
        detectors = [
            (getattr(importlib.import_module(f"detect_secrets.plugins.{module}"), name)(), MARKS.get(name))
            for module, name in (entry.split(".") for entry in SECRET_DETECTORS)
        ]
    except (ImportError, AttributeError):
        raise _missing("detect-secrets") from None

    def find(text: str) -> Iterator[Finding]:
        for detector, mark in detectors:
            if mark and mark not in text:
                continue
            for secret in set(detector.analyze_string(text)):
                for match in re.finditer(re.escape(secret), text) if secret else ():
                    yield Finding(*match.span(), "SECRET")

    return find


def _missing(package: str) -> PrerequisiteError:
    return PrerequisiteError(f"redaction needs the package {package}", "pip install 'draftsmith[redaction]'")

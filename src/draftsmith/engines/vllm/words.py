"""The command of a vLLM container: read, and rewritten with another speculative config. Pure.

Forms that are met: `vllm serve MODEL ...`, `python -m vllm.entrypoints.openai.api_server ...`, flags alone where the
image starts vLLM itself, and each of them inside `sh -c '...'`. Flags with a space or with `=`, dashes or underscores.
Whatever is not understood is refused: a patch of a command that was guessed could take a service down.
"""

from __future__ import annotations

import json
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from draftsmith.contract.errors import InputError
from draftsmith.contract.speculation import SpecConfig
from draftsmith.engines import shell_words
from draftsmith.engines.base import NO_ENGINE
from draftsmith.engines.shell_words import NotUnderstoodError, Word

SPEC_FLAGS = frozenset({"--speculative-config", "-sc"})
# Other spellings of speculation: read by vLLM, not rewritten here.
SPEC_OTHERS = re.compile(
    r"--(spec-method|spec-model|spec-tokens|speculative-(model|draft|max|disable|token)[\w-]*|num-speculative-tokens|num-lookahead-slots)"
)
HIDING = "--config"  # a file with further flags, which cannot be seen from here
MANY_VALUES = frozenset(
    {"--served-model-name", "--lora-modules", "--cuda-graph-sizes", "--cudagraph-capture-sizes", "--middleware",
     "--allowed-origins", "--allowed-methods", "--allowed-headers", "--api-key"}
)  # fmt: skip
SHELLS = frozenset({"sh", "bash", "dash", "ash"})
MODULE = "vllm.entrypoints.openai.api_server"


@dataclass(frozen=True)
class ServerCommand:
    """`command` and `args` of a container. `script` None: words as they are; else the index of the shell text in
    `command + args`, and `words` are those of its vLLM command. `flags`: index of the first flag in `words`."""

    command: tuple[str, ...]
    args: tuple[str, ...]
    words: tuple[Word, ...]
    flags: int
    script: int | None = None

    def values(self, name: str) -> list[str | None]:
        """What is given for a flag, each time it is; None for one without a value."""
        return [item.value for item in _flags(self) if item.flag == name]

    @property
    def model(self) -> str | None:
        """The served model, as it is written."""
        given = self.values("--model")
        positional = [word.value for word in self.words[: self.flags]][-1:] if self._positional else []
        return (given or positional or [None])[-1]

    @property
    def _positional(self) -> bool:
        head = [word.value for word in self.words[: self.flags]]
        return bool(head) and head[-1] != "serve" and "serve" in head

    @property
    def port(self) -> int:
        """The port it listens on."""
        given = [value for value in self.values("--port") if value]
        if given and not given[-1].isdigit():
            raise InputError(f"the port of the served container is {given[-1]!r}, not a number", "write it as a number")
        return int(given[-1]) if given else 8000

    @property
    def spec_config(self) -> SpecConfig:
        """The speculative config in the flags; None = off. Raises InputError if it cannot be known."""
        items = list(_flags(self))
        given = [(item.value, item.word) for item in items if item.flag in SPEC_FLAGS]
        dotted = [item.flag for item in items if item.flag.startswith("--speculative-config.")]
        others = [item.flag for item in items if SPEC_OTHERS.fullmatch(item.flag)]
        if dotted or others:
            raise _refused(f"it uses {(dotted + others)[0]}", "write it as one --speculative-config JSON")
        if len(given) > 1:
            raise _refused("--speculative-config is there more than once", "leave one of them")
        if self.values(HIDING):
            raise _refused("further flags are in a file (--config)", "move them into the arguments")
        if not given:
            return None
        value, word = given[0]
        if value is None or word.variable or "$(" in value:
            raise _refused("the value of --speculative-config is a variable", "write the JSON itself")
        try:
            config = json.loads(value)
        except ValueError:
            config = ""
        if config is not None and not isinstance(config, dict):
            raise _refused("--speculative-config is not a JSON object", "correct it")
        return config

    def spec_words(self, config: SpecConfig) -> list[str]:
        """The flag and its JSON; empty for None."""
        return ["--speculative-config", compact(config)] if config else []

    def with_spec(self, config: SpecConfig) -> ServerCommand:
        """The same command with another speculative config, everything else as it is. Raises InputError."""
        if self.spec_config == config:
            return self
        cut = [place for item in _flags(self) if item.flag in SPEC_FLAGS for place in range(item.start, item.end)]
        added = [] if config is None else ["--speculative-config", compact(config)]
        if self.script is None:
            kept = [word.value for index, word in enumerate(self.words) if index not in cut]
            return self._with_words([*kept, *added])
        text = shell_words.replace(
            (*self.command, *self.args)[self.script], [self.words[i] for i in cut], self._anchor(cut), added
        )
        whole = [*self.command, *self.args]
        whole[self.script] = text
        return read_command(whole[: len(self.command)], whole[len(self.command) :], vllm_image=True)

    def without_flags(self, names: tuple[str, ...]) -> ServerCommand:
        """The same command without these flags and their values."""
        cut = [place for item in _flags(self) if item.flag in names for place in range(item.start, item.end)]
        if not cut:
            return self
        if self.script is None:
            return self._with_words([word.value for index, word in enumerate(self.words) if index not in cut])
        whole = [*self.command, *self.args]
        words = [self.words[place] for place in cut]
        whole[self.script] = shell_words.replace(whole[self.script], words, self._anchor(cut), [])
        return read_command(whole[: len(self.command)], whole[len(self.command) :], vllm_image=True)

    def with_flags(self, flags: tuple[str, ...]) -> ServerCommand:
        """The same command with further flags at its end."""
        if not flags:
            return self
        if self.script is None:
            return self._with_words([*(word.value for word in self.words), *flags])
        whole = [*self.command, *self.args]
        whole[self.script] = shell_words.replace(whole[self.script], [], self.words[-1], list(flags))
        return read_command(whole[: len(self.command)], whole[len(self.command) :], vllm_image=True)

    def _anchor(self, cut: list[int]) -> Word:
        kept = [word for index, word in enumerate(self.words) if index not in cut]
        return self.words[cut[0] - 1] if cut else kept[-1]

    def _with_words(self, words: list[str]) -> ServerCommand:
        if self.args or not self.command:  # flags stay where they were: the command is a prefix of the words
            return read_command(words[: len(self.command)], words[len(self.command) :], vllm_image=True)
        return read_command(words, [], vllm_image=True)


def read_command(command: list[str], args: list[str], *, vllm_image: bool) -> ServerCommand:
    """Parse `command` and `args` of a container. `vllm_image`: the image is known to start vLLM without a command.

    Raises InputError for a container that does not run vLLM, or whose command is not understood.
    """
    whole = [*command, *args]
    parsed = ServerCommand(tuple(command), tuple(args), (), 0)
    if command and posixpath.basename(command[0]) in SHELLS:
        parsed = _read_script(parsed, whole)
    else:
        words = tuple(Word(value, 0, 0, "$(" in value) for value in whole)
        first = _first_flag([word.value for word in words]) if command or not vllm_image else _bare(args)
        parsed = replace(parsed, words=words, flags=first)
    list(_flags(parsed))  # complains now about what it does not understand
    return parsed


def compact(config: dict[str, Any]) -> str:
    """The JSON that goes into the arguments. Raises InputError for text that Kubernetes would expand."""
    text = json.dumps(config, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    if "$(" in text:
        raise InputError("the speculative config holds '$(', which Kubernetes expands", "rename the draft's folder")
    return text


def _read_script(parsed: ServerCommand, whole: list[str]) -> ServerCommand:
    options = [index for index, word in enumerate(whole[1:], 1) if word.startswith("-") and word.endswith("c")]
    if not options or options[0] + 1 >= len(whole):
        raise _refused("a shell runs a script that is not in the container's command", "write it as sh -c '...'")
    index = options[0] + 1
    if "$(" in whole[index]:
        raise _refused("the script uses a substitution", "write the value itself")
    try:
        found = shell_words.commands(whole[index])
    except NotUnderstoodError as error:
        raise _refused(str(error), "write the vLLM command as a plain list of arguments") from error
    ours = [(number, start) for number, words in enumerate(found) if (start := _start(words)) is not None]
    if not ours:
        raise InputError("the served container does not run vLLM", NO_ENGINE)
    number, start = ours[-1]
    if len(ours) > 1 or number != len(found) - 1:
        raise _refused("vLLM is not the last command of the script", "start one server, as the last command")
    words = tuple(found[number][start:])
    if words[-1].value in ('"$@"', "$@"):
        raise _refused('the script passes "$@" on', "write the arguments into the script")
    return replace(parsed, words=words, flags=_first_flag([word.value for word in words]), script=index)


def _start(words: list[Word]) -> int | None:
    """Where the server's command begins, after `exec` and variables; None if this is another program."""
    index = 0
    while index < len(words) and (words[index].value in ("exec", "env") or re.match(r"\w+=", words[index].value)):
        index += 1
    rest = [word.value for word in words[index:]]
    return index if rest and _is_server(rest) else None


def _is_server(words: list[str]) -> bool:
    program = posixpath.basename(words[0])
    if program == "vllm":
        return words[1:2] == ["serve"]
    return bool(re.fullmatch(r"python[\d.]*", program)) and MODULE in words[1:4]


def _first_flag(words: list[str]) -> int:
    if not words or not _is_server(words):
        raise InputError("the served container does not run vLLM's OpenAI server", NO_ENGINE)
    first = words.index(MODULE) + 1 if MODULE in words[:4] else 2
    return first + 1 if words[1] == "serve" and len(words) > 2 and not words[2].startswith("-") else first


def _bare(args: list[str]) -> int:
    """Flags alone: the image's entry point is the server. A first word without a dash is the model, or a program."""
    if args[:2] == ["vllm", "serve"] or (args and re.fullmatch(r"python[\d.]*", args[0])):
        return _first_flag(args)
    return 1 if args and not args[0].startswith("-") else 0


@dataclass(frozen=True)
class _Flag:
    """One flag and its value. `word` holds the value; `start` to `end` are the places of its words."""

    flag: str
    value: str | None
    word: Word
    start: int
    end: int


def _flags(parsed: ServerCommand) -> Iterator[_Flag]:
    """The flags in order. Raises InputError for words that belong to no flag."""
    index, words = parsed.flags, parsed.words
    while index < len(words):
        word = words[index]
        if not word.value.startswith("-") or word.value in ("-", "--"):
            raise _refused(f"word {index + 1} of the command belongs to no flag", "write flags as --name value")
        name, equals, text = word.value.partition("=")
        flag = name.replace("_", "-") if name.startswith("--") else name
        end = index + 1
        while end < len(words) and not equals and not _is_flag(words[end].value):
            end += 1
            if flag not in MANY_VALUES:
                break
        value = text if equals else words[index + 1].value if end > index + 1 else None
        yield _Flag(flag, value, word if value is None or equals else words[index + 1], index, end)
        index = end


def _is_flag(word: str) -> bool:
    return word.startswith("-") and not re.fullmatch(r"-\d+(\.\d+)?", word)


def _refused(what: str, next_step: str) -> InputError:
    return InputError(f"the command of the served container is not understood: {what}", next_step)

"""The command of a served container: read, and rewritten with another speculative config. Pure.

What is the same for every engine is here: where the server's command stands (words as they are, or a shell script), and
its flags, with a space or with `=`, dashes or underscores. What an engine's own words mean is its `Dialect`. Whatever is
not understood is refused: a patch of a command that was guessed could take a service down.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from draftsmith.contract.errors import InputError
from draftsmith.contract.speculation import SpecConfig
from draftsmith.engines import shell_words
from draftsmith.engines.shell_words import NotUnderstoodError, Word

NO_ENGINE = "give the name of a Deployment whose container runs the OpenAI server of a supported engine"
HIDING = "--config"  # a file with further flags, which cannot be seen from here
SHELLS = frozenset({"sh", "bash", "dash", "ash"})


@dataclass(frozen=True)
class Flag:
    """One flag and its value. `word` holds the value; `start` to `end` are the places of its words."""

    flag: str
    value: str | None
    word: Word
    start: int
    end: int


class Dialect(Protocol):
    """What an engine's words mean."""

    @property
    def name(self) -> str:
        """The engine's key in the catalog."""
        ...

    @property
    def title(self) -> str:
        """The engine's name in sentences."""
        ...

    @property
    def default_port(self) -> int:
        """Where it listens if nothing is said."""
        ...

    @property
    def model_flags(self) -> tuple[str, ...]:
        """Flags that name the served model."""
        ...

    @property
    def many_values(self) -> frozenset[str]:
        """Flags that take several words."""
        ...

    @property
    def counter_flags(self) -> tuple[str, ...]:
        """Flags without which it publishes no counters."""
        ...

    def is_server(self, words: Sequence[str]) -> bool:
        """Whether these words start its OpenAI server."""
        ...

    def module(self) -> str:
        """The module that `python -m` would run."""
        ...

    def bare(self, args: Sequence[str]) -> int | None:
        """Where the flags begin in arguments alone, for an image whose entry point is the server; None: there is no such image."""
        ...

    def is_spec(self, flag: str) -> bool:
        """Whether a flag says speculation and is rewritten."""
        ...

    def spec_config(self, flags: Sequence[Flag]) -> SpecConfig:
        """What the flags say of speculation. Raises InputError if it cannot be known."""
        ...

    def spec_words(self, config: SpecConfig) -> list[str]:
        """The words that say `config`; empty for None. Raises InputError or ConfigError."""
        ...

    def variable_for(self, draft: Mapping[str, Any]) -> str | None:
        """The variable without which it would serve a draft with this config.json wrongly; None if it reads all of it."""
        ...


@dataclass(frozen=True)
class ContainerCommand:
    """`command` and `args` of a container. `script` None: words as they are; else the index of the shell text in
    `command + args`, and `words` are those of its server's command. `flags`: index of the first flag in `words`."""

    dialect: Dialect
    command: tuple[str, ...]
    args: tuple[str, ...]
    words: tuple[Word, ...]
    flags: int
    script: int | None = None

    @property
    def engine(self) -> str:
        """The engine's key in the catalog."""
        return self.dialect.name

    def counted(self) -> ContainerCommand:
        """The same command, publishing its counters."""
        return self.with_flags(tuple(flag for flag in self.dialect.counter_flags if not self.values(flag)))

    def values(self, name: str) -> list[str | None]:
        """What is given for a flag, each time it is; None for one without a value."""
        return [item.value for item in self._flags() if item.flag == name]

    @property
    def model(self) -> str | None:
        """The served model, as it is written."""
        given = [value for flag in self.dialect.model_flags for value in self.values(flag)]
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
        return int(given[-1]) if given else self.dialect.default_port

    @property
    def spec_config(self) -> SpecConfig:
        """The speculative config in the flags; None = off. Raises InputError if it cannot be known."""
        if self.values(HIDING):
            raise refused("further flags are in a file (--config)", "move them into the arguments")
        return self.dialect.spec_config(list(self._flags()))

    def spec_words(self, config: SpecConfig) -> list[str]:
        """The words that say `config`; empty for None."""
        return self.dialect.spec_words(config)

    def with_spec(self, config: SpecConfig) -> ContainerCommand:
        """The same command with another speculative config, everything else as it is. Raises InputError."""
        if self.spec_config == config:
            return self
        cut = [
            place for item in self._flags() if self.dialect.is_spec(item.flag) for place in range(item.start, item.end)
        ]
        return self._edited(cut, self.spec_words(config), self._anchor(cut))

    def without_flags(self, names: tuple[str, ...]) -> ContainerCommand:
        """The same command without these flags and their values."""
        cut = [place for item in self._flags() if item.flag in names for place in range(item.start, item.end)]
        return self._edited(cut, [], self._anchor(cut)) if cut else self

    def with_flags(self, flags: tuple[str, ...]) -> ContainerCommand:
        """The same command with further flags at its end."""
        return self._edited([], list(flags), self.words[-1]) if flags else self

    def _edited(self, cut: list[int], added: list[str], after: Word) -> ContainerCommand:
        """Without the words at the places `cut`. `added` stand at the end, or in a script after the word `after`."""
        whole = [*self.command, *self.args]
        if self.script is not None:
            whole[self.script] = shell_words.replace(
                whole[self.script], [self.words[place] for place in cut], after, added
            )
            split = len(self.command)
        else:
            whole = [*(word.value for place, word in enumerate(self.words) if place not in cut), *added]
            # Flags stay where they were: the command is a prefix of the words.
            split = len(self.command) if self.args or not self.command else len(whole)
        return read_command(self.dialect, whole[:split], whole[split:], image=True)

    def _anchor(self, cut: list[int]) -> Word:
        return self.words[cut[0] - 1] if cut and cut[0] else self.words[-1]

    def _flags(self) -> Iterator[Flag]:
        """The flags in order. Raises InputError for words that belong to no flag."""
        index, words = self.flags, self.words
        while index < len(words):
            word = words[index]
            if not word.value.startswith("-") or word.value in ("-", "--"):
                raise refused(f"word {index + 1} of the command belongs to no flag", "write flags as --name value")
            name, equals, text = word.value.partition("=")
            flag = name.replace("_", "-") if name.startswith("--") else name
            end = index + 1
            while end < len(words) and not equals and not _is_flag(words[end].value):
                end += 1
                if flag not in self.dialect.many_values:
                    break
            value = text if equals else words[index + 1].value if end > index + 1 else None
            yield Flag(flag, value, word if value is None or equals else words[index + 1], index, end)
            index = end


def read_command(dialect: Dialect, command: list[str], args: list[str], *, image: bool) -> ContainerCommand:
    """Parse `command` and `args` of a container. `image`: the image is known to start the engine without a command.

    Raises InputError for a container that does not run the engine, or whose command is not understood.
    """
    whole = [*command, *args]
    parsed = ContainerCommand(dialect, tuple(command), tuple(args), (), 0)
    if command and posixpath.basename(command[0]) in SHELLS:
        parsed = _read_script(parsed, whole)
    else:
        words = tuple(Word(value, 0, 0, "$(" in value) for value in whole)
        bare = dialect.bare(args) if image and not command else None
        first = _first_flag(dialect, [word.value for word in words]) if bare is None else bare
        parsed = replace(parsed, words=words, flags=first)
    list(parsed._flags())  # complains now about what it does not understand
    return parsed


def python_runs(module: str, words: Sequence[str]) -> bool:
    """Whether these words are `python -m MODULE ...`."""
    return bool(re.fullmatch(r"python[\d.]*", posixpath.basename(words[0]))) and module in words[1:4]


def refused(text: str, next_step: str) -> InputError:
    """The error for a command of which this much is not understood."""
    return InputError(f"the command of the served container is not understood: {text}", next_step)


def _read_script(parsed: ContainerCommand, whole: list[str]) -> ContainerCommand:
    title = parsed.dialect.title
    options = [index for index, word in enumerate(whole[1:], 1) if word.startswith("-") and word.endswith("c")]
    if not options or options[0] + 1 >= len(whole):
        raise refused("a shell runs a script that is not in the container's command", "write it as sh -c '...'")
    index = options[0] + 1
    if "$(" in whole[index]:
        raise refused("the script uses a substitution", "write the value itself")
    try:
        commands = shell_words.commands(whole[index])
    except NotUnderstoodError as error:
        raise refused(str(error), f"write the {title} command as a plain list of arguments") from error
    engine_commands = [
        (number, start) for number, words in enumerate(commands) if (start := _start(parsed.dialect, words)) is not None
    ]
    if not engine_commands:
        raise InputError(f"the served container does not run {title}", NO_ENGINE)
    number, start = engine_commands[-1]
    if len(engine_commands) > 1 or number != len(commands) - 1:
        raise refused(f"{title} is not the last command of the script", "start one server, as the last command")
    words = tuple(commands[number][start:])
    if words[-1].value in ('"$@"', "$@"):
        raise refused('the script passes "$@" on', "write the arguments into the script")
    return replace(parsed, words=words, flags=_first_flag(parsed.dialect, [word.value for word in words]), script=index)


def _start(dialect: Dialect, words: list[Word]) -> int | None:
    """Where the server's command begins, after `exec` and variables; None if this is another program."""
    index = 0
    while index < len(words) and (words[index].value in ("exec", "env") or re.match(r"\w+=", words[index].value)):
        index += 1
    rest = [word.value for word in words[index:]]
    return index if rest and dialect.is_server(rest) else None


def _first_flag(dialect: Dialect, words: list[str]) -> int:
    if not words or not dialect.is_server(words):
        raise InputError(f"the served container does not run {dialect.title}'s OpenAI server", NO_ENGINE)
    first = words.index(dialect.module()) + 1 if dialect.module() in words[:4] else 2
    return first + 1 if words[1] == "serve" and len(words) > 2 and not words[2].startswith("-") else first


def _is_flag(word: str) -> bool:
    return word.startswith("-") and not re.fullmatch(r"-\d+(\.\d+)?", word)

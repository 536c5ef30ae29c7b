"""Commands of served containers: what is read from them, how they are rewritten, and what is refused."""

from __future__ import annotations

import json
import shlex
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from draftsmith.contract.errors import InputError
from draftsmith.engines.shell_words import NotUnderstoodError, commands
from draftsmith.engines.vllm.words import compact, read_command

NGRAM = {"method": "ngram", "num_speculative_tokens": 3}
JSON = compact(NGRAM)
SCRIPT = "set -e\nexport A=1; mkdir -p /tmp/x && \\\n exec vllm serve /m \\\n  --port 9000 # the port\n"

UNDERSTOOD = {
    "flags of the image": ([], ["--model", "/m", "--port", "9000"]),
    "vllm serve": (["vllm", "serve", "/m"], ["--port", "9000"]),
    "all in the command": (["/usr/bin/vllm", "serve", "/m", "--port", "9000"], []),
    "the module": (["python3", "-m", "vllm.entrypoints.openai.api_server"], ["--model", "/m", "--port", "9000"]),
    "underscores": (["vllm", "serve"], ["--model", "/m", "--port=9000", "--max_model_len", "4096"]),
    "a negative number": (["vllm", "serve", "/m"], ["--seed", "-1", "--port", "9000"]),
    "many values": (["vllm", "serve", "/m"], ["--served-model-name", "a", "b", "--port", "9000"]),
    "a shell": (["/bin/sh", "-c"], ["exec vllm serve /m --port 9000"]),
    "a shell in one": (["bash", "-lc", "vllm serve /m --port=9000 --trust-remote-code"], []),
    "a script": (["/bin/bash", "-c"], [SCRIPT]),
    "variables": (
        ["sh", "-c"],
        ['VLLM_X=1 python3 -m vllm.entrypoints.openai.api_server --model "/m" --port 9000 -tp ${TP}'],
    ),
}


@pytest.mark.parametrize("name", UNDERSTOOD)
def test_a_config_is_put_in_replaced_and_taken_out_and_nothing_else_changes(name: str) -> None:
    command, args = UNDERSTOOD[name]
    read = read_command(command, args, vllm_image=True)
    assert read.model == "/m"
    assert read.port == 9000
    assert read.spec_config is None

    given = read.with_spec(NGRAM)
    again = read_command(list(given.command), list(given.args), vllm_image=True)
    assert again.spec_config == NGRAM
    assert again.with_spec({"method": "suffix"}).spec_config == {"method": "suffix"}
    assert again.port == 9000
    off = again.with_spec(None)
    assert (list(off.command), list(off.args)) == (command, args)


FORMS = {
    "a space": ["--speculative-config", JSON],
    "equals": [f"--speculative-config={JSON}"],
    "underscore": ["--speculative_config", JSON],
    "short": ["-sc", JSON],
    "spread": ["--speculative-config", json.dumps(NGRAM, indent=2)],
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shell", [False, True])
def test_every_way_to_write_it_is_read(form: str, shell: bool) -> None:
    words = ["vllm", "serve", "/m", *FORMS[form], "--port", "9000"]
    command, args = (["sh", "-c"], [shlex.join(words)]) if shell else (words[:2], words[2:])
    read = read_command(command, args, vllm_image=False)
    assert read.spec_config == NGRAM
    off = read.with_spec(None)
    assert off.spec_config is None
    assert [word.value for word in off.words] == ["vllm", "serve", "/m", "--port", "9000"]


REFUSED = {
    "another program": (["nginx"], ["-g", "daemon off;"]),
    "another server": (["python3", "-m", "sglang.launch_server"], ["--model", "/m"]),
    "a shell that starts another": (["sh", "-c"], ["nginx -g 'daemon off;'"]),
    "a pipe": (["sh", "-c"], ["vllm serve /m | tee log"]),
    "a redirection": (["sh", "-c"], ["vllm serve /m > log"]),
    "a substitution": (["sh", "-c"], ["vllm serve $(cat model)"]),
    "backticks": (["sh", "-c"], ["vllm serve `cat model`"]),
    "a loop": (["sh", "-c"], ["while true; do vllm serve /m; done"]),
    "something after it": (["sh", "-c"], ["vllm serve /m; sleep 5"]),
    "two servers": (["sh", "-c"], ["vllm serve /m && vllm serve /n"]),
    "arguments passed on": (["sh", "-c", 'vllm serve /m "$@"', "x"], ["--port", "9000"]),
    "a script file": (["bash", "/start.sh"], []),
    "an open quote": (["sh", "-c"], ["vllm serve '/m"]),
    "a pattern": (["sh", "-c"], ["vllm serve /m*"]),
    "a word of no flag": (["vllm", "serve", "/m"], ["--port", "9000", "stray"]),
    "twice": (["vllm", "serve", "/m"], ["-sc", JSON, "--speculative-config", JSON]),
    "not JSON": (["vllm", "serve", "/m"], ["--speculative-config", "ngram"]),
    "no value": (["vllm", "serve", "/m"], ["--speculative-config", "--port"]),
    "a variable in it": (["sh", "-c"], ['vllm serve /m --speculative-config "$SPEC"']),
    "dotted keys": (["vllm", "serve", "/m"], ["--speculative-config.method", "ngram"]),
    "other spellings": (["vllm", "serve", "/m"], ["--spec-method", "ngram"]),
    "old spellings": (["vllm", "serve", "/m"], ["--speculative-model", "/d", "--num-speculative-tokens", "3"]),
    "flags in a file": (["vllm", "serve", "/m"], ["--config", "/etc/vllm.yaml"]),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_not_understood_is_refused(name: str) -> None:
    command, args = REFUSED[name]
    with pytest.raises(InputError) as refused:
        _ = read_command(command, args, vllm_image=False).spec_config
    assert refused.value.next_step


def test_flags_alone_need_an_image_that_is_vllm() -> None:
    with pytest.raises(InputError, match="does not run vLLM"):
        read_command([], ["--model", "/m"], vllm_image=False)


@settings(deadline=None)
@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1), min_size=1, max_size=5))
def test_quoted_words_are_read_as_a_shell_reads_them(words: list[str]) -> None:
    [found] = commands(shlex.join(["vllm", *words]))
    assert [word.value for word in found] == ["vllm", *words]


def test_a_reserved_word_is_one_only_where_it_is_not_quoted() -> None:
    assert [word.value for word in commands("'!' a")[0]] == ["!", "a"]
    for script in ("! a", "if a; then b; fi", "'eval' a", ". file"):
        with pytest.raises(NotUnderstoodError):
            commands(script)


PLAIN = st.text(st.sampled_from("ab '\"\\\n;&#=-"), min_size=1, max_size=25)


@settings(deadline=None)  # it starts a shell each time
@given(PLAIN)
def test_a_script_is_read_as_sh_reads_it_or_refused(text: str) -> None:
    try:
        found = commands(text)
    except NotUnderstoodError:
        return
    program = "show() { printf '<%s>' \"$@\"; }\n" + "\n".join("show " + text[c[0].start : c[-1].end] for c in found)
    done = subprocess.run(["sh", "-c", program], capture_output=True, text=True, check=False)
    assert done.stdout == "".join(f"<{word.value}>" for command in found for word in command)

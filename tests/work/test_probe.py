"""A capture is believed only after it was compared with things that do not depend on it. Each way it can lie is tried."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest
from lazily import lazily

from draftsmith.work.inside.probe_plan import (
    CapturedRow,
    ProbePlan,
    ProbeReport,
    engine_logprobs,
    ladder_ids,
    runs_whole,
)

torch, transformers, tensors_of = lazily("torch"), lazily("transformers"), lazily("safetensors.torch")
probing = lazily("draftsmith.work.inside.probe")

DEPTH, LAYERS = 8, (2, 4, 5, 8)
LENGTHS = ((5, 20), (9, 24), (9, 24), (14, 40))


@dataclass(frozen=True)
class Lab:
    """A small target on disk, and the honest states of a few greedy answers, as an engine would save them."""

    target: Path
    files: list[dict[str, torch.Tensor]]
    rows: list[tuple[tuple[int, ...], tuple[int, ...]]]
    logprobs: list[tuple[dict[int, float] | None, ...]]
    stream: list[list[torch.Tensor]]
    normed: list[torch.Tensor]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    torch.manual_seed(3)
    config = transformers.LlamaConfig(
        vocab_size=160,
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=DEPTH,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.2,
        tie_word_embeddings=False,
    )
    model = transformers.LlamaForCausalLM(config).eval()
    with torch.no_grad():
        model.model.norm.weight.uniform_(0.2, 3.0)
    target = tmp_path_factory.mktemp("target")
    model.save_pretrained(target)
    files, rows, logprobs, streams, normed = [], [], [], [], []
    for prompt_length, answer_length in LENGTHS:
        prompt = torch.randint(3, 160, (1, prompt_length))
        tokens = prompt
        with torch.no_grad():
            for _ in range(answer_length):
                tokens = torch.cat([tokens, model(tokens).logits[:, -1:].argmax(-1)], 1)
        fed = tokens[:, :-1]
        before: list[torch.Tensor] = []
        hook = model.model.norm.register_forward_pre_hook(lambda _m, inputs, kept=before: kept.append(inputs[0]))
        with torch.no_grad():
            out = model(fed, output_hidden_states=True)
        hook.remove()
        stream = [*(state[0] for state in out.hidden_states[:DEPTH]), before[0][0]]
        logs = out.logits[0].log_softmax(1)
        ids = fed[0].tolist()
        logprobs.append((None, *({ids[t]: float(logs[t - 1, ids[t]])} for t in range(1, len(ids)))))
        rows.append((tuple(prompt[0].tolist()), tuple(tokens[0, prompt_length:].tolist())))
        files.append({"hidden_states": pick(stream, LAYERS), "token_ids": fed[0].clone()})
        streams.append(stream)
        normed.append(out.hidden_states[DEPTH][0])
    return Lab(target, files, rows, logprobs, streams, normed)


def pick(stream: list[torch.Tensor], layers: tuple[int, ...]) -> torch.Tensor:
    return torch.stack([stream[layer] for layer in layers], 1).bfloat16()


@dataclass
class Capture:
    """The files of one test, to be spoilt."""

    lab: Lab
    folder: Path

    def files(self) -> list[dict[str, torch.Tensor]]:
        return [{name: tensor.clone() for name, tensor in file.items()} for file in self.lab.files]

    def plan(self, files: list[dict[str, torch.Tensor]], **changed: object) -> ProbePlan:
        rows = []
        for number, (file, (prompt, output)) in enumerate(zip(files, self.lab.rows, strict=True)):
            path = self.folder / f"{number}.safetensors"
            tensors_of.save_file({name: tensor.contiguous() for name, tensor in file.items()}, path)
            rows.append(CapturedRow(file=str(path), prompt_ids=prompt, output_ids=output, concurrency=1 + number % 2))
        longest = max(len(row.fed_ids()) for row in rows)
        value = {"target": str(self.lab.target), "layer_ids": LAYERS, "rows": rows, "longest_tokens": longest}
        return ProbePlan.model_validate({**value, **changed})

    def told(self, plan: ProbePlan, *, greedy: bool = False) -> ProbePlan:
        rows = [
            row.model_copy(update={"prompt_logprobs": logs, "greedy": greedy})
            for row, logs in zip(plan.rows, self.lab.logprobs, strict=True)
        ]
        return plan.model_copy(update={"rows": tuple(rows)})


@pytest.fixture
def capture(lab: Lab, tmp_path: Path) -> Capture:
    return Capture(lab, tmp_path)


def failed(report: ProbeReport) -> set[str]:
    return {check.name for check in report.checks if not check.passed}


def said(report: ProbeReport) -> str:
    return "\n".join(f"{check.name} {check.passed}: {check.sentence}" for check in report.checks)


def test_an_honest_capture_passes(capture: Capture) -> None:
    report = probing.probe(capture.plan(capture.files()))
    assert report.passed, said(report)
    assert report.figures["answer_agreement"] == 1.0
    assert report.figures["layer_8_error"] < 0.01
    names = [check.name for check in report.checks]
    for expected in ("coverage", "token ids", "finite", "answers", "shift -1", "shift +1", "layer 2", "layer 8"):
        assert expected in names


def test_log_probabilities_prove_sampled_answers(capture: Capture) -> None:
    report = probing.probe(capture.told(capture.plan(capture.files())))
    assert report.passed, said(report)
    assert report.figures["logprob_gap"] < 0.02
    assert min(report.figures["logprob_gap_earlier"], report.figures["logprob_gap_later"]) > 0.5
    assert "answers" not in [check.name for check in report.checks]


def test_log_probabilities_of_another_request_that_begins_alike_prove_nothing(capture: Capture) -> None:
    plan = capture.told(capture.plan(capture.files()))
    first, *rest = plan.rows
    own = rest[0].prompt_logprobs or ()
    alike = (
        *own[: len(own) // 2],
        *({token + 1: value for token, value in (e or {}).items()} for e in own[len(own) // 2 :]),
    )
    rows = (first, rest[0].model_copy(update={"prompt_logprobs": alike}), *rest[1:])
    report = probing.probe(plan.model_copy(update={"rows": rows}))
    assert failed(report) == {"log probabilities"}, said(report)
    assert "rows [1] are of other tokens" in said(report)


@pytest.mark.parametrize("moved", [-1, 1])
def test_a_layer_off_by_one(capture: Capture, moved: int) -> None:
    files = capture.files()
    for file, stream in zip(files, capture.lab.stream, strict=True):
        file["hidden_states"] = pick(stream, (2, 4 + moved if moved < 0 else 4, 5 + moved if moved > 0 else 5, 8))
    report = probing.probe(capture.plan(files))
    layer = 4 if moved < 0 else 5
    assert failed(report) == {f"layer {layer}"}, said(report)
    assert f"it is layer {layer + moved}" in said(report)


def test_all_layers_in_the_other_notation(capture: Capture) -> None:
    files = capture.files()
    for file, stream in zip(files, capture.lab.stream, strict=True):
        file["hidden_states"] = pick(stream, (3, 5, 6, 8))
    assert failed(probing.probe(capture.plan(files))) == {"layer 2", "layer 4", "layer 5"}


@pytest.mark.parametrize("told", [False, True])
def test_two_requests_mixed_up(capture: Capture, told: bool) -> None:
    """Same length, so that neither shapes nor ids tell."""
    files = capture.files()
    files[1]["hidden_states"], files[2]["hidden_states"] = files[2]["hidden_states"], files[1]["hidden_states"]
    plan = capture.plan(files, reference_rows=1)
    report = probing.probe(capture.told(plan) if told else plan)
    assert ("log probabilities" if told else "answers") in failed(report), said(report)
    assert "rows [1, 2]" in said(report)


def test_one_mixed_up_layer_among_right_ones(capture: Capture) -> None:
    files = capture.files()
    states = [file["hidden_states"] for file in files[1:3]]
    states[0][:, 1], states[1][:, 1] = states[1][:, 1].clone(), states[0][:, 1].clone()
    assert failed(probing.probe(capture.plan(files))) == {"layer 4"}


def test_some_tokens_of_another_request(capture: Capture) -> None:
    files = capture.files()
    files[1]["hidden_states"][4:8] = files[2]["hidden_states"][4:8]
    assert {"layer 2", "layer 4", "layer 5", "layer 8"} <= failed(probing.probe(capture.plan(files)))


def test_states_after_the_final_norm(capture: Capture) -> None:
    files = capture.files()
    for file, normed in zip(files, capture.lab.normed, strict=True):
        file["hidden_states"][:, -1] = normed.bfloat16()
    report = probing.probe(capture.plan(files))
    assert "layer 8" in failed(report), said(report)
    assert not failed(report) & {"layer 2", "layer 4", "layer 5", "token ids"}


def test_ids_that_are_not_the_engines(capture: Capture) -> None:
    files = capture.files()
    files[0]["token_ids"][7] += 1
    report = probing.probe(capture.plan(files))
    assert failed(report) == {"token ids"}
    assert "rows [0]" in said(report)


@pytest.mark.parametrize("by", [-1, 1])
@pytest.mark.parametrize("told", [False, True])
def test_a_shift_of_one_token(capture: Capture, by: int, told: bool) -> None:
    files = capture.files()
    for file in files:
        file["hidden_states"] = file["hidden_states"].roll(by, 0)
    plan = capture.plan(files)
    report = probing.probe(capture.told(plan) if told else plan)
    proof = (
        {"log probabilities", "log probability shift"} if told else {"answers", "shift -1" if by > 0 else "shift +1"}
    )
    assert proof <= failed(report), said(report)
    assert {"layer 2", "layer 8"} <= failed(report)


def test_truncated_rows(capture: Capture) -> None:
    states_only, both = capture.files(), capture.files()
    states_only[3]["hidden_states"] = states_only[3]["hidden_states"][:-1]
    both[3] = {name: tensor[:-1] for name, tensor in both[3].items()}
    for files in (states_only, both):
        assert "token ids" in failed(probing.probe(capture.plan(files)))


def test_values_that_are_no_numbers(capture: Capture) -> None:
    files = capture.files()
    files[2]["hidden_states"][3, 1, 5] = float("nan")
    report = probing.probe(capture.plan(files))
    assert failed(report) == {"finite"}
    assert "rows [2]" in said(report)


def test_files_of_another_form(capture: Capture) -> None:
    files = capture.files()
    plan = capture.plan(files)
    Path(plan.rows[0].file).write_bytes(b"no tensors")
    Path(plan.rows[1].file).unlink()
    report = probing.probe(plan)
    assert failed(report) == {"files"}
    assert "rows [0, 1]" in said(report)
    fewer = [file | {"hidden_states": file["hidden_states"][:, :3]} for file in capture.files()]
    assert "shapes" in failed(probing.probe(capture.plan(fewer)))


@pytest.mark.parametrize("ids", [(), (2, 4, 5, 7), (4, 2, 5, 8), (2, 4, 8, 8)])
def test_layer_ids_that_make_no_sense(capture: Capture, ids: tuple[int, ...]) -> None:
    assert "shapes" in failed(probing.probe(capture.plan(capture.files(), layer_ids=ids)))


def test_rows_that_do_not_stand_for_the_capture(capture: Capture) -> None:
    files = capture.files()
    plan = capture.plan(files, longest_tokens=500)
    assert failed(probing.probe(plan)) == {"coverage"}
    alone = [row.model_copy(update={"concurrency": 1}) for row in plan.rows]
    report = probing.probe(capture.plan(files, rows=alone))
    assert failed(report) == {"coverage"}
    assert probing.probe(capture.plan(files, rows=alone, concurrent=False)).passed
    assert not probing.probe(capture.plan(files, rows=[])).passed


def test_without_any_proof_it_does_not_pass(capture: Capture) -> None:
    plan = capture.plan(capture.files())
    sampled = [row.model_copy(update={"greedy": False}) for row in plan.rows]
    assert "proof" in failed(probing.probe(plan.model_copy(update={"rows": tuple(sampled)})))


def test_a_target_that_cannot_be_loaded(capture: Capture, tmp_path: Path) -> None:
    assert "target" in failed(probing.probe(capture.plan(capture.files(), target=str(tmp_path / "nowhere"))))


def test_by_files_as_the_capture_job_runs_it(
    capture: Capture, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plan, report = tmp_path / "plan.json", tmp_path / "report.json"
    honest = capture.told(capture.plan(capture.files()), greedy=True)
    plan.write_text(honest.model_dump_json())
    assert probing.main([str(plan), "--report", str(report)]) == 0
    assert ProbeReport.model_validate_json(report.read_text()).passed
    assert "FAIL" not in capsys.readouterr().out
    broken = tensors_of.load_file(honest.rows[0].file)
    broken["hidden_states"][0, 0, 0] = float("inf")
    tensors_of.save_file(broken, honest.rows[0].file)
    assert probing.main([str(plan), "--report", str(report)]) == 1
    assert json.loads(report.read_text())["passed"] is False
    assert "FAIL finite" in capsys.readouterr().out


def test_the_engines_answer_is_kept_without_its_text() -> None:
    raw = [None, {"17": {"logprob": -0.5, "rank": 1, "decoded_token": " secret"}}]
    assert engine_logprobs(raw) == (None, {17: -0.5})


# -- a target that transformers is not asked for -------------------------------------------------------------------

LADDER = ladder_ids(LAYERS, DEPTH)


def with_ladder(capture: Capture, plan: ProbePlan, *, shift: int = 0) -> ProbePlan:
    """Rows captured again with each layer's neighbours. `shift`: the engine hands out the states so many layers late."""
    rows = []
    for number, row in enumerate(plan.rows[:3]):
        stream = capture.lab.stream[number]
        ids = tuple(min(DEPTH, layer + shift) for layer in LADDER)
        path = capture.folder / f"ladder-{number}.safetensors"
        tensors_of.save_file(
            {
                "hidden_states": pick(stream, ids).contiguous(),
                "token_ids": capture.lab.files[number]["token_ids"].clone(),
            },
            path,
        )
        rows.append(CapturedRow(file=str(path), prompt_ids=row.fed_ids()))
    return plan.model_copy(update={"ladder": tuple(rows)})


def test_a_target_is_proved_by_its_two_ends_and_the_engines_own_neighbours(
    capture: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing of transformers is loaded: the head proves the last layer, the embeddings the first, neighbours the rest."""
    monkeypatch.setattr("draftsmith.work.inside.probe.Reference", NeverAsked)
    assert LADDER == (0, 1, 2, 3, 4, 5, 6, 7, 8)
    report = probing.probe(with_ladder(capture, capture.plan(capture.files())))
    assert report.passed, said(report)
    assert report.figures["answer_agreement"] == 1.0
    assert report.figures["embedding_likeness"] > 0.999
    assert report.figures["layer_4_error"] < 0.01 < report.figures["layer_4_nearest_other"]
    assert 0.05 < report.figures["peak_memory_gib"] < 64
    told = probing.probe(with_ladder(capture, capture.told(capture.plan(capture.files()))))
    assert told.passed, said(told)
    assert told.figures["logprob_gap"] < 0.02


class NeverAsked:
    def __init__(self, *_: object) -> None:
        raise AssertionError("the whole target was loaded")


def test_an_engine_whose_layers_are_late_is_found_by_the_ends(capture: Capture) -> None:
    files = capture.files()
    for file, stream in zip(files, capture.lab.stream, strict=True):
        file["hidden_states"] = pick(stream, tuple(min(DEPTH, layer + 1) for layer in LAYERS))
    report = probing.probe(with_ladder(capture, capture.plan(files), shift=1))
    assert "ladder" in failed(report), said(report)


def test_a_capture_with_layers_mixed_up_is_on_the_wrong_rung(capture: Capture) -> None:
    files = capture.files()
    for file in files:
        file["hidden_states"] = file["hidden_states"][:, [0, 2, 1, 3]]
    report = probing.probe(with_ladder(capture, capture.plan(files)))
    assert failed(report) >= {"layer 4", "layer 5"}
    assert "it is layer 5" in said(report)


def test_a_ladder_that_is_not_there_proves_nothing(capture: Capture) -> None:
    plan = with_ladder(capture, capture.plan(capture.files()))
    Path(plan.ladder[0].file).unlink()
    assert "ladder" in failed(probing.probe(plan))


def test_the_head_is_read_in_parts_and_whole_alike(lab: Lab, monkeypatch: pytest.MonkeyPatch) -> None:
    from draftsmith.work.inside import ends

    whole = ends.Ends(lab.target).logits(lab.stream[0][DEPTH])
    monkeypatch.setattr(ends, "ROWS", 7)
    assert torch.allclose(ends.Ends(lab.target).logits(lab.stream[0][DEPTH]), whole, atol=1e-5)
    model = transformers.LlamaForCausalLM.from_pretrained(lab.target)
    theirs = model.lm_head(model.model.norm(lab.stream[0][DEPTH]))
    assert torch.allclose(whole, theirs, atol=1e-4)


@pytest.mark.parametrize("blocks", [(1, 1), (160, 1), (4, 3)])
def test_a_head_in_eight_bits_is_dequantised(lab: Lab, tmp_path: Path, blocks: tuple[int, int]) -> None:
    """With one scale, one a row, or one a block."""
    from draftsmith.work.inside.ends import Ends

    tensors = tensors_of.load_file(lab.target / "model.safetensors")
    head = tensors["lm_head.weight"]
    down, across = -(-head.shape[0] // blocks[0]), -(-head.shape[1] // blocks[1])
    scale = torch.rand(blocks) + 0.5
    spread = scale.repeat_interleave(down, 0).repeat_interleave(across, 1)[: head.shape[0], : head.shape[1]]
    tensors["lm_head.weight"] = (head / spread).to(torch.float8_e4m3fn)
    tensors["lm_head.weight_scale_inv"] = scale
    target = tmp_path / "target"
    target.mkdir()
    tensors_of.save_file(tensors, target / "model.safetensors")
    (target / "config.json").write_text((lab.target / "config.json").read_text())
    ours, theirs = Ends(target).logits(lab.stream[0][DEPTH]), Ends(lab.target).logits(lab.stream[0][DEPTH])
    assert torch.allclose(ours, theirs, atol=0.15 * float(theirs.std()))


def test_neighbours_that_are_alike_cannot_be_told_apart_and_are_not_called_wrong(capture: Capture) -> None:
    from draftsmith.work.inside.probe_layers import Beside, check_layers

    state = torch.randn(40, 48)
    known = {3: torch.randn(40, 48), 4: state, 5: state * 1.002}
    [check] = check_layers([Beside(state.unsqueeze(1) * 1.001, known)], (4,), "transformers'", {})
    assert check.passed
    assert "cannot tell" in check.sentence


def test_the_whole_target_is_asked_for_only_where_it_fits() -> None:
    assert runs_whole(10, None, 14)
    assert not runs_whole(10, None, 12)
    assert not runs_whole(10, "fp8", 10**6), "transformers runs FP8 on a GPU alone"

"""The sparse EAGLE3 forward gives the loss, the counts and the gradients of speculators' own forward."""

from __future__ import annotations

from typing import Any

import pytest
from lazily import lazily

torch, speculators = lazily("torch"), lazily("speculators")
sparse_eagle3 = lazily("draftsmith.work.inside.sparse_eagle3")

HIDDEN, LAYERS, VOCAB, DRAFT_VOCAB, SEQ = 32, 3, 97, 40, 64


@pytest.fixture(params=[(True, True), (False, False)], ids=["eagle3.1-norms", "plain-norms"])
def model(request: pytest.FixtureRequest) -> Any:
    from speculators.models.eagle3 import Eagle3SpeculatorConfig
    from speculators.models.eagle3.core import Eagle3DraftModel
    from transformers import LlamaConfig

    norm_output, norm_before_residual = request.param
    torch.manual_seed(0)
    layer = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=HIDDEN,
        intermediate_size=48,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        layer_types=["full_attention"],
    )
    layer._attn_implementation = "eager"
    built = Eagle3DraftModel(
        Eagle3SpeculatorConfig(
            transformer_layer_config=layer,
            draft_vocab_size=DRAFT_VOCAB,
            norm_output=norm_output,
            norm_before_residual=norm_before_residual,
            fc_norm=norm_output,
            eagle_aux_hidden_state_layer_ids=[1, 2, 3],
        )
    ).float()
    for weight in (built.lm_head.weight, built.embed_tokens.weight, built.verifier_lm_head.weight):
        torch.nn.init.normal_(weight, std=0.3)
    built.lm_head.weight.requires_grad_(True)
    return built


def packed_batch(lengths: tuple[int, ...] = (20, 9, 25)) -> dict[str, Any]:
    """Three documents, prompt then answer, and padding behind them."""
    generator = torch.Generator().manual_seed(1)
    documents = torch.full((1, SEQ), -1)
    mask = torch.zeros((1, SEQ), dtype=torch.bool)
    positions = torch.zeros((1, SEQ), dtype=torch.long)
    start = 0
    for number, length in enumerate(lengths):
        documents[0, start : start + length] = number
        mask[0, start + length // 2 : start + length] = True
        positions[0, start : start + length] = torch.arange(1, length + 1)
        start += length
    return {
        "hidden_states": torch.randn((1, SEQ, LAYERS * HIDDEN), generator=generator),
        "verifier_last_hidden_states": torch.randn((1, SEQ, HIDDEN), generator=generator),
        "input_ids": torch.randint(0, VOCAB, (1, SEQ), generator=generator),
        "document_ids": documents,
        "loss_mask": mask,
        "position_ids": positions,
    }


def run(model: Any, forward: Any) -> tuple[float, dict[str, float], dict[str, Any]]:
    from speculators.losses import resolve_loss_config

    model.zero_grad()
    _, loss, metrics = forward(**packed_batch(), ttt_steps=3, loss_config=resolve_loss_config("kl_div", "eager"))
    loss.backward()
    grads = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    return float(loss.detach()), {k: float(v) for k, v in metrics.items()}, grads


def test_same_loss_counts_and_gradients(model: Any) -> None:
    loss, metrics, grads = run(model, lambda **batch: sparse_eagle3.forward(model, **batch))
    dense_loss, dense_metrics, dense_grads = run(model, lambda **batch: type(model).forward(model, **batch))

    assert loss == pytest.approx(dense_loss, rel=1e-4)
    assert grads.keys() == dense_grads.keys()
    for name, grad in dense_grads.items():
        torch.testing.assert_close(
            grads[name], grad, rtol=1e-3, atol=1e-5, msg=lambda text, name=name: f"{name}: {text}"
        )
    for name in dense_metrics:
        assert metrics[name] == pytest.approx(dense_metrics[name], rel=1e-4), name


def test_prompt_positions_get_no_query(model: Any) -> None:
    batch = packed_batch()
    active = sparse_eagle3.active_positions(batch["loss_mask"][0], batch["document_ids"][0], 3)
    first_answer = 20 // 2
    assert int(active[0]) == first_answer - 2  # predicts the first answer token at TTT step 2
    assert 20 + 9 // 2 - 3 not in active.tolist()


def test_batch_without_answers_trains_nothing(model: Any) -> None:
    batch = packed_batch()
    batch["loss_mask"][:] = False
    _, loss, _ = sparse_eagle3.forward(model, **batch)
    loss.backward()
    assert float(loss.detach()) == 0


def test_a_last_document_cut_off_in_its_prompt_leaves_the_gradients_whole(model: Any) -> None:
    from speculators.losses import resolve_loss_config

    batch = packed_batch()
    batch["loss_mask"][0, 29:] = False
    found = {}
    for name, forward in (("sparse", sparse_eagle3.forward), ("dense", type(model).forward)):
        model.zero_grad()
        _, loss, _ = forward(model, **batch, ttt_steps=3, loss_config=resolve_loss_config("kl_div", "eager"))
        loss.backward()
        found[name] = {key: p.grad.clone() for key, p in model.named_parameters() if p.grad is not None}
    for key, grad in found["dense"].items():
        torch.testing.assert_close(found["sparse"][key], grad, rtol=1e-3, atol=1e-5)


def test_a_model_below_the_least_width_takes_the_stock_forward(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from speculators.losses import resolve_loss_config

    from draftsmith.work.inside import sparse_eagle3 as ours
    from draftsmith.work.inside.train_speculators import use_sparse_forward

    taken: list[str] = []
    monkeypatch.setattr(type(model), "forward", lambda self, **batch: taken.append("stock"))
    monkeypatch.setattr(ours, "forward", lambda self, **batch: taken.append("sparse"))
    batch = packed_batch() | {"ttt_steps": 3, "loss_config": resolve_loss_config("kl_div", "eager")}
    stock = type(model).forward
    for least in (HIDDEN, HIDDEN + 1):
        monkeypatch.setattr(type(model), "forward", stock)
        use_sparse_forward(least)
        type(model).forward(model, **batch)
    assert taken == ["sparse", "stock"]

"""EAGLE3 training that computes only what the loss can see. Same loss and gradients as speculators' own forward.

With training-time test (TTT) a draft predicts `ttt_steps` tokens from each position. The loss counts answer positions
only, yet the stock forward runs every step for every position, prompt and padding included. Here

- a prompt position gives its keys and values at step 0 and nothing else (no query, MLP, logits, later steps);
- padding is cut off;
- target logits are computed for the counted positions only;
- attention stays inside documents: the causal block of step 0, and one own key a later step (the diagonal).

Shapes: S packed tokens of a batch, A active positions (those whose prediction counts at some step), M counted targets.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Any

import torch
from speculators.losses import compound_loss, exp_loss_decay
from torch import Tensor
from transformers.models.llama.modeling_llama import apply_rotary_pos_emb


def supports(model: Any) -> bool:
    """Whether `model` (Eagle3DraftModel) is a single full-attention Llama layer, which is what this forward covers."""
    layer = model.config.transformer_layer_config
    return (
        layer.model_type == "llama"
        and len(model.layers) == 1
        and not model.uses_sliding_window_attn
        and not getattr(layer, "attention_bias", False)
    )


def documents(document_ids: Tensor) -> list[tuple[int, int]]:
    """[start, end) of each packed document. document_ids [S], non-decreasing."""
    _, counts = torch.unique_consecutive(document_ids, return_counts=True)
    ends = torch.cumsum(counts, 0).tolist()
    return list(zip([0, *ends[:-1]], ends, strict=True))


def active_positions(counted: Tensor, document_ids: Tensor, ttt_steps: int) -> Tensor:
    """Positions i with counted[i + t] in the same document for some step t. counted [S] bool -> [A] int64."""
    active = counted.clone()
    for step in range(1, ttt_steps):
        same = document_ids[step:] == document_ids[:-step]
        active[:-step] |= counted[step:] & same
    return active.nonzero(as_tuple=True)[0]


class _Attention:
    """Keys and values of step 0 for every position, and of later steps for the active ones.

    Documents are padded to one length and attended to in one batch: D documents, at most P positions, Q active ones.
    """

    def __init__(self, attn: Any, active: Tensor, spans: list[tuple[int, int]]) -> None:
        self.attn = attn
        self.heads = attn.config.num_attention_heads
        self.kv_heads = attn.config.num_key_value_heads
        self.dim = attn.head_dim
        self.later: list[tuple[Tensor, Tensor]] = []
        device = active.device
        starts = torch.tensor([start for start, _ in spans], device=device)
        lengths = torch.tensor([end - start for start, end in spans], device=device)
        first = torch.searchsorted(active, starts)
        counts = torch.searchsorted(active, starts + lengths) - first
        place = torch.arange(int(lengths.max()), device=device)
        turn = torch.arange(int(counts.max()), device=device)
        self.used = turn[None] < counts[:, None]  # [D, Q]
        self.queries_at = (first[:, None] + turn[None]).clamp(max=len(active) - 1)  # [D, Q] into active
        self.keys_at = (starts[:, None] + place[None]).clamp(max=int(starts[-1] + lengths[-1]) - 1)  # [D, P]
        # A slot that is not used may borrow a query of an earlier document: with every key masked its softmax would be
        # NaN, and NaN times a gradient of zero is NaN.
        future = place[None, None] > (active[self.queries_at] - starts[:, None])[..., None]
        self.future = future & self.used[..., None]  # [D, Q, P]

    def keys_values(self, states: Tensor, rope: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
        """states [N, 2H] -> rotated keys and values, each [kv_heads, N, dim]."""
        shape = (states.shape[0], self.kv_heads, self.dim)
        key = self.attn.k_proj(states).view(shape).transpose(0, 1)
        value = self.attn.v_proj(states).view(shape).transpose(0, 1)
        return apply_rotary_pos_emb(key[None], key[None], *rope)[0][0], value

    def queries(self, states: Tensor, rope: tuple[Tensor, Tensor]) -> Tensor:
        """states [A, 2H] -> rotated queries [kv_heads, group, A, dim]."""
        query = self.attn.q_proj(states).view(states.shape[0], self.heads, self.dim).transpose(0, 1)
        query = apply_rotary_pos_emb(query[None], query[None], *rope)[0][0]
        return query.reshape(self.kv_heads, self.heads // self.kv_heads, states.shape[0], self.dim)

    def __call__(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """query [kv, group, A, dim], key and value of step 0 [kv, S, dim] -> [A, heads * dim]."""
        at = self.queries_at
        own = [(query * k[:, None]).sum(-1)[:, :, at] for k, _ in self.later]  # the diagonal: [kv, group, D, Q]
        scores = query[:, :, at] @ key[:, None, self.keys_at].transpose(-1, -2)
        scores = scores.masked_fill(self.future, -math.inf)
        scores = torch.cat([scores, *(score[..., None] for score in own)], dim=-1) * self.attn.scaling
        weights = torch.softmax(scores, dim=-1, dtype=torch.float32).to(query.dtype)
        length = self.keys_at.shape[1]
        mixed = weights[..., :length] @ value[:, None, self.keys_at]
        for index, (_, own_value) in enumerate(self.later):
            mixed = mixed + weights[..., length + index, None] * own_value[:, None, at]
        rows = mixed[:, :, self.used]  # [kv, group, A, dim]: documents in order, so in the order of `active`
        return rows.permute(2, 0, 1, 3).reshape(rows.shape[2], self.heads * self.dim)


def forward(
    model: Any,
    hidden_states: Tensor,
    input_ids: Tensor,
    document_ids: Tensor,
    loss_mask: Tensor,
    position_ids: Tensor,
    verifier_last_hidden_states: Tensor,
    ttt_steps: int = 3,
    ttt_step_loss_decay: float = 1.0,
    loss_config: Any = None,
    **_: Any,
) -> tuple[list[Tensor], Tensor, dict[str, Tensor]]:
    """The training forward. Inputs as in Eagle3DraftModel.forward: [1, S(, width)], shifted. Returns ([], loss, metrics)."""
    size = int((document_ids[0] != -1).sum())
    docs = document_ids[0, :size]
    ids, positions = input_ids[0, :size], position_ids[0, :size]
    counted = loss_mask[0, :size].bool()
    active = active_positions(counted, docs, ttt_steps)
    if not len(active):
        zero = hidden_states.new_zeros((), dtype=torch.float32)
        return [], zero + 0 * model.fc.weight.sum(), {"loss_sum": zero, "loss_total": zero + 1}

    layer = model.layers[0]
    attention = _Attention(layer.self_attn, active, documents(docs))
    targets, row_of = _targets(model, verifier_last_hidden_states[0, :size], counted)
    hidden = _project(model, hidden_states[0, :size])
    later_key = later_value = None
    slot = torch.full((size,), -1, dtype=torch.long, device=ids.device)
    slot[active] = torch.arange(len(active), device=ids.device)
    prev_correct = counted[active].clone()
    loss = torch.zeros((), dtype=torch.float32, device=ids.device)
    metrics: dict[str, Tensor] = {}
    for step in range(ttt_steps):
        if step == 0:
            joined, residual = _join(layer, model.embed_tokens(ids), hidden)
            rope = model.rotary_emb(joined[None], positions[None])
            key, value = attention.keys_values(joined, rope)
            joined, residual = joined[active], residual[active]
            rope = (rope[0][:, active], rope[1][:, active])
        else:
            shifted = (active + step).clamp(max=size - 1)
            tokens = torch.where(active + step < size, ids[shifted], 0)
            joined, residual = _join(layer, model.embed_tokens(tokens), hidden)
            rope = model.rotary_emb(joined[None], (positions[active] + step)[None])
            later_key, later_value = attention.keys_values(joined, rope)
            attention.later.append((later_key, later_value))
        hidden = residual + layer.self_attn.o_proj(attention(attention.queries(joined, rope), key, value))
        hidden = hidden + layer.mlp(layer.post_attention_layernorm(hidden))
        normed = model.norm(hidden)
        if model.config.norm_output:
            hidden = normed

        place = (active + step).clamp(max=size - 1)
        use = (active + step < size) & counted[place] & (docs[place] == docs[active])
        rows = use.nonzero(as_tuple=True)[0]
        logits = model.lm_head(normed[rows])
        wanted = targets[row_of[place[rows]]]
        step_loss, step_metrics = _score(logits, wanted, step, ttt_step_loss_decay, loss_config)
        loss = loss + step_loss
        correct = torch.zeros_like(prev_correct)
        correct[rows] = logits.argmax(-1) == wanted.argmax(-1)
        wanted_rows = prev_correct.clone()
        wanted_rows[(active + step) >= size] = False
        prev_correct &= correct
        right, total = prev_correct[rows].sum().float(), use.sum().float()
        step_metrics |= {
            f"full_acc_{step}_sum": right,
            f"full_acc_{step}_total": total,
            f"cond_acc_{step}_sum": right.clone(),
            f"cond_acc_{step}_total": wanted_rows.sum().float(),
        }
        metrics |= step_metrics
    metrics["loss_sum"] = loss.detach().clone()
    metrics["loss_total"] = torch.ones((), device=ids.device)
    return [], loss, metrics


def _targets(model: Any, last: Tensor, counted: Tensor) -> tuple[Tensor, Tensor]:
    """Target logits [M, draft vocab] of the counted positions, and the row of each position [S]."""
    with torch.no_grad():
        logits = model.verifier_lm_head(model.verifier_norm(last[counted]))
        row_of = torch.cumsum(counted.long(), 0) - 1
    return logits, row_of


def _project(model: Any, states: Tensor) -> Tensor:
    """Auxiliary states [S, layers * H] -> [S, H]."""
    if model.input_norm is not None:
        states = model.input_norm(states)
    if model.fc_norm is not None:
        chunks = states.chunk(len(model.fc_norm), dim=-1)
        states = torch.cat([norm(part) for norm, part in zip(model.fc_norm, chunks, strict=True)], dim=-1)
    projected: Tensor = model.fc(states)
    return projected


def _join(layer: Any, embeds: Tensor, hidden: Tensor) -> tuple[Tensor, Tensor]:
    """The first layer's input [N, 2H] and its residual [N, H]."""
    normed = layer.hidden_norm(hidden)
    residual = normed if layer.norm_before_residual else hidden
    return torch.cat([layer.input_layernorm(embeds).to(normed.dtype), normed], dim=-1), residual


def _score(
    logits: Tensor, wanted: Tensor, step: int, decay: float, loss_config: Any
) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss of one TTT step over its counted rows, through speculators' own reduction."""
    rows = logits.shape[0]
    index = torch.full((1, rows), step, dtype=torch.long, device=logits.device)
    ones = torch.ones((1, rows), dtype=torch.bool, device=logits.device)
    loss, _ = compound_loss(
        logits[None],
        wanted[None],
        ones,
        index,
        loss_config=loss_config,
        decay_fn=partial(exp_loss_decay, gamma=decay),
    )
    unit = torch.ones((), device=logits.device)
    return loss, {f"loss_{step}_sum": loss.detach().clone(), f"loss_{step}_total": unit}

"""EAGLE3 drafts that were trained with `norm_before_residual`, a key that SGLang's own class does not read.

Its first layer carries the fused features as they come past the attention. Such a draft carries them normalised. No weights say the
same, so that layer alone gets another forward; a draft without the key is served by SGLang's class as it is.
"""

from __future__ import annotations

from typing import Any

import torch
from sglang.srt.models import llama_eagle3 as own


class NormedResidualLayer(own.LlamaDecoderLayer):
    """The first layer, with the normalised features as its residual."""

    def forward(
        self, positions: Any, embeds: Any, hidden_states: Any, forward_batch: Any, residual: Any
    ) -> tuple[Any, Any]:
        """As in SGLang, but for what is carried on."""
        carried = self.hidden_norm(hidden_states)
        fused = torch.cat((self.input_layernorm(embeds), carried), dim=-1)
        attended = self.self_attn(positions=positions, hidden_states=fused, forward_batch=forward_batch)
        normed, residual = self.post_attention_layernorm(attended, carried)
        return self.mlp(normed), residual


class LlamaForCausalLMEagle3(own.LlamaForCausalLMEagle3):
    """SGLang's class; the first layer is replaced where the draft's config asks for it."""

    def __init__(self, config: Any, quant_config: Any = None, prefix: str = "") -> None:
        super().__init__(config, quant_config=quant_config, prefix=prefix)
        if getattr(config, "norm_before_residual", False):
            self.model.layers[0].__class__ = NormedResidualLayer


EntryClass = [LlamaForCausalLMEagle3]

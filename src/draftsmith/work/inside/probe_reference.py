"""The target by transformers: its residual stream, its final norm and its output head."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM


class Reference:
    """A target loaded for a few short forwards. Never runs code from the model's folder.

    Raises OSError or ValueError if transformers cannot load it.
    """

    def __init__(self, target: Path, device: str) -> None:
        model = AutoModelForCausalLM.from_pretrained(
            target, dtype="auto", local_files_only=True, trust_remote_code=False, use_safetensors=True
        )
        self.model = model.to(device).eval().requires_grad_(False)
        self.device = torch.device(device)
        self.config: Any = model.config.get_text_config()
        self.hidden_size = int(self.config.hidden_size)
        self.num_layers = int(self.config.num_hidden_layers)
        self.norm: Any = _final_norm(model)
        self._head = model.get_output_embeddings().weight.float()

    def stream(self, ids: tuple[int, ...]) -> list[Tensor]:
        """States [T, H] by engine id 0..L: entry k is the residual stream after k layers, L before the final norm."""
        last: list[Tensor] = []
        hook = self.norm.register_forward_pre_hook(lambda _module, inputs: last.append(inputs[0].detach()))
        try:
            with torch.inference_mode():
                out = self.model(
                    torch.tensor([ids], device=self.device),
                    output_hidden_states=True,
                    use_cache=False,
                    logits_to_keep=1,
                )
        finally:
            hook.remove()
        states = [state[0].float().cpu() for state in out.hidden_states[: self.num_layers]]
        return [*states, last[-1].reshape(len(ids), -1).float().cpu()]

    def logits(self, states: Tensor) -> Tensor:
        """[N, V] float32 from states before the final norm [N, H], with the target's own scaling."""
        with torch.inference_mode():
            normed = self.norm(states.to(self.device, self.norm.weight.dtype)).float()
            logits = torch.nn.functional.linear(normed, self._head) / float(getattr(self.config, "logits_scaling", 1.0))
            cap = getattr(self.config, "final_logit_softcapping", None)
            return (torch.tanh(logits / cap) * cap if cap else logits).cpu()


def _final_norm(model: Any) -> Any:
    decoder = model.get_decoder()
    for holder in (decoder, getattr(decoder, "language_model", None)):
        for name in ("norm", "final_layernorm", "norm_f"):
            if (norm := getattr(holder, name, None)) is not None:
                return norm
    raise ValueError(f"the final norm of {type(model).__name__} was not found")

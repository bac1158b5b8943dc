"""`nn.MultiheadAttention` with projections that may be low-rank."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from oialr_hpo.oialr.layers import Shell


class Attention(nn.Module):
    """`nn.MultiheadAttention` with its two projections as layers of their own, so that each may be low-rank.

    Takes over the parameters of `attention` and its call: same arguments, same results.
    """

    embed_dim: int
    num_heads: int
    head_dim: int
    dropout: float
    batch_first: bool

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        vars(self).update(Shell(attention).settings)
        self.bias_k = self.bias_v = None
        self.in_proj: nn.Module = linear_from(attention.in_proj_weight, attention.in_proj_bias)
        self.out_proj: nn.Module = linear_from(attention.out_proj.weight, attention.out_proj.bias)
        self.train(attention.training)

    # what nn.TransformerEncoderLayer reads
    merge_masks = nn.MultiheadAttention.merge_masks

    @property
    def in_proj_weight(self) -> Tensor:
        return self.in_proj.weight  # type: ignore[return-value]

    @property
    def in_proj_bias(self) -> Tensor | None:
        return self.in_proj.bias  # type: ignore[return-value]

    def _project(self, query: Tensor, key: Tensor, value: Tensor) -> Sequence[Tensor]:
        if query is key and key is value:
            return self.in_proj(query).chunk(3, dim=-1)
        weights = self.in_proj_weight.chunk(3)
        biases = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        return [F.linear(x, w, b) for x, w, b in zip((query, key, value), weights, biases, strict=True)]

    def _of_nested(self, x: Tensor, need_weights: bool, average: bool) -> tuple[Tensor, Tensor | None]:
        """Self-attention over sequences of several lengths, which torch's encoder makes of a mask of padding."""
        padded = x.to_padded_tensor(0.0)
        lengths = torch.tensor([len(sequence) for sequence in x.unbind()], device=x.device)
        hidden = torch.arange(padded.shape[1], device=x.device) >= lengths[:, None]
        out, weights = self(padded, padded, padded, hidden, need_weights, average_attn_weights=average)
        return torch.nested.nested_tensor([each[:n] for each, n in zip(out, lengths, strict=True)]), weights

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        if is_causal and attn_mask is None:
            raise RuntimeError("Need attn_mask if specifying the is_causal hint.")  # as torch does
        if query.is_nested:
            return self._of_nested(query, need_weights, average_attn_weights)
        q, k, v = self._project(query, key, value)
        batched = query.dim() == 3
        if not batched:
            q, k, v = q.unsqueeze(0), k.unsqueeze(0), v.unsqueeze(0)
            key_padding_mask = None if key_padding_mask is None else key_padding_mask.unsqueeze(0)
        elif not self.batch_first:
            q, k, v = q.transpose(0, 1), k.transpose(0, 1), v.transpose(0, 1)
        q, k, v = (x.unflatten(-1, (self.num_heads, self.head_dim)).transpose(1, 2) for x in (q, k, v))

        mask = _additive(attn_mask, q.dtype)
        if mask is not None and mask.dim() == 3:
            mask = mask.view(-1, self.num_heads, *mask.shape[1:])
        padding = _additive(key_padding_mask, q.dtype)
        if padding is not None:
            mask = padding[:, None, None] if mask is None else mask + padding[:, None, None]

        dropout = self.dropout if self.training else 0.0
        weights = None
        if need_weights:
            scores = (q * self.head_dim**-0.5) @ k.transpose(-2, -1)
            weights = F.dropout((scores if mask is None else scores + mask).softmax(-1), dropout)
            attended = weights @ v
            weights = weights.mean(1) if average_attn_weights else weights
        else:
            attended = F.scaled_dot_product_attention(q, k, v, mask, dropout_p=dropout)
        out = self.out_proj(attended.transpose(1, 2).flatten(2))
        if not batched:
            return out.squeeze(0), None if weights is None else weights.squeeze(0)
        return out if self.batch_first else out.transpose(0, 1), weights


def linear_from(weight: Tensor, bias: Tensor | None) -> nn.Linear:
    """An `nn.Linear` around existing parameters."""
    linear = nn.Linear(weight.shape[1], weight.shape[0], bias=False, device="meta")
    linear.register_parameter("weight", weight)  # type: ignore[arg-type]
    linear.register_parameter("bias", bias)  # type: ignore[arg-type]
    return linear


def _additive(mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    """A boolean mask (True: hidden) as zeros and -inf; others as they are."""
    if mask is None or mask.dtype != torch.bool:
        return mask
    return torch.zeros_like(mask, dtype=dtype).masked_fill_(mask, float("-inf"))

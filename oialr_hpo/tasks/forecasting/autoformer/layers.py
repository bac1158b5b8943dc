"""Autoformer's encoder and decoder, and their layers."""

from collections.abc import Callable
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from oialr_hpo.oialr.pointwise import PointwiseConv1d
from oialr_hpo.tasks.forecasting.autoformer.auto_correlation import AutoCorrelation
from oialr_hpo.tasks.forecasting.autoformer.decomposition import SeasonalLayerNorm, SeriesDecomposition
from oialr_hpo.tasks.forecasting.autoformer.dropout import Dropout

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "relu": F.relu}


class _Layer(nn.Module):
    """What encoder and decoder layers share: attentions, then two convolutions of one step."""

    attentions: tuple[str, ...]

    def __init__(
        self,
        d_model: int,
        n_heads: int,
        d_ff: int,
        moving_avg: int,
        factor: float,
        dropout: float,
        activation: str,
    ):
        super().__init__()
        for name in self.attentions:
            self.add_module(name, AutoCorrelation(d_model, n_heads, factor))
        self.conv1 = PointwiseConv1d(d_model, d_ff, bias=False)
        self.conv2 = PointwiseConv1d(d_ff, d_model, bias=False)
        self.decomposition = SeriesDecomposition(moving_avg)
        self.dropout = Dropout(dropout)
        self.activation = ACTIVATIONS[activation]

    def feed_forward(self, x: Tensor) -> Tensor:
        hidden = self.dropout(self.activation(self.conv1(x.transpose(1, 2)).transpose(1, 2)))
        return self.dropout(self.conv2(hidden.transpose(1, 2)).transpose(1, 2))


class EncoderLayer(_Layer):
    """Keeps the seasonal part and drops the trends (equation 3)."""

    attentions = ("attention",)
    attention: AutoCorrelation

    def forward(self, x: Tensor) -> Tensor:
        x = self.decomposition.seasonal(x + self.dropout(self.attention(x, x)))
        return self.decomposition.seasonal(x + self.feed_forward(x))


class DecoderLayer(_Layer):
    """Refines the seasonal part and sums up the trends that it takes out (equation 4)."""

    attentions = ("self_attention", "cross_attention")
    self_attention: AutoCorrelation
    cross_attention: AutoCorrelation

    def __init__(self, *shared: Any, c_out: int):
        super().__init__(*shared)
        d_model = self.conv1.in_channels
        self.projection = nn.Conv1d(d_model, c_out, 3, padding=1, padding_mode="circular", bias=False)

    def forward(self, x: Tensor, source: Tensor) -> tuple[Tensor, Tensor]:
        """Seasonal part (batch, length, d_model) and trend (batch, length, c_out)."""
        x, trend1 = self.decomposition(x + self.dropout(self.self_attention(x, x)))
        x, trend2 = self.decomposition(x + self.dropout(self.cross_attention(x, source)))
        x, trend3 = self.decomposition(x + self.feed_forward(x))
        trend = self.projection((trend1 + trend2 + trend3).transpose(1, 2)).transpose(1, 2)
        return x, trend


class Encoder(nn.Module):
    def __init__(self, layers: list[EncoderLayer], d_model: int):
        super().__init__()
        self.attn_layers = nn.ModuleList(layers)
        self.norm = SeasonalLayerNorm(d_model)

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.attn_layers:
            x = layer(x)
        return self.norm(x)


class Decoder(nn.Module):
    def __init__(self, layers: list[DecoderLayer], d_model: int, c_out: int):
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.norm = SeasonalLayerNorm(d_model)
        self.projection = nn.Linear(d_model, c_out)

    def forward(self, x: Tensor, source: Tensor, trend: Tensor) -> Tensor:
        for layer in self.layers:
            x, layer_trend = layer(x, source)
            trend = trend + layer_trend
        return trend + self.projection(self.norm(x))

"""Autoformer: Wu, Xu, Wang and Long, "Autoformer: Decomposition Transformers with Auto-Correlation for
Long-Term Series Forecasting", NeurIPS 2021. Section and equation numbers refer to that paper.

The architecture and the names of the parameters are the original's, so that its checkpoints load. Series are
(batch, length, channels) throughout.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx

# Calendar features of a sampling frequency, one letter as in pandas: a year, month, week, day, business day,
# hour, minute (t) or second.
TIME_FEATURES = {"a": 1, "m": 1, "w": 2, "d": 3, "b": 3, "h": 4, "t": 5, "s": 6}
ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"gelu": F.gelu, "relu": F.relu}


class _DelayedSum(torch.autograd.Function):
    """Backward is the same sum with reversed delays, and a correlation: no scatter, no synchronisation."""

    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, delays: Tensor, weights: Tensor) -> Tensor:
        ctx.save_for_backward(x, delays, weights)
        batch, length, channels = x.shape
        steps = torch.arange(length, device=x.device)
        first_row = length * torch.arange(batch, device=x.device)
        rows = (steps[:, None] + delays[:, None, :]).remainder(length) + first_row[:, None, None]
        return F.embedding_bag(
            rows.flatten(0, 1),
            x.reshape(batch * length, channels),
            per_sample_weights=weights[:, None, :].expand_as(rows).flatten(0, 1).to(x.dtype),
            mode="sum",
        ).view(batch, length, channels)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, None, Tensor | None]:
        x, delays, weights = ctx.saved_tensors
        x_needs, _, weights_need = ctx.needs_input_grad
        grad_x = delayed_sum(grad, -delays, weights) if x_needs else None
        grad_weights = correlation(x, grad).gather(1, delays).to(weights.dtype) if weights_need else None
        return grad_x, None, grad_weights


def delayed_sum(x: Tensor, delays: Tensor, weights: Tensor) -> Tensor:
    """y[t] = sum_i weights[i] x[t + delays[i]], cyclic in time (time delay aggregation, equation 6).

    Args:
        x: (batch, length, channels).
        delays: (batch, k) steps.
        weights: (batch, k).
    """
    return _DelayedSum.apply(x, delays, weights)


def correlation(x: Tensor, y: Tensor) -> Tensor:
    """R[d] = sum over t and channels of x[t + d] y[t], cyclic in time (equation 5, Wiener-Khinchin).

    Args:
        x, y: (batch, length, channels).

    Returns:
        (batch, length), one value per delay, at least in float32.
    """
    dtype = torch.promote_types(x.dtype, torch.float32)
    cross_spectrum = torch.fft.rfft(x.to(dtype), dim=1) * torch.fft.rfft(y.to(dtype), dim=1).conj()
    return torch.fft.irfft(cross_spectrum.sum(dim=2), n=x.shape[1], dim=1)


class _TopDelays(torch.autograd.Function):
    """Only the k chosen correlations reach the loss, so the backward pass needs no Fourier transform."""

    @staticmethod
    def forward(ctx: Any, queries: Tensor, keys: Tensor, k: int, shared: bool) -> tuple[Tensor, Tensor]:
        mean_correlation = correlation(queries, keys) / queries.shape[2]
        ranking = mean_correlation.mean(dim=0, keepdim=True) if shared else mean_correlation
        delays = ranking.topk(k, dim=1).indices.expand(len(queries), k)
        ctx.save_for_backward(queries, keys, delays)
        ctx.mark_non_differentiable(delays)
        return mean_correlation.gather(1, delays), delays

    @staticmethod
    def backward(ctx: Any, grad: Tensor, _: Tensor) -> tuple[Tensor | None, Tensor | None, None, None]:
        queries, keys, delays = ctx.saved_tensors
        weights = grad / queries.shape[2]
        grad_queries = delayed_sum(keys, -delays, weights) if ctx.needs_input_grad[0] else None
        grad_keys = delayed_sum(queries, delays, weights) if ctx.needs_input_grad[1] else None
        return grad_queries, grad_keys, None, None


def top_delays(queries: Tensor, keys: Tensor, k: int, shared: bool) -> tuple[Tensor, Tensor]:
    """The k delays at which queries and keys correlate most.

    Args:
        queries, keys: (batch, length, channels).
        shared: choose the delays by the mean over the batch (training) instead of per series (inference).

    Returns:
        (batch, k) correlations, meaned over channels, and their (batch, k) delays.
    """
    return _TopDelays.apply(queries, keys, k, shared)


class AutoCorrelation(nn.Module):
    """Series-wise attention (section 3.2): values are summed at the delays at which queries meet keys.

    Delays are chosen by the correlation meaned over heads and channels: heads need no axis of their own.
    """

    def __init__(self, d_model: int, n_heads: int, factor: float):
        super().__init__()
        inner = d_model // n_heads * n_heads
        self.query_projection = nn.Linear(d_model, inner)
        self.key_projection = nn.Linear(d_model, inner)
        self.value_projection = nn.Linear(d_model, inner)
        self.out_projection = nn.Linear(inner, d_model)
        self.factor = factor

    def forward(self, x: Tensor, source: Tensor) -> Tensor:
        """x: (batch, length, d_model) asks; source: (batch, any length, d_model) is asked."""
        length = x.shape[1]
        queries = self.query_projection(x)
        keys = _fit(self.key_projection(source), length)
        values = _fit(self.value_projection(source), length)
        k = min(max(int(self.factor * math.log(length)), 1), length)
        correlations, delays = top_delays(queries, keys, k, shared=self.training)
        return self.out_projection(delayed_sum(values, delays, correlations.softmax(dim=1)))


def _fit(x: Tensor, length: int) -> Tensor:
    """Cut a series to the length, or fill it up with zeros."""
    return x[:, :length] if x.shape[1] >= length else F.pad(x, (0, 0, 0, length - x.shape[1]))


class SeriesDecomposition(nn.Module):
    """Moving average with the ends repeated, and what remains (section 3.1, equation 1)."""

    def __init__(self, moving_avg: int):
        super().__init__()
        self.moving_avg = moving_avg

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Seasonal part and trend of (batch, length, channels)."""
        front = x[:, :1].expand(-1, self.moving_avg // 2, -1)
        end = x[:, -1:].expand(-1, (self.moving_avg - 1) // 2, -1)
        padded = torch.cat([front, x, end], dim=1)
        # As a channels-last image of height 1: pooling then needs no transposed copy.
        image = padded.transpose(1, 2).unsqueeze(2)
        trend = F.avg_pool2d(image, (1, self.moving_avg), stride=1).squeeze(2).transpose(1, 2)
        return x - trend, trend


class SeasonalLayerNorm(nn.Module):
    """Layer normalisation, then centred in time, so that no trend is left in the seasonal part."""

    def __init__(self, d_model: int):
        super().__init__()
        self.layernorm = nn.LayerNorm(d_model)

    def forward(self, x: Tensor) -> Tensor:
        x = self.layernorm(x)
        return x - x.mean(dim=1, keepdim=True)


class ValueEmbedding(nn.Module):
    def __init__(self, channels: int, d_model: int):
        super().__init__()
        self.tokenConv = nn.Conv1d(channels, d_model, 3, padding=1, padding_mode="circular", bias=False)
        nn.init.kaiming_normal_(self.tokenConv.weight, mode="fan_in", nonlinearity="leaky_relu")

    def forward(self, x: Tensor) -> Tensor:
        return self.tokenConv(x.transpose(1, 2)).transpose(1, 2)


class TimeEmbedding(nn.Module):
    def __init__(self, freq: str, d_model: int):
        super().__init__()
        self.embed = nn.Linear(TIME_FEATURES[freq], d_model, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.embed(x)


class Embedding(nn.Module):
    """Values and time features, without positions: auto-correlation keeps the order of a series."""

    def __init__(self, channels: int, d_model: int, freq: str, dropout: float):
        super().__init__()
        self.value_embedding = ValueEmbedding(channels, d_model)
        self.temporal_embedding = TimeEmbedding(freq, d_model)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, x_mark: Tensor) -> Tensor:
        return self.dropout(self.value_embedding(x) + self.temporal_embedding(x_mark))


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
        self.conv1 = nn.Conv1d(d_model, d_ff, 1, bias=False)
        self.conv2 = nn.Conv1d(d_ff, d_model, 1, bias=False)
        self.decomposition = SeriesDecomposition(moving_avg)
        self.dropout = nn.Dropout(dropout)
        self.activation = ACTIVATIONS[activation]

    def feed_forward(self, x: Tensor) -> Tensor:
        hidden = self.dropout(self.activation(self.conv1(x.transpose(1, 2))))
        return self.dropout(self.conv2(hidden).transpose(1, 2))


class EncoderLayer(_Layer):
    """Keeps the seasonal part and drops the trends (equation 3)."""

    attentions = ("attention",)
    attention: AutoCorrelation

    def forward(self, x: Tensor) -> Tensor:
        x, _ = self.decomposition(x + self.dropout(self.attention(x, x)))
        x, _ = self.decomposition(x + self.feed_forward(x))
        return x


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


class Autoformer(nn.Module):
    """Autoformer for forecasting; the keyword arguments are the original's.

    Args:
        seq_len: steps of the past the encoder sees.
        label_len: steps of the past the decoder starts from, at most seq_len.
        pred_len: steps to forecast.
        enc_in, dec_in, c_out: channels; all equal, since the decoder starts from the decomposed encoder input
            and adds its forecast to that trend.
        factor: auto-correlation keeps int(factor * ln(length)) delays.
        moving_avg: window of the series decomposition, in steps.
        embed: only "timeF", time features as real numbers.
        freq: sampling frequency, a key of `TIME_FEATURES`.
        activation: "gelu" or "relu".
        output_attention: only False.

    Raises:
        ValueError: a setting that the architecture cannot have; the message names it.
    """

    def __init__(
        self,
        *,
        seq_len: int,
        label_len: int,
        pred_len: int,
        enc_in: int,
        dec_in: int,
        c_out: int,
        d_model: int = 512,
        n_heads: int = 8,
        e_layers: int = 2,
        d_layers: int = 1,
        d_ff: int = 2048,
        moving_avg: int = 25,
        factor: float = 1,
        dropout: float = 0.05,
        embed: str = "timeF",
        freq: str = "h",
        activation: str = "gelu",
        output_attention: bool = False,
    ):
        super().__init__()
        for wrong, message in (
            (not 0 <= label_len <= seq_len, f"label_len {label_len} is not between 0 and seq_len {seq_len}"),
            (not enc_in == dec_in == c_out, f"enc_in {enc_in}, dec_in {dec_in}, c_out {c_out} must be equal"),
            (n_heads > d_model, f"n_heads {n_heads} exceeds d_model {d_model}"),
            (embed != "timeF", f"embed {embed!r} is not supported; use 'timeF'"),
            (freq not in TIME_FEATURES, f"freq {freq!r} is none of {', '.join(TIME_FEATURES)}"),
            (activation not in ACTIVATIONS, f"activation {activation!r} is none of {', '.join(ACTIVATIONS)}"),
            (output_attention, "output_attention is not supported: there is no attention matrix"),
        ):
            if wrong:
                raise ValueError(message)
        self.label_len, self.pred_len = label_len, pred_len
        self.decomposition = SeriesDecomposition(moving_avg)
        self.enc_embedding = Embedding(enc_in, d_model, freq, dropout)
        self.dec_embedding = Embedding(dec_in, d_model, freq, dropout)
        layer = (d_model, n_heads, d_ff, moving_avg, factor, dropout, activation)
        self.encoder = Encoder([EncoderLayer(*layer) for _ in range(e_layers)], d_model)
        self.decoder = Decoder([DecoderLayer(*layer, c_out=c_out) for _ in range(d_layers)], d_model, c_out)

    def forward(self, x_enc: Tensor, x_mark_enc: Tensor, x_dec: Tensor, x_mark_dec: Tensor) -> Tensor:
        """Forecast the pred_len steps after x_enc.

        Args:
            x_enc: (batch, seq_len, enc_in).
            x_mark_enc: (batch, seq_len, time features).
            x_dec: ignored, as in the original: the decoder starts from the decomposed end of x_enc.
            x_mark_dec: (batch, label_len + pred_len, time features).

        Returns:
            (batch, pred_len, c_out).
        """
        start = x_enc.shape[1] - self.label_len
        seasonal, trend = self.decomposition(x_enc)
        seasonal = F.pad(seasonal[:, start:], (0, 0, 0, self.pred_len))
        mean = x_enc.mean(dim=1, keepdim=True).expand(-1, self.pred_len, -1)
        trend = torch.cat([trend[:, start:], mean], dim=1)
        source = self.encoder(self.enc_embedding(x_enc, x_mark_enc))
        forecast = self.decoder(self.dec_embedding(seasonal, x_mark_dec), source, trend)
        return forecast[:, -self.pred_len :]

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """As usual; the original's checkpoints also carry position embeddings, which it never uses."""
        used = {k: v for k, v in state_dict.items() if not k.endswith("position_embedding.pe")}
        return super().load_state_dict(used, strict, assign)

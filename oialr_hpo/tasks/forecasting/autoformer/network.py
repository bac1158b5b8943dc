"""The whole network."""

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from oialr_hpo.tasks.forecasting.autoformer.decomposition import SeriesDecomposition
from oialr_hpo.tasks.forecasting.autoformer.embedding import TIME_FEATURES, Embedding
from oialr_hpo.tasks.forecasting.autoformer.layers import ACTIVATIONS, Decoder, DecoderLayer, Encoder, EncoderLayer


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

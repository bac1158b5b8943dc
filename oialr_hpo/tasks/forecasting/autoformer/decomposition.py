"""Series apart into a seasonal part and a trend (section 3.1)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


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

"""A convolution of kernel size 1 for networks whose sequences are (batch, length, channels)."""

from torch import Tensor, nn
from torch.nn import functional as F


class PointwiseConv1d(nn.Conv1d):
    """A `Conv1d` of kernel size 1 as the linear layer that it is: nothing is copied where (batch, channels, length) is
    the transposed view of a sequence, and so is the result."""

    def __init__(self, in_channels: int, out_channels: int, bias: bool = True) -> None:
        super().__init__(in_channels, out_channels, 1, bias=bias)

    def forward(self, input: Tensor) -> Tensor:
        return F.linear(input.transpose(1, 2), self.weight.flatten(1), self.bias).transpose(1, 2)

"""Values and calendar features of a series as a network's tokens."""

from torch import Tensor, nn

from oialr_hpo.tasks.forecasting.autoformer.dropout import Dropout

# Calendar features of a sampling frequency, one letter as in pandas: a year, month, week, day, business day,
# hour, minute (t) or second.
TIME_FEATURES = {"a": 1, "m": 1, "w": 2, "d": 3, "b": 3, "h": 4, "t": 5, "s": 6}


class Embedding(nn.Module):
    """Values and time features, without positions: auto-correlation keeps the order of a series."""

    def __init__(self, channels: int, d_model: int, freq: str, dropout: float):
        super().__init__()
        self.value_embedding = ValueEmbedding(channels, d_model)
        self.temporal_embedding = TimeEmbedding(freq, d_model)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, x_mark: Tensor) -> Tensor:
        return self.dropout(self.value_embedding(x) + self.temporal_embedding(x_mark))


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

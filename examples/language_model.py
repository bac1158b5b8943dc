"""A language model of one's own: a small transformer learns to write Python's documentation, a character at a time.

    python examples/language_model.py 600    # steps; about a minute on one CPU core

A character of unseen text takes 7 bits before training, about 2.3 after it. For half of the steps all weights are
trained, then every matrix goes on at low rank with a quarter of them. At last it is plain layers again, and writes.
"""

import math
import sys
from pydoc_data.topics import topics

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from oialr_hpo import OIALR

CHARACTERS, CONTEXT, WIDTH, HEADS, LAYERS, BATCH = 128, 64, 96, 4, 2, 24


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.before_attention, self.before_mlp = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.mlp = nn.Sequential(nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(self.before_attention(x)).unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        x = x + self.out(F.scaled_dot_product_attention(q, k, v, is_causal=True).transpose(1, 2).flatten(2))
        return x + self.mlp(self.before_mlp(x))


class LanguageModel(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.characters = nn.Embedding(CHARACTERS, WIDTH)
        self.positions = nn.Parameter(0.02 * torch.randn(CONTEXT, WIDTH))
        self.blocks = nn.Sequential(*(Block() for _ in range(LAYERS)), nn.LayerNorm(WIDTH))
        self.head = nn.Linear(WIDTH, CHARACTERS)

    def forward(self, text: Tensor) -> Tensor:
        return self.head(self.blocks(self.characters(text) + self.positions[: text.shape[1]]))


def bits(model: nn.Module, windows: Tensor) -> Tensor:
    """What a character of the windows takes, given those before it."""
    return F.cross_entropy(model(windows[:, :-1]).flatten(0, 1), windows[:, 1:].flatten()) / math.log(2)


@torch.no_grad()
def write(model: nn.Module, beginning: str, length: int) -> str:
    text = torch.tensor([list(beginning.encode())])
    for _ in range(length):
        likely = (model(text[:, -CONTEXT:])[0, -1] / 0.7).softmax(-1)
        text = torch.cat([text, likely.multinomial(1)[None]], dim=1)
    return bytes(text[0].tolist()).decode()


def main(steps: int) -> None:
    torch.manual_seed(0)
    text = torch.tensor(list("".join(topics.values()).encode("ascii", errors="ignore")))
    windows = text.unfold(0, CONTEXT + 1, CONTEXT + 1)
    unseen, read = windows[torch.randperm(len(windows))].split([100, len(windows) - 100])
    model = LanguageModel()
    optimizer = torch.optim.AdamW(model.parameters(), lr=6e-3)
    oialr = OIALR.for_run(model, optimizer, steps, delay=0.5, frequency=0.05, cutoff=0.1, step_fraction=0.2)
    for step in range(steps + 1):
        if step % max(1, steps // 10) == 0:
            with torch.no_grad():
                cost = bits(model, unseen).item()
            print(f"step {step:4}  {cost:.2f} bits per character  {oialr.trainable_percent:5.1f} % trained")
        bits(model, read[torch.randint(len(read), (BATCH,))]).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        oialr.step()
    oialr.merge()
    print(f"\n{write(model.eval(), 'The statement', 300)}")


if __name__ == "__main__":
    main(steps=int(sys.argv[1]))

"""The library alone, without tasks and searches: OIALR in a training loop, then plain layers, in a file.

    python examples/library_only.py    # five seconds; leaves runs/digits.safetensors

Layers, optimizers, arguments: docs/library.md.
"""

from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import nn
from torch.nn.functional import cross_entropy

from oialr_hpo import OIALR, load_low_rank

EPOCHS, BATCH = 10, 32


def build() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 256), nn.GELU(), nn.Linear(256, 256), nn.GELU(), nn.Linear(256, 10))


def main() -> None:
    torch.manual_seed(0)
    pixels, digits = load_digits(return_X_y=True)
    x, test_x, y, test_y = map(torch.tensor, train_test_split(pixels.astype("float32") / 16, digits, random_state=0))
    model = build()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)

    # At a third of the run's optimizer steps every weight becomes U Σ Vᵀ, of which Σ alone is trained; after every
    # twentieth of them ranks are cut. An int, such as delay=140, would be so many steps, however long the run is.
    total_steps = EPOCHS * (len(x) // BATCH)
    oialr = OIALR.for_run(model, optimizer, total_steps, delay=0.33, frequency=0.05, cutoff=0.2, step_fraction=0.3)
    for epoch in range(1, EPOCHS + 1):
        for rows in torch.randperm(len(x)).split(BATCH)[: len(x) // BATCH]:
            cross_entropy(model(x[rows]), y[rows]).backward()
            optimizer.step()
            optimizer.zero_grad()
            oialr.step()
        with torch.no_grad():
            error = (model(test_x).argmax(1) != test_y).float().mean().item()
        print(f"epoch {epoch:2}  error {error:6.2%}  {oialr.trainable_percent:5.1f} % of the dense network trained")

    print(f"\n{oialr.report}\n")  # each layer's rank, or why it has stayed dense
    oialr.merge()  # two thin matrices per layer, or a dense one where that is cheaper
    file = Path("runs/digits.safetensors")
    file.parent.mkdir(exist_ok=True)
    save_file(model.state_dict(), file)

    again = load_low_rank(build(), load_file(file))  # a dense network takes on the shapes of what it loads
    torch.testing.assert_close(again(test_x), model(test_x))
    print(f"{file}: {oialr.total_percent:.1f} % of the dense network's parameters")


if __name__ == "__main__":
    main()

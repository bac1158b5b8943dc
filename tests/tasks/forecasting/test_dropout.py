"""Autoformer's dropout, which draws only what it drops."""

import pytest
import torch

from oialr_hpo.tasks.forecasting.autoformer.dropout import Dropout, dropped


@pytest.mark.parametrize("p", [0.05, 0.3, 0.9])
def test_every_element_is_dropped_with_probability_p_and_independently_of_its_neighbour(p: float) -> None:
    torch.manual_seed(0)
    n = 200_000
    missing = torch.zeros(n)
    missing[dropped(n, p)] = 1
    error = 5 * (p * (1 - p) / n) ** 0.5
    assert missing.mean().item() == pytest.approx(p, abs=error)
    halves = missing.view(2, -1).mean(dim=1)
    assert halves.tolist() == pytest.approx([p, p], abs=2 * error)
    assert (missing[1:] * missing[:-1]).mean().item() == pytest.approx(p * p, abs=error)


def test_small_tensors_have_every_outcome_at_its_frequency() -> None:
    torch.manual_seed(0)
    outcomes = torch.zeros(8)
    for _ in range(4000):
        outcomes[sum(1 << i for i in dropped(3, 0.5).tolist())] += 1
    assert outcomes.tolist() == pytest.approx([500] * 8, abs=110)


def test_what_is_kept_is_scaled_and_so_is_its_gradient() -> None:
    torch.manual_seed(0)
    x = torch.rand(64, 65).t().add(1).requires_grad_()
    y = Dropout(0.2)(x)
    kept = y != 0
    torch.testing.assert_close(y, torch.where(kept, x / 0.8, 0))
    (y * 3).sum().backward()
    torch.testing.assert_close(x.grad, torch.where(kept, torch.full_like(x, 3 / 0.8), 0))


def test_a_seed_decides_and_evaluation_drops_nothing() -> None:
    layer, x = Dropout(0.5), torch.rand(100)
    torch.manual_seed(3)
    first, second = layer(x), layer(x)
    torch.manual_seed(3)
    assert torch.equal(layer(x), first) and not torch.equal(second, first)
    assert layer.eval()(x) is x


@pytest.mark.parametrize(("p", "left"), [(0.0, 100), (1.0, 0)])
def test_none_and_all(p: float, left: int) -> None:
    assert Dropout(p)(torch.rand(100) + 1).count_nonzero() == left

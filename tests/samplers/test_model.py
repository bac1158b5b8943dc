"""The model that evolution draws from, and the geometry that it sees."""

import numpy as np
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from oialr_hpo.samplers._gaussian_process import GaussianProcess
from oialr_hpo.samplers._geometry import Geometry
from tests.samplers.population import SPACE


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.floats(-0.5, 1.5), min_size=len(SPACE), max_size=len(SPACE)))
def test_snapping_keeps_the_settings(genes):
    snapped = Geometry(SPACE).snap(np.array([genes]))[0]
    before = SPACE.decode(dict(zip(SPACE.parameters, genes, strict=True)))
    assert SPACE.decode(dict(zip(SPACE.parameters, snapped, strict=True))) == before
    again = Geometry(SPACE).snap(snapped[None])[0]
    np.testing.assert_allclose(again, snapped, atol=1e-12)


def test_the_model_explains_what_it_saw():
    rng = np.random.default_rng(0)
    points = rng.random((60, 3))
    truth = np.sin(4 * points[:, 0]) + points[:, 1]
    model = GaussianProcess(np.arange(3))
    model.fit(points, truth, 60, growth=1.25)
    new = rng.random((50, 3))
    drawn = np.mean([model.draw(new, rng) for _ in range(20)], axis=0)
    assert np.abs(drawn - np.sin(4 * new[:, 0]) - new[:, 1]).max() < 0.1


def test_the_gradient_of_the_model_is_right():
    from scipy.optimize import check_grad

    rng = np.random.default_rng(1)
    points, targets = rng.random((20, 2)), rng.standard_normal(20)
    model = GaussianProcess(np.arange(2))
    squares = np.stack([(points[:, None, i] - points[None, :, i]) ** 2 for i in range(2)])
    theta = np.array([-0.5, 0.2, -3.0])
    error = check_grad(
        lambda t: model._loss(t, squares, targets)[0], lambda t: model._loss(t, squares, targets)[1], theta
    )
    assert error < 1e-4

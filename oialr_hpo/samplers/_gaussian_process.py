"""The model that Evolution draws from, and that tells what to expect of a search: a Gaussian process whose
hyperparameters are fitted a little at a time."""

import math

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


class GaussianProcess:
    """Matérn-5/2 with a length scale per parameter and a noise variance, all at their maximum a posteriori.

    The signal variance is integrated out (inverse-gamma prior); length scales have a log-normal prior around
    d^(1/4) / 2 and the noise one around e^-6.

    Args:
        owner: of each feature, the parameter it belongs to.
        noise: its variance as a share of the signal's, in (0, 1], where that is known.
    """

    REFINEMENTS = 25

    def __init__(self, owner: NDArray[np.intp], noise: float | None = None):
        self._owner, self._d = owner, int(owner.max()) + 1
        self._log_scale = math.log(0.5) + 0.25 * math.log(self._d)
        log_noise = -5.0 if noise is None else math.log(noise)
        self._theta = np.r_[np.full(self._d, self._log_scale), log_noise]  # log length scales, log noise variance
        self._learned = np.r_[np.ones(self._d), float(noise is None)]
        self._fitted = 0

    def fit(self, points: Array, targets: Array, observed: int, growth: float) -> None:
        """Condition on (n, features) points and (n,) targets.

        The hyperparameters are refined whenever `observed`, the size of the whole history, has grown by that factor.
        """
        self._mean = targets.mean()
        targets = targets - self._mean
        if self.outgrown(observed, growth):
            self._refine(points, targets)
            self._fitted = observed
        self._points = points
        root = np.linalg.cholesky(_matern(self._squares(points, points)) + self._noise * np.eye(len(points)))
        self._whitening = np.linalg.inv(root)  # the inverse of the covariance itself would not be accurate enough
        self._whitened = self._whitening @ targets
        self._variance = (self._whitened @ self._whitened + 1) / (len(targets) + 1)

    def outgrown(self, observed: int, growth: float) -> bool:
        """Whether the history has grown by that factor since the hyperparameters were refined."""
        return observed >= growth * self._fitted

    def draw(self, points: Array, rng: np.random.Generator) -> Array:
        """One sample of the posterior function at (m, features) points."""
        return self.functions(points, rng, 1)[:, 0]

    def functions(self, points: Array, rng: np.random.Generator, count: int) -> Array:
        """(m, count) values of functions drawn from the posterior, at (m, features) points."""
        cross = self._whitening @ _matern(self._squares(self._points, points))
        mean = self._mean + cross.T @ self._whitened
        spread = _matern(self._squares(points, points))
        spread -= cross.T @ cross
        spread.flat[:: len(points) + 1] += 1e-6
        scattered = np.linalg.cholesky(spread) @ rng.standard_normal((len(points), count))
        return mean[:, None] + math.sqrt(self._variance) * scattered

    @property
    def _noise(self) -> float:
        return float(np.exp(self._theta[-1])) + 1e-6

    def _squares(self, a: Array, b: Array) -> Array:
        """Squared distances in units of the length scales."""
        scales = np.exp(-self._theta[:-1])[self._owner]
        a, b = a * scales, b * scales
        squares = a @ (-2 * b.T)
        squares += (a**2).sum(1)[:, None]
        squares += (b**2).sum(1)
        return np.maximum(squares, 0.0, out=squares)

    def _refine(self, points: Array, targets: Array) -> None:
        """Resilient backpropagation (Riedmiller and Braun 1993), from the last optimum on: scipy's optimisers would
        do it in fewer steps, but take longer to import than a search spends on all of them."""
        squares = np.stack([((points[:, None, mine] - points[None, :, mine]) ** 2).sum(-1) for mine in self._columns()])
        low = np.r_[np.full(self._d, math.log(0.05)), math.log(1e-5)]
        high = np.r_[np.full(self._d, math.log(20.0)), 0.0]
        theta, step, before = self._theta, np.full(self._d + 1, 0.2), np.zeros(self._d + 1)
        best = math.inf
        for _ in range(self.REFINEMENTS):
            loss, slope = self._loss(theta, squares, targets)
            slope = slope * self._learned
            if loss < best:
                best, self._theta = loss, theta
            turned = slope * before
            step = np.clip(step * np.where(turned > 0, 1.3, np.where(turned < 0, 0.5, 1.0)), 0.01, 1.0)
            before = np.where(turned < 0, 0.0, slope)
            theta = np.clip(theta - np.sign(before) * step, low, high)

    def _columns(self) -> list[NDArray[np.bool_]]:
        return [self._owner == parameter for parameter in range(self._d)]

    def _loss(self, theta: Array, squares: Array, targets: Array) -> tuple[float, Array]:
        """Negative log posterior of the hyperparameters, and its gradient."""
        n, noise, inverse_squared = len(targets), math.exp(theta[-1]), np.exp(-2 * theta[:-1])
        total = np.tensordot(inverse_squared, squares, 1)
        root = np.sqrt(5 * total)  # before the covariance takes the place of the squares
        covariance = _matern(total) + (noise + 1e-6) * np.eye(n)
        inverse = np.linalg.inv(covariance)
        weights = inverse @ targets
        variance = (targets @ weights + 1) / (n + 1)
        off_scale, off_noise = theta[:-1] - self._log_scale, (theta[-1] + 6) / 2
        loss = 0.5 * (n + 1) * math.log(variance) + 0.5 * np.linalg.slogdet(covariance)[1]
        loss += 0.5 * (off_scale @ off_scale + off_noise**2)

        sensitivity = inverse - np.outer(weights, weights) / variance
        slope = sensitivity * (5 / 3) * (1 + root) * np.exp(-root)
        by_scale = 0.5 * inverse_squared * np.tensordot(squares, slope, 2) + off_scale
        by_noise = 0.5 * noise * np.trace(sensitivity) + off_noise / 2
        return float(loss), np.r_[by_scale, by_noise]


def _matern(squares: Array) -> Array:
    """The covariance at squared distances, in their place: new arrays of this size cost more than the arithmetic."""
    squares *= 5
    root = np.sqrt(squares)
    squares /= 3
    squares += root
    squares += 1
    squares *= np.exp(np.negative(root, out=root), out=root)
    return squares

"""What the ways of applying a low-rank weight cost, by which a layer chooses one."""

LARGE = 2**20
"""Numbers in and out of a convolution of kernel size 1 from which on oneDNN's, channels side by side, takes less time
than a product of matrices (`benchmark layers --cases conv1x1 --channels-last`): what no longer fits into a cache."""


def chain_flops(rows: int, m: int, n: int, r: int, backward: bool = True) -> int:
    """Multiply-adds, times two, of one pass through the frozen bases, forward or forward and backward."""
    forward = 2 * rows * r * (m + n) + 2 * r * r * min(rows, m)
    return forward + (2 * rows * r * (m + n) + 2 * r * r * (rows + min(rows, n)) if backward else 0)


def dense_flops(rows: int, m: int, n: int, r: int, backward: bool = True) -> int:
    """The same through a rebuilt W, whose gradient is projected on Sigma."""
    product, rebuilding = 2 * rows * m * n, 2 * m * n * r + 2 * r * r * min(m, n)
    return product + rebuilding + (2 * product + rebuilding if backward else 0)

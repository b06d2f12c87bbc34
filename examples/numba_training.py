"""Initialising inside one's own jitted training step, of which Python sees nothing.

Every restart draws new weights at new indices of one stream: no state to carry, and any
restart can be repeated alone.
"""

import numpy as np
from numba import njit, prange

from fastinit.numba import Normal, Uniform, fill, key_of

N, D, HIDDEN, STEPS, RESTARTS = 256, 8, 16, 200, 12


@njit
def train(key, restart, x, y):
    """Return the loss of a small network after some steps from new weights."""
    w1, w2 = np.empty((D, HIDDEN), np.float32), np.empty((HIDDEN, 1), np.float32)
    first = restart * (w1.size + w2.size)
    fill(w1, key, first, Normal(0.0, (2.0 / D) ** 0.5))
    fill(w2, key, first + w1.size, Uniform(-((3.0 / HIDDEN) ** 0.5), (3.0 / HIDDEN) ** 0.5))
    for _ in range(STEPS):
        hidden = np.maximum(x @ w1, np.float32(0.0))
        error = hidden @ w2 - y
        back = (error @ w2.T) * (hidden > 0)
        w2 -= np.float32(0.1 / N) * (hidden.T @ error)
        w1 -= np.float32(0.1 / N) * (x.T @ back.astype(np.float32))
    return np.mean(error**2)


@njit(parallel=True)
def best_of(key, x, y):
    """Train from many starts at once."""
    losses = np.empty(RESTARTS)
    for restart in prange(RESTARTS):
        losses[restart] = train(key, restart, x, y)
    return losses


key = key_of(42)
x = np.empty((N, D), np.float32)
fill(x, key_of(7), 0, Normal(0.0, 1.0))
y = np.sin(x.sum(axis=1, keepdims=True), dtype=np.float32)

losses = best_of(key, x, y)
winner = int(losses.argmin())
assert train(key, winner, x, y) == losses[winner]
print(f"losses {losses.min():.4f} to {losses.max():.4f}; restart {winner} can be repeated alone")

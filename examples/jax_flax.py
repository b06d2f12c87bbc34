"""fastinit's initializers in Flax, NNX and Linen: they are what `kernel_init` expects.

``pip install flax`` first. See docs/adapters.md.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen, nnx

import fastinit as fi
import fastinit.jax as init

x = jnp.ones((4, 64))


class Perceptron(nnx.Module):
    """NNX: layers are made at once, each from a key of its own."""

    def __init__(self, rngs: nnx.Rngs) -> None:
        self.up = nnx.Linear(64, 256, kernel_init=init.he_normal(), rngs=rngs)
        self.down = nnx.Linear(256, 8, kernel_init=init.normal(0.02), rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        """Return eight numbers for each row."""
        return self.down(nnx.relu(self.up(x)))


eager, compiled = Perceptron(nnx.Rngs(0)), nnx.jit(lambda: Perceptron(nnx.Rngs(0)))()
assert (eager.up.kernel[...] == compiled.up.kernel[...]).all()
gradient = nnx.grad(lambda model: (model(x) ** 2).mean())(eager)
print("NNX:  std of the first kernel", eager.up.kernel[...].std(), "of", (2 / 64) ** 0.5)
assert jnp.isfinite(gradient.up.kernel[...]).all()

network = linen.Sequential(
    [
        linen.Dense(256, kernel_init=init.he_normal()),
        linen.relu,
        linen.Dense(8, kernel_init=init.orthogonal()),
    ]
)
params = jax.jit(network.init)(jax.random.key(0), x)["params"]
again = network.init(jax.random.key(0), x)["params"]
print("Linen:", jax.tree.map(jnp.shape, params))
assert (params["layers_0"]["kernel"] == again["layers_0"]["kernel"]).all()

# The same weight without JAX, from the words of its key.
key = jax.random.key(7)
w = init.he_normal()(key, (64, 256))
assert (np.asarray(w) == fi.he_truncated_normal((64, 256), rng=init.generator(key))).all()

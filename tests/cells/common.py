"""What particular tests share: a sequence, parameters, and gates that are fixed open or closed."""

import jax
import jax.numpy as jnp
import numpy as np

from tests.cases import INPUT, random_params

T, B = 6, 3
CLOSED, OPEN = -60.0, 60.0


def sequence(length=T, seed=2):
    return jax.random.normal(jax.random.key(seed), (length, B, INPUT), jnp.float64)


def params_of(cell, seed=0):
    return random_params(cell, seed, dtype=jnp.float64)


def in_numpy(params):
    """The parameters and the sequence, for formulas written out in NumPy."""
    return jax.tree.map(np.asarray, params), np.asarray(sequence())


def with_gate(cell, params, gate, value):
    """The parameters with one gate fixed: no weights, and a bias that saturates it."""
    block = slice(cell.gates.index(gate) * cell.features, (cell.gates.index(gate) + 1) * cell.features)
    fixed = {
        name: array.at[..., block].set(0.0)
        for name, array in params.items()
        if array.ndim and array.shape[-1] > cell.features
    }
    return params | fixed | {"bias": params["bias"].at[block].set(value)}


def without_recurrence(params):
    return params | {"recurrent_kernel": jnp.zeros_like(params["recurrent_kernel"])}


def assert_close(a, b):
    np.testing.assert_allclose(a, b, atol=1e-10)

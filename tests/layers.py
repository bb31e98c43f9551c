"""One cell as a layer in Flax's ways, for tests: batch-major functions of the inputs, without noise."""

import functools

import flax.linen
import jax
import jax.numpy as jnp
from flax import nnx

import rnncells
from rnncells import unroll
from tests import cases
from tests.cases import INPUT


def swapped(tree):
    """Batch-major as time-major, and back."""
    return jax.tree.map(lambda leaf: jnp.moveaxis(leaf, 1, 0), tree)


def inputs(cell):
    """Batch-major, in single precision."""
    return swapped(cases.inputs(cell, dtype=jnp.float32))


def bare(cell, params, xs, **options):
    """`unroll` on batch-major inputs."""
    carry, ys = unroll(cell, params, swapped(xs), **options)
    return carry, swapped(ys)


def linen(cell, params, **settings):
    module = rnncells.linen.RNN(cell, deterministic=True, **settings)
    return functools.partial(module.apply, {"params": {"cell": params}})


def in_nnx(cell, params, kind=rnncells.nnx.RNN, **settings):
    module = kind(cell, INPUT, deterministic=True, rngs=nnx.Rngs(params=0), **settings)
    module.params = params
    return module


def ours(cell, params, **settings):
    return linen(cell, params, **settings), in_nnx(cell, params, **settings)


def own(cell, params, **settings):
    """Flax's own RNN, of linen and of nnx, around our cells."""
    around = flax.linen.RNN(rnncells.linen.RNNCell(cell, deterministic=True), **settings)
    variables = {"params": {"cell": {"cell": params}}}
    inside = in_nnx(cell, params, rnncells.nnx.RNNCell)
    return functools.partial(around.apply, variables), nnx.RNN(inside, **settings)

"""The cells again, in NumPy, by family, and `unroll` as loops.

Nothing here calls the library's cells: W, U, b are cut out of the parameters by the gate order that
the docstrings print, and every product is written out.
"""

import dataclasses

import jax
import numpy as np

from rnncells.unroll import params_shape
from tests.references import (
    continuous,
    gated,
    key_value,
    linear,
    lstm,
    memory,
    minimal,
    orthogonal,
    simple,
    state_space,
    structured,
)

REFERENCES = {}
for family in (
    simple,
    gated,
    minimal,
    lstm,
    orthogonal,
    continuous,
    linear,
    state_space,
    memory,
    key_value,
    structured,
):
    REFERENCES |= family.REFERENCES


def run(cell, params, xs, carry, initial=None, alive=None, resets=None):
    """The reference over xs [T, B, I], or `Timed`, from a carry: (the last state, ys, the states after every
    tick).

    A state is a list of leaves. Ticks that are not `alive` [T, B] do not exist; where `resets` [T, B], the
    state is `initial`.
    """
    step = REFERENCES[type(cell).__name__]
    params, xs = jax.tree.map(np.asarray, (params, xs))
    if getattr(cell, "use_bias", True) is False:  # the same as with biases of zero
        whole = params_shape(dataclasses.replace(cell, use_bias=True), xs.shape[-1])
        assert params.keys() < whole.keys()
        params = {name: np.zeros(leaf.shape) for name, leaf in whole.items()} | params
    state = [np.asarray(leaf) for leaf in jax.tree.leaves(carry)]
    initial = [np.asarray(leaf) for leaf in jax.tree.leaves(initial)]
    ys, states = [], []
    for t in range(len(jax.tree.leaves(xs)[0])):
        x, before = jax.tree.map(lambda leaf, t=t: leaf[t], xs), state
        if resets is not None:
            before = [chosen(resets[t], first, leaf) for first, leaf in zip(initial, state, strict=True)]
        exists = np.ones(len(x[0] if isinstance(x, tuple) else x), bool) if alive is None else alive[t]
        given = tuple(before) if len(before) > 1 else before[0]
        seen = jax.tree.map(lambda leaf, exists=exists: chosen(exists, leaf, np.zeros_like(leaf)), x)
        after, y = step(cell, params, given, seen)
        after = list(after) if isinstance(after, tuple) else [after]
        state = [chosen(exists, new, old) for new, old in zip(after, state, strict=True)]
        ys.append(chosen(exists, y, np.zeros_like(y)))
        states.append(state)
    return state, np.stack(ys), [np.stack(leaves) for leaves in zip(*states, strict=True)]


def chosen(flags, where, otherwise):
    """flags [B] ? where : otherwise, of leaves [B, ...]."""
    return np.where(flags.reshape(-1, *[1] * (where.ndim - 1)), where, otherwise)

"""`unroll` as plain loops over each sequence by itself."""

import jax
import jax.numpy as jnp
import numpy as np

from tests.cases import at, stacked

_tick = jax.jit(lambda cell, params, state, x: cell(params, state, x))


def loops(
    cell, params, xs, carry=None, *, lengths=None, mask=None, resets=None, reverse=False, truncate_every=None
):
    """What `unroll` means: each sequence by itself, its existing ticks one after the other.

    xs [T, B, I], with concrete lengths, mask and resets. Returns (carry, (ys, carries)) like
    `return_carries=True`. Differentiable; only existing ticks are touched.
    """
    length, batch = jax.tree.leaves(xs)[0].shape[:2]
    like = at(xs, 0, 0)
    alive = np.ones((length, batch), bool) if mask is None else np.array(mask)
    if lengths is not None:
        alive &= np.arange(length)[:, None] < np.asarray(lengths)[None]
    resets = np.zeros((length, batch), bool) if resets is None else np.asarray(resets)
    chunk = truncate_every or length + 1
    initial = cell.initial_carry(params, like=like)
    whole = cell.initial_carry(params, (batch,), like=at(xs, 0)) if carry is None else carry
    last, ys, carries = [], [], []
    for b in range(batch):
        state = at(whole, b)
        one_ys, one_carries = {}, {}
        pending = False
        order = range(length)[::-1] if reverse else range(length)
        for position, t in enumerate(order):
            if position and (t + reverse) % chunk == 0:
                state = jax.tree.map(jax.lax.stop_gradient, state)
            if alive[t, b]:
                if pending if reverse else resets[t, b]:
                    state = initial
                pending = resets[t, b]
                state, one_ys[t] = _tick(cell, params, state, at(xs, t, b))
            one_carries[t] = state
        zero = jnp.zeros(cell.output_size, jax.tree.leaves(xs)[0].dtype)
        ys.append(jnp.stack([one_ys.get(t, zero) for t in range(length)]))
        carries.append(stacked([one_carries[t] for t in range(length)]))
        last.append(state)
    return stacked(last), (jnp.stack(ys, 1), stacked(carries, 1))

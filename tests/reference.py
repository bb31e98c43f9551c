"""The cells again, in NumPy, one literal transcription of the equations each; and `unroll` as loops.

Nothing here calls the library's cells: W, U, b are cut out of the parameters by the gate order that
the docstrings print, and every product is written out.
"""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg


def s(v):
    return 1 / (1 + np.exp(-v))


def gates(cell, params, names):
    """x W + b and U of each gate by name, from the fused parameters."""
    assert cell.gates == names
    size = cell.features

    def block(array, i):
        return array[..., i * size : (i + 1) * size]

    kernel, recurrent, bias = params["kernel"], params.get("recurrent_kernel"), params["bias"]
    index = range(len(names))
    return (
        [block(kernel, i) for i in index],
        [None if recurrent is None else block(recurrent, i) for i in index],
        [block(bias, i) for i in index],
    )


def elman(cell, params, h, x):
    h = np.tanh(x @ params["kernel"] + h @ params["recurrent_kernel"] + params["bias"])
    return h, h


def lstm(cell, params, state, x):
    (wi, wf, wg, wo), (ui, uf, ug, uo), (bi, bf, bg, bo) = gates(cell, params, ("i", "f", "g", "o"))
    c, h = state
    i = s(x @ wi + h @ ui + bi)
    f = s(x @ wf + h @ uf + bf)
    g = np.tanh(x @ wg + h @ ug + bg)
    o = s(x @ wo + h @ uo + bo)
    c = f * c + i * g
    h = o * np.tanh(c)
    return (c, h), h


def peephole_lstm(cell, params, state, x):
    (wi, wf, wg, wo), (ui, uf, ug, uo), (bi, bf, bg, bo) = gates(cell, params, ("i", "f", "g", "o"))
    pi, pf, po = params["peephole"]
    c, h = state
    i = s(x @ wi + h @ ui + pi * c + bi)
    f = s(x @ wf + h @ uf + pf * c + bf)
    g = np.tanh(x @ wg + h @ ug + bg)
    c = f * c + i * g
    o = s(x @ wo + h @ uo + po * c + bo)
    h = o * np.tanh(c)
    return (c, h), h


def coupled_lstm(cell, params, state, x):
    (wf, wg, wo), (uf, ug, uo), (bf, bg, bo) = gates(cell, params, ("f", "g", "o"))
    c, h = state
    f = s(x @ wf + h @ uf + bf)
    c = f * c + (1 - f) * np.tanh(x @ wg + h @ ug + bg)
    h = s(x @ wo + h @ uo + bo) * np.tanh(c)
    return (c, h), h


def normalised(v, scale, epsilon):
    """Over the last axis, by loops over nothing: mean, variance, scale."""
    mean = v.mean(-1, keepdims=True)
    variance = ((v - mean) ** 2).mean(-1, keepdims=True)
    return scale * (v - mean) / np.sqrt(variance + epsilon)


def layer_norm_lstm(cell, params, state, x):
    c, h = state
    total = normalised(x @ params["kernel"], params["kernel_scale"], 1e-5)
    total = total + normalised(h @ params["recurrent_kernel"], params["recurrent_scale"], 1e-5)
    i, f, g, o = np.split(total + params["bias"], 4, -1)
    c = s(f) * c + s(i) * np.tanh(g)
    h = s(o) * np.tanh(normalised(c, params["cell_scale"], 1e-5) + params["cell_bias"])
    return (c, h), h


def layer_norm_gru(cell, params, h, x):
    (wr, wz, wn), (ur, uz, un), (br, bz, bn) = gates(cell, params, ("r", "z", "n"))
    a, b = (np.split(params[name], 3) for name in ("kernel_scale", "recurrent_scale"))
    both = normalised(np.concatenate([x @ wr, x @ wz], -1), np.concatenate(a[:2]), 1e-5)
    both = both + normalised(np.concatenate([h @ ur, h @ uz], -1), np.concatenate(b[:2]), 1e-5)
    r, z = np.split(s(both + np.concatenate([br, bz])), 2, -1)
    n = normalised(h @ un, b[2], 1e-5) + params["recurrent_bias"]
    n = np.tanh(normalised(x @ wn, a[2], 1e-5) + bn + r * n)
    h = (1 - z) * n + z * h
    return h, h


def gru(cell, params, h, x):
    (wr, wz, wn), (ur, uz, un), (br, bz, bn) = gates(cell, params, ("r", "z", "n"))
    r = s(x @ wr + h @ ur + br)
    z = s(x @ wz + h @ uz + bz)
    if cell.reset_after:
        n = np.tanh(x @ wn + bn + r * (h @ un + params["recurrent_bias"]))
    else:
        n = np.tanh(x @ wn + bn + (r * h) @ un)
    h = (1 - z) * n + z * h
    return h, h


def output_gated_gru(cell, params, state, x):
    (wz, wr, wo, wg), (uz, ur, uo, ug), (bz, br, bo, bg) = gates(cell, params, ("z", "r", "o", "g"))
    c, h = state
    z = s(x @ wz + h @ uz + bz)
    r = s(x @ wr + h @ ur + br)
    o = s(x @ wo + h @ uo + bo)
    c = (1 - z) * c + r * s(x @ wg + h @ ug + bg)
    h = o * s(c)
    return (c, h), h


def mgu(cell, params, h, x):
    (wf, wn), (uf, un), (bf, bn) = gates(cell, params, ("f", "n"))
    f = s(x @ wf + h @ uf + bf)
    n = np.tanh(x @ wn + (f * h) @ un + bn)
    h = (1 - f) * h + f * n
    return h, h


def positive(u):
    return np.where(u >= 0, u + 0.5, s(u))


def min_gru(cell, params, h, x):
    (wz, wn), _, (bz, bn) = gates(cell, params, ("z", "n"))
    z = s(x @ wz + bz)
    n = x @ wn + bn
    h = (1 - z) * h + z * (positive(n) if cell.log_space else n)
    return h, h


def min_lstm(cell, params, h, x):
    (wf, wi, wn), _, (bf, bi, bn) = gates(cell, params, ("f", "i", "n"))
    f, i = s(x @ wf + bf), s(x @ wi + bi)
    n = x @ wn + bn
    h = f / (f + i) * h + i / (f + i) * (positive(n) if cell.log_space else n)
    return h, h


def exp_rnn(cell, params, h, x):
    a = np.zeros((cell.features, cell.features))
    entries = iter(params["skew"])
    for row in range(cell.features):
        for column in range(row + 1, cell.features):
            a[row, column] = next(entries)
    z = x @ params["kernel"] + h @ scipy.linalg.expm(a - a.T)
    size = np.sqrt(z**2 + 1e-8)
    h = np.maximum(size + params["bias"], 0) * z / size
    return h, h


REFERENCES = {
    "Elman": elman,
    "LSTM": lstm,
    "PeepholeLSTM": peephole_lstm,
    "CoupledLSTM": coupled_lstm,
    "LayerNormLSTM": layer_norm_lstm,
    "GRU": gru,
    "OutputGatedGRU": output_gated_gru,
    "LayerNormGRU": layer_norm_gru,
    "MGU": mgu,
    "MinGRU": min_gru,
    "MinLSTM": min_lstm,
    "ExpRNN": exp_rnn,
}


def run(cell, params, xs, carry):
    """The reference over xs [T, ..., I] from a carry: (the last state as a list of arrays, ys)."""
    step = REFERENCES[type(cell).__name__]
    params = jax.tree.map(np.asarray, params)
    state = jax.tree.map(np.asarray, carry)
    state = tuple(state) if isinstance(state, tuple) else state
    ys = []
    for x in np.asarray(xs):
        state, y = step(cell, params, state, x)
        ys.append(y)
    return list(state) if isinstance(state, tuple) else [state], np.stack(ys)


def loops(
    cell, params, xs, carry=None, *, lengths=None, mask=None, resets=None, reverse=False, truncate_every=None
):
    """What `unroll` means: each sequence by itself, its existing ticks one after the other.

    xs [T, B, I], with concrete lengths, mask and resets. Returns (carry, (ys, carries)) like
    `return_carries=True`. Differentiable; only existing ticks are touched.
    """
    length, batch = xs.shape[:2]
    alive = np.ones((length, batch), bool) if mask is None else np.array(mask)
    if lengths is not None:
        alive &= np.arange(length)[:, None] < np.asarray(lengths)[None]
    resets = np.zeros((length, batch), bool) if resets is None else np.asarray(resets)
    chunk = truncate_every or length + 1
    initial = cell.initial_carry(params)
    whole = cell.initial_carry(params, (batch,)) if carry is None else carry
    last, ys, carries = [], [], []
    for b in range(batch):
        state = jax.tree.map(lambda leaf, b=b: leaf[b], whole)
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
                state, one_ys[t] = cell(params, state, xs[t, b])
            one_carries[t] = state
        zero = jnp.zeros(cell.output_size, xs.dtype)
        ys.append(jnp.stack([one_ys.get(t, zero) for t in range(length)]))
        carries.append(
            jax.tree.map(lambda *leaves: jnp.stack(leaves), *[one_carries[t] for t in range(length)])
        )
        last.append(state)
    return (
        jax.tree.map(lambda *leaves: jnp.stack(leaves), *last),
        (jnp.stack(ys, 1), jax.tree.map(lambda *leaves: jnp.stack(leaves, 1), *carries)),
    )

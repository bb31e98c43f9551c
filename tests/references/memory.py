"""Cells with memories, in NumPy: one literal transcription of the equations each."""

import numpy as np

from tests.references.common import gates, s


def mlstm(cell, params, state, x):
    """Without stabilisation: the true C and n are those stored, times e^m."""
    (wq, wk, wv, wo), _, (bq, bk, bv, bo) = gates(cell, params, ("q", "k", "v", "o"))
    memory, norm, scale = state
    gate = x @ params["gate_kernel"] + params["gate_bias"]
    width = cell.features // cell.heads
    outs, memories, norms, scales = [], [], [], []
    for h in range(cell.heads):
        part = slice(h * width, (h + 1) * width)
        q, v = (x @ wq + bq)[:, part], (x @ wv + bv)[:, part]
        k = (x @ wk + bk)[:, part] / np.sqrt(width)
        i, f = np.exp(gate[:, h]), s(gate[:, cell.heads + h])
        true = np.exp(scale[:, h])
        c = (f * true)[:, None, None] * memory[:, h] + i[:, None, None] * np.einsum("bk,bv->bkv", k, v)
        n = (f * true)[:, None] * norm[:, h] + i[:, None] * k
        seen = np.einsum("bk,bkv->bv", q, c)
        outs.append(seen / np.maximum(np.abs((q * n).sum(-1)), 1)[:, None])
        m = np.maximum(np.log(f) + scale[:, h], gate[:, h])
        memories.append(c / np.exp(m)[:, None, None])
        norms.append(n / np.exp(m)[:, None])
        scales.append(m)
    y = s(x @ wo + bo) * np.concatenate(outs, -1)
    return (np.stack(memories, 1), np.stack(norms, 1), np.stack(scales, 1)), y


def nru(cell, params, state, x):
    h, memory = state
    before = x @ params["kernel"] + h @ params["recurrent_kernel"] + memory @ params["memory_kernel"]
    h = np.maximum(before + params["bias"], 0)
    heads, side = cell.heads, int(np.sqrt(cell.heads * cell.memory))
    fused = np.concatenate([h, memory], -1) @ params["heads_kernel"] + params["heads_bias"]
    sizes = [heads, heads, side, side, side, side]
    write, erase, *vectors = np.split(fused, np.cumsum(sizes)[:-1], -1)
    opened = (lambda v: np.maximum(v, 0)) if cell.positive else (lambda v: v)
    memories = []
    for b, row in enumerate(memory):
        p, q, r, t = (vector[b] for vector in vectors)
        written = opened(np.outer(p, q)).reshape(heads, cell.memory)
        erased = opened(np.outer(r, t)).reshape(heads, cell.memory)
        change = np.zeros(cell.memory)
        for i in range(heads):
            change += opened(write[b, i]) * unit(written[i]) - opened(erase[b, i]) * unit(erased[i])
        memories.append(row + change / heads)
    return (h, np.stack(memories)), h


def unit(v):
    """v over its norm of order 5."""
    return v / max((np.abs(v) ** 5).sum() ** 0.2, 1e-12)


def lmu(cell, params, state, x):
    """The matrices entry by entry, discretised by the series of the exponential."""
    h, memory = state
    order = cell.order or cell.features
    a, b = np.zeros((order, order)), np.zeros(order)
    for i in range(order):
        b[i] = (2 * i + 1) * (-1) ** i / cell.theta
        for j in range(order):
            a[i, j] = (2 * i + 1) * (-1 if i < j else (-1) ** (i - j + 1)) / cell.theta
    transition, write, term = np.eye(order), np.zeros((order, order)), np.eye(order)
    for k in range(1, 60):  # e^a, and e^(a s) integrated over s from 0 to 1
        write = write + term / k
        term = term @ a / k
        transition = transition + term
    flat = memory.reshape(len(memory), -1)
    u = x @ params["input_encoder"] + h @ params["hidden_encoder"] + flat @ params["memory_encoder"]
    memory = np.einsum("ij,bmj->bmi", transition, memory) + u[..., None] * (write @ b)
    seen = memory.reshape(len(memory), -1) @ params["memory_kernel"]
    h = np.tanh(x @ params["kernel"] + h @ params["recurrent_kernel"] + seen + params["bias"])
    return (h, memory), h


def hippo_legs(cell, params, state, x):
    """By dense systems, one sequence and one memory at a time."""
    h, memory, ticks = state
    order = cell.order or cell.features
    a, b = np.zeros((order, order)), np.zeros(order)
    for n in range(order):
        b[n] = np.sqrt(2 * n + 1)
        for k in range(n):
            a[n, k] = -np.sqrt((2 * n + 1) * (2 * k + 1))
        a[n, n] = -(n + 1)
    u = x @ params["input_encoder"] + h @ params["hidden_encoder"] + params["encoder_bias"]
    memory = memory.copy()
    for row, t in enumerate(ticks):
        for m in range(cell.memories):
            if t == 0:
                memory[row, m] = [u[row, m], *[0] * (order - 1)]
            else:
                right = (np.eye(order) + a / (2 * t)) @ memory[row, m] + b * u[row, m] / t
                memory[row, m] = np.linalg.solve(np.eye(order) - a / (2 * t), right)
    seen = memory.reshape(len(memory), -1)
    g, c = np.split(x @ params["kernel"] + seen @ params["memory_kernel"] + params["bias"], 2, -1)
    h = (1 - s(g)) * h + s(g) * np.tanh(c)
    return (h, memory, ticks + 1), h


REFERENCES = {
    "MLSTM": mlstm,
    "NRU": nru,
    "LMU": lmu,
    "HiPPOLegS": hippo_legs,
}

"""Cells with matrix memories, in NumPy: one literal transcription of the equations each."""

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


REFERENCES = {"MLSTM": mlstm}

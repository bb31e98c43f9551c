"""Gated cells, in NumPy: one literal transcription of the equations each."""

import numpy as np

from tests.references.common import gates, normalised, s


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


def layer_norm_lstm(cell, params, state, x):
    c, h = state
    total = normalised(x @ params["kernel"], params["kernel_scale"], cell.epsilon)
    total = total + normalised(h @ params["recurrent_kernel"], params["recurrent_scale"], cell.epsilon)
    i, f, g, o = np.split(total + params["bias"], 4, -1)
    c = s(f) * c + s(i) * np.tanh(g)
    h = s(o) * np.tanh(normalised(c, params["cell_scale"], cell.epsilon) + params["cell_bias"])
    return (c, h), h


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
    candidate = {"sigmoid": s, "tanh": np.tanh}[cell.candidate_activation.name]
    c = (1 - z) * c + r * candidate(x @ wg + h @ ug + bg)
    h = o * s(c)
    return (c, h), h


def layer_norm_gru(cell, params, h, x):
    (wr, wz, wn), (ur, uz, un), (br, bz, bn) = gates(cell, params, ("r", "z", "n"))
    a, b = (np.split(params[name], 3) for name in ("kernel_scale", "recurrent_scale"))
    both = normalised(np.concatenate([x @ wr, x @ wz], -1), np.concatenate(a[:2]), cell.epsilon)
    both = both + normalised(np.concatenate([h @ ur, h @ uz], -1), np.concatenate(b[:2]), cell.epsilon)
    r, z = np.split(s(both + np.concatenate([br, bz])), 2, -1)
    n = normalised(h @ un, b[2], cell.epsilon) + params["recurrent_bias"]
    n = np.tanh(normalised(x @ wn, a[2], cell.epsilon) + bn + r * n)
    h = (1 - z) * n + z * h
    return h, h


def mgu(cell, params, h, x):
    (wf, wn), (uf, un), (bf, bn) = gates(cell, params, ("f", "n"))
    f = s(x @ wf + h @ uf + bf)
    n = np.tanh(x @ wn + (f * h) @ un + bn)
    h = (1 - f) * h + f * n
    return h, h


def ugrnn(cell, params, h, x):
    (wg, wc), (ug, uc), (bg, bc) = gates(cell, params, ("g", "c"))
    g = s(x @ wg + h @ ug + bg)
    h = g * h + (1 - g) * np.tanh(x @ wc + h @ uc + bc)
    return h, h


REFERENCES = {
    "LSTM": lstm,
    "PeepholeLSTM": peephole_lstm,
    "CoupledLSTM": coupled_lstm,
    "LayerNormLSTM": layer_norm_lstm,
    "GRU": gru,
    "OutputGatedGRU": output_gated_gru,
    "LayerNormGRU": layer_norm_gru,
    "MGU": mgu,
    "UGRNN": ugrnn,
}

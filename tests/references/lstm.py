"""Relatives of the LSTM, in NumPy: one literal transcription of the equations each."""

import numpy as np

from tests.references.common import gates, s


def original_lstm(cell, params, state, x):
    (wi, wg, wo), (ui, ug, uo), (bi, bg, bo) = gates(cell, params, ("i", "g", "o"))
    c, h = state
    c = c + s(x @ wi + h @ ui + bi) * (4 / (1 + np.exp(-(x @ wg + h @ ug + bg))) - 2)
    h = s(x @ wo + h @ uo + bo) * (2 / (1 + np.exp(-c)) - 1)
    return (c, h), h


def lstmp(cell, params, state, x):
    (wi, wf, wg, wo), (ui, uf, ug, uo), (bi, bf, bg, bo) = gates(cell, params, ("i", "f", "g", "o"))
    pi, pf, po = params["peephole"]
    c, r = state
    i = s(x @ wi + r @ ui + pi * c + bi)
    f = s(x @ wf + r @ uf + pf * c + bf)
    c = f * c + i * np.tanh(x @ wg + r @ ug + bg)
    o = s(x @ wo + r @ uo + po * c + bo)
    m = o * np.tanh(c)
    r = m @ params["projection_kernel"]
    y = np.concatenate([r, m @ params["direct_kernel"]], -1) if "direct_kernel" in params else r
    return (c, r), y


def janet(cell, params, h, x):
    (wf, wg), (uf, ug), (bf, bg) = gates(cell, params, ("f", "g"))
    a = x @ wf + h @ uf + bf
    h = s(a) * h + (1 - s(a - cell.beta)) * np.tanh(x @ wg + h @ ug + bg)
    return h, h


def multiplicative_lstm(cell, params, state, x):
    assert cell.gates == ("m", "i", "f", "g", "o")
    wm, wi, wf, wg, wo = np.split(params["kernel"], 5, -1)
    um, ui, uf, ug, uo = np.split(params["recurrent_kernel"], 5, -1)
    bi, bf, bg, bo = np.split(params["bias"], 4)
    c, h = state
    m = (x @ wm) * (h @ um)
    i = s(x @ wi + m @ ui + bi)
    f = s(x @ wf + m @ uf + bf)
    o = s(x @ wo + m @ uo + bo)
    c = f * c + i * np.tanh(x @ wg + m @ ug + bg)
    h = np.tanh(c) * o
    return (c, h), h


def wmc_lstm(cell, params, state, x):
    (wi, wf, wg, wo), (ui, uf, ug, uo), (bi, bf, bg, bo) = gates(cell, params, ("i", "f", "g", "o"))
    vi, vf, vo = np.split(params["memory_kernel"], 3, -1)
    c, h = state
    i = s(x @ wi + h @ ui + np.tanh(c @ vi) + bi)
    f = s(x @ wf + h @ uf + np.tanh(c @ vf) + bf)
    c = f * c + i * np.tanh(x @ wg + h @ ug + bg)
    o = s(x @ wo + h @ uo + np.tanh(c @ vo) + bo)
    h = o * np.tanh(c)
    return (c, h), h


def mc_lstm(cell, params, state, x):
    w, u, b = gates(cell, params, ("i", "f", "g", "o", "m"))
    c, v = state
    i, f, g, o, m = (x @ w[k] + v @ u[k] + b[k] for k in range(5))
    c = s(f) * c + s(i) * np.tanh(g)
    return (c, s(m) * np.tanh(c)), s(o) * np.tanh(c)


def ur_lstm(cell, params, state, x):
    (wf, wr, wg, wo), (uf, ur, ug, uo), (bf, br, bg, bo) = gates(cell, params, ("f", "r", "g", "o"))
    c, h = state
    f = s(x @ wf + h @ uf + bf)
    r = s(x @ wr + h @ ur + br)
    e = r * (1 - (1 - f) ** 2) + (1 - r) * f**2
    c = e * c + (1 - e) * np.tanh(x @ wg + h @ ug + bg)
    h = s(x @ wo + h @ uo + bo) * np.tanh(c)
    return (c, h), h


def nas(cell, params, state, x):
    """The tree of the found cell: leaves that combine an input and a state, three levels above them."""
    c, h = state
    bias = params.get("bias", np.zeros(8 * cell.features))
    us, vs = np.split(x @ params["kernel"], 8, -1), np.split(h @ params["recurrent_kernel"] + bias, 8, -1)
    leaves = [
        s(us[0] + vs[0]),
        np.maximum(us[1] + vs[1], 0),
        s(us[2] + vs[2]),
        np.maximum(us[3] * vs[3], 0),
        np.tanh(us[4] + vs[4]),
        s(us[5] + vs[5]),
        np.tanh(us[6] + vs[6]),
        s(us[7] + vs[7]),
    ]
    first = np.tanh(leaves[0] * leaves[1])
    second = np.tanh(leaves[2] + leaves[3])
    third = np.tanh(leaves[4] * leaves[5])
    fourth = s(leaves[6] + leaves[7])
    c = np.tanh(first + c) * second
    h = np.tanh(c * np.tanh(third + fourth))
    return (c, h), h


def trnn(cell, params, h, x):
    assert cell.gates == ("z", "f")
    wz, wf = np.split(params["kernel"], 2, -1)
    f = s(x @ wf + params["bias"])
    h = f * h + (1 - f) * (x @ wz)
    return h, h


def _typed(cell, params, before, x):
    """z, f and o, and what this input adds to those of the next tick."""
    assert cell.gates == ("z", "f", "o")
    z, f, o = np.split(x @ params["kernel"] + before + params["bias"], 3, -1)
    return z, s(f), np.tanh(o), x @ params["previous_kernel"]


def tgru(cell, params, state, x):
    before, h = state
    z, f, o, after = _typed(cell, params, before, x)
    h = f * h + z * o
    return (after, h), h


def tlstm(cell, params, state, x):
    before, c = state
    z, f, o, after = _typed(cell, params, before, x)
    c = f * c + (1 - f) * z
    return (after, c), c * o


def elstm(cell, params, c, x):
    (wf, wz), _, (bf, bz) = gates(cell, params, ("f", "z"))
    rf, rz = np.split(params["recurrent_scale"], 2)
    f = s(x @ wf + rf * c + bf)
    c = f * c + (1 - f) * np.tanh(x @ wz + rz * c + bz)
    o = s(np.concatenate([x, c], -1) @ params["output_kernel"] + params["output_bias"])
    return c, o * c


def slstm(cell, params, state, x):
    """Without stabilisation: the true c and n are those stored, times e^m."""
    (wi, wf, wz, wo), _, (bi, bf, bz, bo) = gates(cell, params, ("i", "f", "z", "o"))
    c, n, m, h = state
    width = cell.features // cell.heads
    blocks = params["recurrent_kernel"].reshape(width, 4, cell.heads, width)
    heads = h.reshape(-1, cell.heads, width)
    hi, hf, hz, ho = (
        np.concatenate([heads[:, k] @ blocks[:, gate, k] for k in range(cell.heads)], -1) for gate in range(4)
    )
    i = x @ wi + hi + bi
    f = x @ wf + hf + bf
    f = np.log(s(f)) if cell.forget == "sigmoid" else f
    c = np.exp(f) * c * np.exp(m) + np.exp(i) * np.tanh(x @ wz + hz + bz)
    n = np.exp(f) * n * np.exp(m) + np.exp(i)
    h = s(x @ wo + ho + bo) * c / n
    m = np.maximum(f + m, i)
    return (c / np.exp(m), n / np.exp(m), m, h), h


REFERENCES = {
    "OriginalLSTM": original_lstm,
    "LSTMP": lstmp,
    "JANET": janet,
    "MultiplicativeLSTM": multiplicative_lstm,
    "WMCLSTM": wmc_lstm,
    "MCLSTM": mc_lstm,
    "URLSTM": ur_lstm,
    "NAS": nas,
    "TRNN": trnn,
    "TGRU": tgru,
    "TLSTM": tlstm,
    "ELSTM": elstm,
    "SLSTM": slstm,
}

"""Linear cells, in NumPy: one literal transcription of the equations each."""

import numpy as np

from tests.references.common import gates, s


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


def lru(cell, params, state, x):
    b_re, b_im = np.split(params["kernel"], 2, -1)
    c_re, c_im = np.split(params["output_kernel"], 2)
    decay = np.exp(-np.exp(params["log_decay"]) + 1j * np.exp(params["log_phase"]))
    state = decay * state + np.exp(params["log_gain"]) * (x @ (b_re + 1j * b_im))
    return state, (state @ (c_re + 1j * c_im)).real + x @ params["skip_kernel"]


def linear_rnn(cell, params, h, x):
    (w,), (u,), (b,) = gates(cell, params, ("h",))
    h = x @ w + h @ u + b
    return h, h


def gilr(cell, params, h, x):
    (wg, wi), _, (bg, bi) = gates(cell, params, ("g", "i"))
    g = s(x @ wg + bg)
    h = g * h + (1 - g) * np.tanh(x @ wi + bi)
    return h, h


def ls_lstm(cell, params, state, x):
    before, c = state
    pre = zip(*gates(cell, params, ("f", "i", "o", "z")), strict=True)
    f, i, o, z = (x @ w + before @ u + b for w, u, b in pre)
    c = s(f) * c + s(i) * np.tanh(z)
    g, j = np.split(x @ params["surrogate_kernel"] + params["surrogate_bias"], 2, -1)
    return (s(g) * before + (1 - s(g)) * np.tanh(j), c), s(o) * c


def qrnn(cell, params, state, x):
    window, c = state
    taps = params["kernel"].reshape(cell.width, x.shape[-1], -1)
    inputs = [*np.moveaxis(window, 1, 0)[1:], x]
    pre = sum(one @ tap for one, tap in zip(inputs, taps, strict=True)) + params["bias"]
    z, f, *others = np.split(pre, pre.shape[-1] // cell.features, -1)
    o = s(others[0]) if others else 1
    i = s(others[1]) if len(others) == 2 else 1 - s(f)
    c = s(f) * c + i * np.tanh(z)
    return (np.stack(inputs, 1), c), o * c


def sru(cell, params, c, x):
    z, f, r = np.split(x @ params["kernel"], 3, -1)
    bf, br = np.split(params["bias"], 2)
    vf, vr = params.get("peephole", np.zeros((2, cell.features)))
    f, r = s(f + vf * c + bf), s(r + vr * c + br)
    c = f * c + (1 - f) * z
    skip = x @ params["input_kernel"] if "input_kernel" in params else x
    alpha = np.sqrt(1 + 2 * np.exp(cell.highway_bias)) if cell.rescale else 1
    return c, r * c + (1 - r) * alpha * skip


def rwkv4(cell, params, state, x):
    """Without stabilisation: the true sums are those stored, times e^scale."""
    r, k, v = np.split(x @ params["kernel"] + params["bias"], 3, -1)
    total, count, scale = state
    total, count = total * np.exp(scale), count * np.exp(scale)
    now = np.exp(params["first"] + k)
    average = (total + now * v) / (count + now)
    decay = np.exp(-np.exp(params["log_decay"]))
    total, count = decay * total + np.exp(k) * v, decay * count + np.exp(k)
    scale = np.maximum(scale - np.exp(params["log_decay"]), k)
    return (total / np.exp(scale), count / np.exp(scale), scale), (s(r) * average) @ params["output_kernel"]


def causal_convolution(cell, params, window, x):
    window = np.concatenate([window[:, 1:], x[:, None]], 1)
    return window, window.reshape(len(window), -1) @ params["kernel"] + params["bias"]


REFERENCES = {
    "MinGRU": min_gru,
    "MinLSTM": min_lstm,
    "LinearRNN": linear_rnn,
    "GILR": gilr,
    "LSLSTM": ls_lstm,
    "QRNN": qrnn,
    "SRU": sru,
    "SRU2": sru,
    "LRU": lru,
    "RWKV4": rwkv4,
    "CausalConvolution": causal_convolution,
}

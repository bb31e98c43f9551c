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
    "LRU": lru,
    "RWKV4": rwkv4,
    "CausalConvolution": causal_convolution,
}

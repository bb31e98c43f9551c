"""Continuous cells, in NumPy: one literal transcription of the equations each."""

import numpy as np

from rnncells.cells.continuous.echo_state import reservoir
from tests.references.common import gates, s


def timed(x):
    """An input and the time [B, 1] since the tick before."""
    return x if isinstance(x, tuple) else (x, np.ones((len(x), 1)))


def strictly_upper(entries, size):
    matrix, rest = np.zeros((size, size)), iter(entries)
    for row in range(size):
        for column in range(row + 1, size):
            matrix[row, column] = next(rest)
    return matrix


def antisymmetric(cell, params):
    a = strictly_upper(params["skew"], cell.features)
    return a - a.T - cell.gamma * np.eye(cell.features)


def antisymmetric_rnn(cell, params, h, x):
    m = antisymmetric(cell, params)
    h = h + cell.dt * np.tanh(x @ params["kernel"] + h @ m + params["bias"])
    return h, h


def gated_antisymmetric_rnn(cell, params, h, x):
    (wh, wz), _, (bh, bz) = gates(cell, params, ("h", "z"))
    m = antisymmetric(cell, params)
    z = s(x @ wz + h @ m + bz)
    h = h + cell.dt * z * np.tanh(x @ wh + h @ m + bh)
    return h, h


def co_rnn(cell, params, state, x):
    y, z = state
    forced = x @ params["kernel"] + y @ params["recurrent_kernel"] + z @ params["velocity_kernel"]
    force = np.tanh(forced + params["bias"]) - cell.gamma * y
    if cell.implicit_damping:
        z = (z + cell.dt * force) / (1 + cell.dt * cell.epsilon)
    else:
        z = z + cell.dt * (force - cell.epsilon * z)
    y = y + cell.dt * z
    return (y, z), y


def unicornn(cell, params, state, x):
    y, z = state
    d = cell.dt * s(params["step_logit"])
    z = z - d * (np.tanh(params["frequency"] * y + x @ params["kernel"] + params["bias"]) + cell.alpha * y)
    y = y + d * z
    return (y, z), y


def lem(cell, params, state, x):
    y, z = state
    size, kernel = cell.features, params["recurrent_kernel"]
    fed = x @ params["kernel"] + params["bias"]
    xp, xq, xz, xy = (fed[:, i * size : (i + 1) * size] for i in range(4))
    up, uq, uz = (kernel[:, i * size : (i + 1) * size] for i in range(3))
    p = cell.dt * s(xp + y @ up)
    q = cell.dt * s(xq + y @ uq)
    z = (1 - p) * z + p * np.tanh(xz + y @ uz)
    y = (1 - q) * y + q * np.tanh(xy + z @ params["memory_kernel"])
    return (y, z), y


def lipschitz_rnn(cell, params, h, x):
    m_a, m_u, eye = params["linear_matrix"], params["recurrent_matrix"], np.eye(cell.features)
    a = (1 - cell.beta_a) * (m_a + m_a.T) + cell.beta_a * (m_a - m_a.T) - cell.gamma_a * eye
    u = (1 - cell.beta_u) * (m_u + m_u.T) + cell.beta_u * (m_u - m_u.T) - cell.gamma_u * eye

    def slope(h):
        return h @ a + np.tanh(h @ u + x @ params["kernel"] + params["bias"])

    dt, first = cell.dt, slope(h)
    if cell.method == "euler":
        h = h + dt * first
    elif cell.method == "midpoint":
        h = h + dt * slope(h + dt / 2 * first)
    else:
        h = runge_kutta(slope, h, dt)
    return h, h


def runge_kutta(slope, h, dt):
    k1 = slope(h)
    k2 = slope(h + dt * k1 / 2)
    k3 = slope(h + dt * k2 / 2)
    k4 = slope(h + dt * k3)
    return h + dt * (k1 + 2 * k2 + 2 * k3 + k4) / 6


def relu(v):
    return np.maximum(v, 0)


def plrnn(cell, params, h, x):
    phi = relu(h - h.mean(-1, keepdims=True)) if cell.centre else relu(h)
    phi[:, : cell.linear_units] = h[:, : cell.linear_units]
    u = params["recurrent_kernel"] - np.diag(np.diag(params["recurrent_kernel"]))
    h = params["decay"] * h + phi @ u + x @ params["kernel"] + params["bias"]
    return h, h


def shallow_plrnn(cell, params, h, x):
    inner = h @ params["inner_kernel"]
    units = relu(inner + params["inner_bias"]) - (relu(inner) if cell.clipped else 0)
    h = params["decay"] * h + units @ params["outer_kernel"] + x @ params["kernel"] + params["bias"]
    return h, h


def dendritic_plrnn(cell, params, h, x):
    phi = np.zeros_like(h)
    for i in range(cell.features):
        for alpha, threshold in zip(params["slopes"], params["thresholds"][i], strict=True):
            phi[:, i] += alpha * (relu(h[:, i] - threshold) - (relu(h[:, i]) if cell.clipped else 0))
    u = params["recurrent_kernel"] - np.diag(np.diag(params["recurrent_kernel"]))
    h = params["decay"] * h + phi @ u + x @ params["kernel"] + params["bias"]
    return h, h


def ctrnn(cell, params, h, x):
    x, elapsed = timed(x)
    d = elapsed / cell.substeps / np.log1p(np.exp(params["raw_tau"]))

    def target(h):
        return np.tanh(x @ params["kernel"] + h @ params["recurrent_kernel"] + params["bias"])

    for _ in range(cell.substeps):
        if cell.method == "euler":
            h = h + d * (target(h) - h)
        elif cell.method == "exponential":
            h = np.exp(-d) * h + (1 - np.exp(-d)) * target(h)
        else:
            h = runge_kutta(lambda h: target(h) - h, h, d)
    return h, h


def ltc(cell, params, v, x):
    """Synapse by synapse."""
    x, elapsed = timed(x)
    capacity, leak = (np.log1p(np.exp(params[name])) for name in ("capacity", "leak"))
    sensed = params["input_scale"] * x + params["input_bias"]
    d = elapsed[:, 0] / cell.substeps

    def add(current, conductance, i, before, kind):
        for j in range(before.shape[1]):
            names = ("strength", "slope", "centre", "reversal")
            raw, slope, centre, reversal = (params[kind + name][j, i] for name in names)
            opened = np.log1p(np.exp(raw)) * s(slope * (before[:, j] - centre))
            current = current + opened * reversal
            conductance = conductance + opened
        return current, conductance

    for _ in range(cell.substeps):
        after = np.zeros_like(v)
        for i in range(cell.features):
            sums = leak[i] * params["rest"][i], leak[i]
            sums = add(*sums, i, sensed, "sense_")
            current, conductance = add(*sums, i, v, "")
            after[:, i] = (capacity[i] * v[:, i] + d * current) / (capacity[i] + d * conductance)
        v = after
    return v, v


def cfc(cell, params, h, x):
    x, elapsed = timed(x)

    def act(v):
        return 1.7159 * np.tanh(0.666 * v)

    q = act(x @ params["kernel"] + h @ params["recurrent_kernel"] + params["bias"])
    for layer in range(cell.backbone_layers - 1):
        q = act(q @ params["layer_kernels"][layer] + params["layer_biases"][layer])
    heads = q @ params["head_kernel"] + params["head_bias"]
    if cell.mode == "pure":
        rate = np.abs(params["decay"]) + np.abs(heads)
        h = params["limit"] - params["limit"] * heads * np.exp(-elapsed * rate)
        return h, h
    f1, f2, ta, tb = (heads[:, i * cell.features : (i + 1) * cell.features] for i in range(4))
    g = s(ta * elapsed + tb)
    h = np.tanh(f1) * (1 - g if cell.mode == "default" else 1) + np.tanh(f2) * g
    return h, h


def echo_state(cell, params, h, x):
    w, u, b = reservoir(cell.seed, x.shape[-1], cell.features, cell.density)
    fed = cell.input_scale * (x @ w) + cell.spectral_radius * (h @ u) + cell.bias_scale * b
    h = (1 - cell.leak) * h + cell.leak * np.tanh(fed)
    return h, h


def phased_lstm(cell, params, state, x):
    (wi, wf, wg, wo), (ui, uf, ug, uo), (bi, bf, bg, bo) = gates(cell, params, ("i", "f", "g", "o"))
    x, elapsed = timed(x)
    pi, pf, po = params["peephole"]
    c, h, t = state
    i = s(x @ wi + h @ ui + pi * c + bi)
    f = s(x @ wf + h @ uf + pf * c + bf)
    new_c = f * c + i * np.tanh(x @ wg + h @ ug + bg)
    o = s(x @ wo + h @ uo + po * new_c + bo)
    new_h = o * np.tanh(new_c)
    t, period = t + elapsed, np.exp(params["log_period"])
    phi = np.mod(t - params["shift"], period) / period
    r = cell.open_ratio
    k = np.where(phi < r / 2, 2 * phi / r, np.where(phi < r, 2 - 2 * phi / r, cell.leak * phi))
    c = k * new_c + (1 - k) * c
    h = k * new_h + (1 - k) * h
    return (c, h, t), h


REFERENCES = {
    "AntisymmetricRNN": antisymmetric_rnn,
    "GatedAntisymmetricRNN": gated_antisymmetric_rnn,
    "CoRNN": co_rnn,
    "UnICORNN": unicornn,
    "LEM": lem,
    "LipschitzRNN": lipschitz_rnn,
    "PLRNN": plrnn,
    "ShallowPLRNN": shallow_plrnn,
    "DendriticPLRNN": dendritic_plrnn,
    "CTRNN": ctrnn,
    "LTC": ltc,
    "CfC": cfc,
    "EchoState": echo_state,
    "PhasedLSTM": phased_lstm,
}

"""State-space models and units with complex or normalised traces, in NumPy: one literal transcription of the
equations each."""

import numpy as np

from tests.references.common import gates, normalised, s


def discretised(cell, a, step):
    """What is left of a state after a tick, and what an input adds."""
    if cell.discretisation == "bilinear":
        return (2 + step * a) / (2 - step * a), 2 * step / (2 - step * a)
    return np.exp(step * a), (np.exp(step * a) - 1) / a


def s4d(cell, params, state, x):
    u = x @ params["kernel"]
    a = -np.exp(params["log_decay"]) + 1j * params["frequency"]
    c_re, c_im = np.split(params["output_kernel"], 2, -1)
    state, y = state.copy(), x @ params["skip_kernel"]
    for channel in range(cell.features):
        kept, added = discretised(cell, a[channel], np.exp(params["log_step"][channel]))
        state[:, channel] = kept * state[:, channel] + added * u[:, channel, None]
        c = c_re[channel] + 1j * c_im[channel]
        y[:, channel] += 2 * (state[:, channel] @ c).real
    return state, y


def s5(cell, params, state, x):
    a = -np.exp(params["log_decay"]) + 1j * params["frequency"]
    kept, added = discretised(cell, a, cell.rescale * np.exp(params["log_step"]))
    b_re, b_im = np.split(params["kernel"], 2, -1)
    c_re, c_im = np.split(params["output_kernel"], 2)
    state = kept * state + added * (x @ (b_re + 1j * b_im))
    return state, 2 * (state @ (c_re + 1j * c_im)).real + x @ params["skip_kernel"]


def s6(cell, params, state, x):
    u = x @ params["input_kernel"] if "input_kernel" in params else x
    b, c = np.split(x @ params["kernel"] + params["bias"], 2, -1)
    step = np.log1p(np.exp(x @ params["step_down"] @ params["step_up"] + params["step_bias"]))
    rates = np.exp(params["log_rate"])
    state, y = state.copy(), params["skip"] * u
    for channel in range(cell.features):
        delta = step[:, channel, None]
        state[:, channel] = (
            np.exp(-delta * rates[channel]) * state[:, channel] + delta * b * u[:, channel, None]
        )
        y[:, channel] += (c * state[:, channel]).sum(-1)
    return state, y


def rg_lru(cell, params, h, x):
    (wr, wi), _, (br, bi) = gates(cell, params, ("r", "i"))
    value = x @ params["input_kernel"] if "input_kernel" in params else x
    a = s(params["decay_logit"]) ** (cell.exponent * s(x @ wr + br))
    h = a * h + np.sqrt(1 - a**2) * s(x @ wi + bi) * value
    return h, h


def hgrn(cell, params, state, x):
    names = ("re", "im", "f", "p", "q")
    re, im, f, p, q = (x @ w + b for w, _, b in zip(*gates(cell, params, names), strict=True))
    f = cell.lower_bound + (1 - cell.lower_bound) * s(f)
    value = re * s(re) + 1j * im * s(im)
    state = f * np.exp(1j * params["theta"]) * state + (1 - f) * value
    read = normalised(np.concatenate([state.real, state.imag], -1), params["norm_scale"], cell.epsilon)
    gate = np.concatenate([p * s(p), q * s(q)], -1)
    return state, ((read + params["norm_bias"]) * gate) @ params["output_kernel"] + params["output_bias"]


def rtu(cell, params, state, x):
    """In real numbers."""
    r, angle = np.exp(-np.exp(params["log_decay"])), np.exp(params["log_phase"])
    g, phi, n = r * np.cos(angle), r * np.sin(angle), np.sqrt(1 - r**2)
    w_1, w_2 = np.split(params["kernel"], 2, -1)
    c_1 = g * state.real - phi * state.imag + n * (x @ w_1)
    c_2 = g * state.imag + phi * state.real + n * (x @ w_2)
    return c_1 + 1j * c_2, np.maximum(np.concatenate([c_1, c_2], -1), 0)


def nonlinear_rtu(cell, params, state, x):
    _, y = rtu(cell, params, state, x)
    return y[:, : cell.features] + 1j * y[:, cell.features :], y


def ffm(cell, params, state, x):
    u, g = np.split(x @ params["kernel"] + params["bias"], 2, -1)
    kept = np.exp(-np.abs(params["decay"])[:, None] + 1j * params["frequency"])
    state = kept * state + (u * s(g))[..., None]
    read = np.concatenate([part.reshape(len(x), -1) for part in (state.real, state.imag)], -1)
    z = normalised(read @ params["output_kernel"] + params["output_bias"], 1, cell.epsilon)
    o, skip = np.split(x @ params["readout_kernel"] + params["readout_bias"], 2, -1)
    return state, z * s(o) + skip * (1 - s(o))


REFERENCES = {
    "S4D": s4d,
    "S5": s5,
    "S6": s6,
    "RGLRU": rg_lru,
    "HGRN": hgrn,
    "RTU": rtu,
    "NonlinearRTU": nonlinear_rtu,
    "FFM": ffm,
}

"""Structured recurrences, in NumPy: one literal transcription of the equations each."""

import numpy as np

from tests.references.common import s
from tests.references.gated import layer_norm_lstm


def relu(v):
    return np.maximum(v, 0)


def jordan(cell, params, context, x):
    h = np.tanh(x @ params["kernel"] + context @ params["recurrent_kernel"] + params["bias"])
    y = h @ params["output_kernel"] + params["output_bias"]
    return cell.decay * context + y, y


def ind_rnn(cell, params, h, x):
    h = relu(x @ params["kernel"] + params["bias"] + params["recurrent_weight"] * h)
    return h, h


def fast_grnn(cell, params, h, x):
    b_z, b_c = np.split(params["bias"], 2)
    p = x @ params["kernel"] + h @ params["recurrent_kernel"]
    z, c = s(p + b_z), np.tanh(p + b_c)
    h = z * h + (s(params["zeta"]) * (1 - z) + s(params["nu"])) * c
    return h, h


def scrn(cell, params, state, x):
    h, context = state
    context = (1 - cell.decay) * (x @ params["context_kernel"]) + cell.decay * context
    fast = x @ params["kernel"] + h @ params["recurrent_kernel"] + params["bias"]
    h = s(context @ params["context_to_hidden"] + fast)
    return (h, context), np.concatenate([h, context], -1)


def shuffling_rnn(cell, params, h, x):
    seen = relu(x @ params["kernel"] + params["bias"])
    for layer in range(2, cell.layers + 1):
        seen = relu(seen @ params[f"layer_{layer}"]["kernel"] + params[f"layer_{layer}"]["bias"])
    beta = seen @ params["output_kernel"] + params["output_bias"]
    if cell.gated:
        beta = beta * s(x @ params["gate_kernel"] + params["gate_bias"])
    shuffled = np.empty_like(h)
    for i in range(cell.features):
        shuffled[:, i] = h[:, (i - cell.shift) % cell.features]
    h = relu(shuffled + beta)
    return h, h


def multiplicative_rnn(cell, params, h, x):
    """By the kernel that each input chooses."""
    ys = []
    for row, state in zip(x, h, strict=True):
        chosen = params["recurrent_kernel"] @ np.diag(row @ params["factor_kernel"]) @ params["mixing_kernel"]
        ys.append(np.tanh(row @ params["kernel"] + state @ chosen + params["bias"]))
    return np.stack(ys), np.stack(ys)


def clockwork_rnn(cell, params, state, x):
    """Unit by unit: those of group g, at their ticks, from units that are no faster."""
    h, ticks = state
    groups = min(9, cell.features)
    period = [2**g for g in range(groups) for _ in range(-(-(cell.features - g) // groups))]
    entries = iter(params["recurrent_blocks"])
    u = np.zeros((cell.features, cell.features))
    for source in range(cell.features):
        for target in range(cell.features):
            if period[source] >= period[target]:
                u[source, target] = next(entries)
    new = np.tanh(x @ params["kernel"] + h @ u + params["bias"])
    after = h.copy()
    for b in range(len(h)):
        for unit in range(cell.features):
            if ticks[b] % period[unit] == 0:
                after[b, unit] = new[b, unit]
    return (after, ticks + 1), after


def rhn(cell, params, state, x):
    count = 2 if cell.coupled else 3
    kernels = np.split(params["recurrent_kernel"], cell.depth * count, -1)
    biases = np.split(params["bias"], cell.depth * count)
    seen = np.split(x @ params["kernel"], count, -1)
    for layer in range(cell.depth):
        sums = []
        for gate in range(count):
            total = state @ kernels[layer * count + gate] + biases[layer * count + gate]
            sums.append(total + seen[gate] if layer == 0 else total)
        h, t = np.tanh(sums[0]), s(sums[1])
        c = 1 - t if cell.coupled else s(sums[2])
        state = h * t + state * c
    return state, state


def integrated(params, x, h, gate, count):
    """The pre-activation of one gate."""

    def own(name):
        return np.split(params[name], count, -1)[gate]

    a, r = x @ own("kernel"), h @ own("recurrent_kernel")
    p = own("product_scale") * a * r + own("recurrent_scale") * r + own("kernel_scale") * a
    return p + own("bias")


def mi_rnn(cell, params, h, x):
    h = np.tanh(integrated(params, x, h, 0, 1))
    return h, h


def mi_lstm(cell, params, state, x):
    c, h = state
    i, f, g, o = (integrated(params, x, h, gate, 4) for gate in range(4))
    c = s(f) * c + s(i) * np.tanh(g)
    h = s(o) * np.tanh(c)
    return (c, h), h


def mi_gru(cell, params, h, x):
    r, z = (s(integrated(params, x, h, gate, 3)) for gate in range(2))
    if cell.reset_after:
        none = integrated(params, x, np.zeros_like(h), 2, 3)
        n = np.tanh(none + r * (integrated(params, x, h, 2, 3) - none + params["recurrent_bias"]))
    else:
        n = np.tanh(integrated(params, x, r * h, 2, 3))
    h = (1 - z) * n + z * h
    return h, h


def fast_slow_rnn(cell, params, state, x):
    """Of LSTMs with normalisation, the default."""
    cells = cell.children
    fast, slow = state[:2], state[2:]
    fast, y = layer_norm_lstm(cells["fast_1"], params["fast_1"], fast, x)
    slow, z = layer_norm_lstm(cells["slow"], params["slow"], slow, y)
    fast, y = layer_norm_lstm(cells["fast_2"], params["fast_2"], fast, z)
    for i in range(3, len(cells)):
        fast, y = layer_norm_lstm(cells[f"fast_{i}"], params[f"fast_{i}"], fast, np.zeros_like(y[..., :1]))
    return (*fast, *slow), y


REFERENCES = {
    "Jordan": jordan,
    "IndRNN": ind_rnn,
    "FastGRNN": fast_grnn,
    "SCRN": scrn,
    "ShufflingRNN": shuffling_rnn,
    "MultiplicativeRNN": multiplicative_rnn,
    "ClockworkRNN": clockwork_rnn,
    "RHN": rhn,
    "MIRNN": mi_rnn,
    "MILSTM": mi_lstm,
    "MIGRU": mi_gru,
    "FastSlowRNN": fast_slow_rnn,
}

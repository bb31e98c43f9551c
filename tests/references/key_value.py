"""Cells whose memory is a matrix, in NumPy: one literal transcription of the equations each, head by head."""

import numpy as np

from tests.references.common import gates, s


def silu(a):
    return a * s(a)


def softplus(a):
    return np.logaddexp(0, a)


def elu(a):
    return np.where(a > 0, a, np.exp(a) - 1)


def root_mean_square(o, epsilon):
    return np.sqrt((o**2).mean(-1, keepdims=True) + epsilon)


def unit(a):
    return a / np.sqrt((a**2).sum(-1, keepdims=True) + 1e-6)


def parts(array, count):
    """[B, count * N] -> count arrays [B, N]."""
    size = array.shape[-1] // count
    return [array[:, i * size : (i + 1) * size] for i in range(count)]


def projected(cell, params, x, names):
    """x W + b of each gate, cut into heads: a list of [B, V] for each gate."""
    kernels, _, biases = gates(cell, params, names)
    return [parts(x @ kernel + bias, cell.heads) for kernel, bias in zip(kernels, biases, strict=True)]


def queries_and_keys(cell, params, x):
    both = x @ params["key_kernel"] + params["key_bias"]
    return [parts(half, cell.heads) for half in parts(both, 2)]


def outer(k, v):
    return np.einsum("bk,bv->bkv", k, v)


def seen_by(q, memory):
    return np.einsum("bk,bkv->bv", q, memory)


def emitted(params, y):
    return y @ params["output_kernel"] + params["output_bias"]


def retention(cell, params, state, x):
    """As the paper's parallel form has it: what is stored and what asks are turned by their positions."""
    v, g = projected(cell, params, x, ("v", "g"))
    q, k = queries_and_keys(cell, params, x)
    states, outs = [], []
    for h in range(cell.heads):
        size = q[h].shape[-1] // 2
        theta = np.array([10000 ** -(j / max(size - 1, 1)) for j in range(size)])
        query = q[h][:, :size] + 1j * q[h][:, size:]
        key = (k[h][:, :size] + 1j * k[h][:, size:]) / np.sqrt(2 * size)
        memory = (1 - 2.0 ** (-5 - h)) * np.exp(-1j * theta)[:, None] * state[:, h] + outer(key, v[h])
        o = seen_by(np.conj(query), memory).real
        states.append(memory)
        outs.append(silu(g[h]) * o / root_mean_square(o, cell.epsilon))
    return np.stack(states, 1), emitted(params, np.concatenate(outs, -1))


def linear_attention(cell, params, state, x):
    (v,) = projected(cell, params, x, ("v",))
    q, k = queries_and_keys(cell, params, x)
    states, outs = [], []
    for h in range(cell.heads):
        query, key = elu(q[h]) + 1, elu(k[h]) + 1
        memory, total = state[:, h, :, :-1] + outer(key, v[h]), state[:, h, :, -1] + key
        weight = (query * total).sum(-1, keepdims=True)
        outs.append(seen_by(query, memory) / (weight + cell.epsilon))
        states.append(np.concatenate([memory, total[..., None]], -1))
    return np.stack(states, 1), emitted(params, np.concatenate(outs, -1))


def gla(cell, params, state, x):
    v, r = projected(cell, params, x, ("v", "r"))
    q, k = queries_and_keys(cell, params, x)
    decay = s(x @ params["gate_kernel"] @ params["decay_kernel"] + params["decay_bias"])
    decay = parts(decay ** (1 / cell.temperature), cell.heads)
    states, outs = [], []
    for h in range(cell.heads):
        memory = decay[h][..., None] * state[:, h] + outer(k[h], v[h])
        o = seen_by(q[h] / np.sqrt(q[h].shape[-1]), memory)
        states.append(memory)
        outs.append(silu(r[h]) * params["norm_scale"] * o / root_mean_square(o, cell.epsilon))
    return np.stack(states, 1), emitted(params, np.concatenate(outs, -1))


def hgrn2(cell, params, state, x):
    q, f, v = projected(cell, params, x, ("q", "f", "v"))
    states, outs = [], []
    for h in range(cell.heads):
        kept = cell.lower_bound + (1 - cell.lower_bound) * s(f[h])
        memory = kept[..., None] * state[:, h] + outer(1 - kept, v[h])
        states.append(memory)
        outs.append(seen_by(silu(q[h]), memory))
    o = np.concatenate(outs, -1)
    return np.stack(states, 1), emitted(params, params["norm_scale"] * o / root_mean_square(o, cell.epsilon))


def mamba2(cell, params, state, x):
    z, u = projected(cell, params, x, ("z", "u"))
    q, k = (silu(half) for half in parts(x @ params["key_kernel"] + params["key_bias"], 2))
    d = softplus(x @ params["step_kernel"] + params["step_bias"])
    states, outs = [], []
    for h in range(cell.heads):
        v, step = silu(u[h]), d[:, h : h + 1]
        decay = np.exp(-step * np.exp(params["log_rate"][h]))
        memory = decay[..., None] * state[:, h] + outer(step * k, v)
        states.append(memory)
        outs.append(silu(z[h]) * (seen_by(q, memory) + params["skip"][h] * v))
    o = np.concatenate(outs, -1)
    return np.stack(states, 1), emitted(params, params["norm_scale"] * o / root_mean_square(o, cell.epsilon))


def delta_rule(memory, k, v, b):
    """S + b k (v - k^T S)^T."""
    return memory + b[:, None, None] * outer(k, v - seen_by(k, memory))


def delta_net(cell, params, state, x):
    (v,) = projected(cell, params, x, ("v",))
    q, k = queries_and_keys(cell, params, x)
    b = s(x @ params["write_kernel"])
    states, outs = [], []
    for h in range(cell.heads):
        memory = delta_rule(state[:, h], unit(silu(k[h])), silu(v[h]), b[:, h])
        o = seen_by(unit(silu(q[h])) / np.sqrt(q[h].shape[-1]), memory)
        states.append(memory)
        outs.append(params["norm_scale"] * o / root_mean_square(o, cell.epsilon))
    return np.stack(states, 1), emitted(params, np.concatenate(outs, -1))


def gated_delta_net(cell, params, state, x):
    v, g = projected(cell, params, x, ("v", "g"))
    q, k = queries_and_keys(cell, params, x)
    b = s(x @ params["write_kernel"])
    decay = np.exp(-np.exp(params["log_rate"]) * softplus(x @ params["step_kernel"] + params["step_bias"]))
    states, outs = [], []
    for h in range(cell.heads):
        kept = decay[:, h, None, None] * state[:, h]
        memory = delta_rule(kept, unit(silu(k[h])), silu(v[h]), b[:, h])
        o = seen_by(unit(silu(q[h])) / np.sqrt(q[h].shape[-1]), memory)
        states.append(memory)
        outs.append(silu(g[h]) * params["norm_scale"] * o / root_mean_square(o, cell.epsilon))
    return np.stack(states, 1), emitted(params, np.concatenate(outs, -1))


def positive(cell, a):
    """Features that are positive and sum to one."""
    if cell.feature_map == "elu":
        found = elu(a) + 1
    else:
        r = np.maximum(np.concatenate([a, -a], -1), 0)
        size = r.shape[-1]
        moved = [[r[:, i] * r[:, (i - j) % size] for i in range(size)] for j in range(1, cell.nu + 1)]
        found = np.stack([column for columns in moved for column in columns], -1)
    return found / (found.sum(-1, keepdims=True) + cell.epsilon)


def fast_weight_programmer(cell, params, state, x):
    (v,) = projected(cell, params, x, ("v",))
    q, k = queries_and_keys(cell, params, x)
    b = s(x @ params["write_kernel"])
    states, outs = [], []
    for h in range(cell.heads):
        memory = delta_rule(state[:, h], positive(cell, k[h]), v[h], b[:, h])
        states.append(memory)
        outs.append(seen_by(positive(cell, q[h]), memory))
    return np.stack(states, 1), emitted(params, np.concatenate(outs, -1))


def fast_weights(cell, params, state, x):
    memory, hidden = state
    z = x @ params["kernel"] + hidden @ params["recurrent_kernel"] + params["bias"]
    hidden = np.maximum(z, 0)
    for _ in range(cell.inner_steps):
        v = z + (memory * hidden[:, None, :]).sum(-1)
        centred = v - v.mean(-1, keepdims=True)
        normal = centred / root_mean_square(centred, cell.epsilon)
        hidden = np.maximum(params["scale"] * normal + params["shift"], 0)
    memory = cell.decay * memory + cell.rate * hidden[:, :, None] * hidden[:, None, :]
    return (memory, hidden), hidden


REFERENCES = {
    "Retention": retention,
    "LinearAttention": linear_attention,
    "GLA": gla,
    "HGRN2": hgrn2,
    "Mamba2": mamba2,
    "DeltaNet": delta_net,
    "GatedDeltaNet": gated_delta_net,
    "FastWeightProgrammer": fast_weight_programmer,
    "FastWeights": fast_weights,
}

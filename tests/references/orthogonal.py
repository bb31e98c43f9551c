"""Orthogonal cells, in NumPy: one literal transcription of the equations each.

Maps U are built as matrices, column by column of the papers, and applied to each state by itself.
"""

import numpy as np
import scipy.linalg

from tests.references.common import s
from tests.references.continuous import strictly_upper


def modrelu(z, bias):
    size = np.sqrt(np.abs(z) ** 2 + 1e-8)
    return np.maximum(size + bias, 0) * z / size


def generator(cell, params):
    a = strictly_upper(params["skew"], cell.features)
    return a - a.T


def exp_rnn(cell, params, h, x):
    h = modrelu(x @ params["kernel"] + h @ scipy.linalg.expm(generator(cell, params)), params["bias"])
    return h, h


def sco_rnn(cell, params, h, x):
    size = cell.features
    k, eye = generator(cell, params), np.eye(cell.features)
    negatives = size // 2 if cell.negatives is None else cell.negatives
    d = np.diag([1.0] * (size - negatives) + [-1.0] * negatives)
    u = np.linalg.inv(eye + k) @ (eye - k) @ d
    h = modrelu(x @ params["kernel"] + np.stack([u @ row for row in h]), params["bias"])
    return h, h


def householder_rnn(cell, params, h, x):
    size, rest = cell.features, list(params["vectors"])
    count = min(size, 32) if cell.reflections is None else cell.reflections
    u = np.eye(size)
    for k in range(count):
        v = np.zeros(size)
        v[k:] = [rest.pop(0) for _ in range(size - k)] if k < size - 1 else 1.0
        u = u @ (np.eye(size) - 2 * np.outer(v, v) / (v @ v))
    assert not rest
    z = x @ params["kernel"] + np.stack([u @ row for row in h]) + params["bias"]
    h = np.where(z > 0, z, cell.activation.slope * z)
    return h, h


def complex_step(params, u, h, x):
    """h' and (Re h', Im h') from a matrix U."""
    re, im = np.split(x @ params["kernel"], 2, -1)
    h = modrelu(re + 1j * im + np.stack([u @ row for row in h]), params["bias"])
    return h, np.concatenate([h.real, h.imag], -1)


def unitary_rnn(cell, params, h, x):
    size = cell.features
    fourier = np.exp(-2j * np.pi * np.outer(np.arange(size), np.arange(size)) / size) / np.sqrt(size)
    d1, d2, d3 = (np.diag(np.exp(1j * row)) for row in params["theta"])

    def mirror(row):
        v = row[:size] + 1j * row[size:]
        return np.eye(size) - 2 * np.outer(v, v.conj()) / np.sum(np.abs(v) ** 2)

    r1, r2 = (mirror(row) for row in params["reflection"])
    p = np.eye(size)[np.random.default_rng(cell.seed).permutation(size)]
    u = d3 @ r2 @ fourier.conj().T @ d2 @ p @ r1 @ fourier @ d1
    return complex_step(params, u, h, x)


def full_unitary_rnn(cell, params, h, x):
    numbers, size = params["generator"], cell.features
    k = np.zeros((size, size), complex)
    for row in range(size):
        k[row, row] = 1j * numbers[row, row]
        for column in range(row + 1, size):
            k[row, column] = numbers[row, column] + 1j * numbers[column, row]
            k[column, row] = -numbers[row, column] + 1j * numbers[column, row]
    return complex_step(params, scipy.linalg.expm(k), h, x)


def pairs(cell):
    """The pairs of each layer, in order."""
    size = cell.features
    if cell.style == "tunable":
        return [[(i, i + 1) for i in range(layer % 2, size - 1, 2)] for layer in range(cell.capacity)]
    layers, apart = [], 1
    while apart < size:
        layers.insert(0, [(i, i + apart) for i in range(size - apart) if i // apart % 2 == 0])
        apart *= 2
    return layers


def rotations(cell, thetas, phis):
    u, at = np.eye(cell.features, dtype=complex), 0
    for layer in pairs(cell):
        f = np.eye(cell.features, dtype=complex)
        for i, j in layer:
            theta, phi, at = thetas[at], phis[at], at + 1
            f[i, i], f[i, j] = np.exp(1j * phi) * np.cos(theta), -np.exp(1j * phi) * np.sin(theta)
            f[j, i], f[j, j] = np.sin(theta), np.cos(theta)
        u = f @ u
    assert at == len(thetas)
    return u


def eunn(cell, params, h, x):
    u = np.diag(np.exp(1j * params["omega"])) @ rotations(cell, params["theta"], params["phi"])
    return complex_step(params, u, h, x)


def goru(cell, params, h, x):
    assert cell.gates == ("r", "g", "c")
    size, kernel, recurrent = cell.features, params["kernel"], params["recurrent_kernel"]
    q = rotations(cell, params["theta"], np.zeros_like(params["theta"])).real
    r = s(x @ kernel[:, :size] + h @ recurrent[:, :size] + params["bias"][:size])
    g = s(x @ kernel[:, size : 2 * size] + h @ recurrent[:, size:] + params["bias"][size:])
    turned = np.stack([q @ row for row in h])
    h = g * h + (1 - g) * modrelu(x @ kernel[:, 2 * size :] + r * turned, params["modrelu_bias"])
    return h, h


REFERENCES = {
    "ExpRNN": exp_rnn,
    "ScoRNN": sco_rnn,
    "HouseholderRNN": householder_rnn,
    "UnitaryRNN": unitary_rnn,
    "FullUnitaryRNN": full_unitary_rnn,
    "EUNN": eunn,
    "GORU": goru,
}

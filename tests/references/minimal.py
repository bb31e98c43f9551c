"""Small gated cells, in NumPy: one literal transcription of the equations each."""

import numpy as np

from tests.references.common import gates, s


def mgu1(cell, params, h, x):
    uf, un = np.split(params["recurrent_kernel"], 2, -1)
    bf, bn = np.split(params["bias"], 2)
    f = s(h @ uf + bf)
    h = (1 - f) * h + f * np.tanh(x @ params["kernel"] + (f * h) @ un + bn)
    return h, h


def mgu2(cell, params, h, x):
    uf, un = np.split(params["recurrent_kernel"], 2, -1)
    f = s(h @ uf)
    h = (1 - f) * h + f * np.tanh(x @ params["kernel"] + (f * h) @ un + params["bias"])
    return h, h


def mgu3(cell, params, h, x):
    bf, bn = np.split(params["bias"], 2)
    f = s(bf)
    n = np.tanh(x @ params["kernel"] + (f * h) @ params["recurrent_kernel"] + bn)
    h = (1 - f) * h + f * n
    return h, h


def itself(params, x):
    """x, where it is as wide as the state."""
    return x @ params["input_kernel"] if "input_kernel" in params else x


def mut1(cell, params, h, x):
    wz, wr = np.split(params["kernel"], 2, -1)
    ur, un = np.split(params["recurrent_kernel"], 2, -1)
    bz, br, bn = np.split(params["bias"], 3)
    z = s(x @ wz + bz)
    r = s(x @ wr + h @ ur + br)
    h = np.tanh((r * h) @ un + np.tanh(itself(params, x)) + bn) * z + h * (1 - z)
    return h, h


def mut2(cell, params, h, x):
    wz, wn = np.split(params["kernel"], 2, -1)
    uz, ur, un = np.split(params["recurrent_kernel"], 3, -1)
    bz, br, bn = np.split(params["bias"], 3)
    z = s(x @ wz + h @ uz + bz)
    r = s(itself(params, x) + h @ ur + br)
    h = np.tanh((r * h) @ un + x @ wn + bn) * z + h * (1 - z)
    return h, h


def mut3(cell, params, h, x):
    (wz, wr, wn), (uz, ur, un), (bz, br, bn) = gates(cell, params, ("z", "r", "n"))
    z = s(x @ wz + np.tanh(h) @ uz + bz)
    r = s(x @ wr + h @ ur + br)
    h = np.tanh((r * h) @ un + x @ wn + bn) * z + h * (1 - z)
    return h, h


def ligru(cell, params, h, x):
    (wz, wn), (uz, un), (bz, bn) = gates(cell, params, ("z", "n"))
    z = s(x @ wz + h @ uz + bz)
    h = z * h + (1 - z) * np.maximum(x @ wn + h @ un + bn, 0)
    return h, h


def intersection_rnn(cell, params, h, x):
    (wg, wc, wp, wd), (ug, uc, up, ud), (bg, bc, bp, bd) = gates(cell, params, ("g", "c", "p", "d"))
    g = s(x @ wg + h @ ug + bg)
    c = np.tanh(x @ wc + h @ uc + bc)
    p = s(x @ wp + h @ up + bp)
    d = np.maximum(x @ wd + h @ ud + bd, 0)
    return g * h + (1 - g) * c, p * itself(params, x) + (1 - p) * d


def star(cell, params, h, x):
    wz, wk = np.split(params["kernel"], 2, -1)
    bz, bk = np.split(params["bias"], 2)
    z = np.tanh(x @ wz + bz)
    k = s(x @ wk + h @ params["recurrent_kernel"] + bk)
    h = np.tanh((1 - k) * h + k * z)
    return h, h


def light_ru(cell, params, h, x):
    wn, wf = np.split(params["kernel"], 2, -1)
    f = s(x @ wf + h @ params["recurrent_kernel"] + params["bias"])
    h = (1 - f) * h + f * np.tanh(x @ wn)
    return h, h


def minimal_rnn(cell, params, h, x):
    bz, bu = np.split(params["bias"], 2)
    z = np.tanh(x @ params["kernel"] + bz)
    u = s(h @ params["recurrent_kernel"] + z @ params["latent_kernel"] + bu)
    h = u * h + (1 - u) * z
    return h, h


def atr(cell, params, h, x):
    p = x @ params["kernel"] + params["bias"]
    q = h @ params["recurrent_kernel"]
    h = s(p + q) * p + s(p - q) * h
    return h, h


def ran(cell, params, c, x):
    wi, wf, wc = np.split(params["kernel"], 3, -1)
    ui, uf = np.split(params["recurrent_kernel"], 2, -1)
    bi, bf = np.split(params["bias"], 2)
    h = np.tanh(c)
    i = s(x @ wi + h @ ui + bi)
    f = s(x @ wf + h @ uf + bf)
    c = i * (x @ wc) + f * c
    return c, np.tanh(c)


def sgrn(cell, params, h, x):
    p = x @ params["kernel"]
    f = s(p + h @ params["recurrent_kernel"] + params["bias"])
    h = np.tanh((1 - f) * p + f * h)
    return h, h


def cfn(cell, params, h, x):
    wt, we, wc = np.split(params["kernel"], 3, -1)
    ut, ue = np.split(params["recurrent_kernel"], 2, -1)
    bt, be = np.split(params["bias"], 2)
    theta = s(x @ wt + h @ ut + bt)
    eta = s(x @ we + h @ ue + be)
    h = theta * np.tanh(h) + eta * np.tanh(x @ wc)
    return h, h


def brc(cell, params, h, x):
    wa, wc, wh = np.split(params["kernel"], 3, -1)
    ma, mc = params["recurrent_weight"]
    ba, bc = np.split(params["bias"], 2)
    a = 1 + np.tanh(x @ wa + ma * h + ba)
    c = s(x @ wc + mc * h + bc)
    h = c * h + (1 - c) * np.tanh(x @ wh + a * h)
    return h, h


def nbrc(cell, params, h, x):
    wa, wc, wh = np.split(params["kernel"], 3, -1)
    ua, uc = np.split(params["recurrent_kernel"], 2, -1)
    ba, bc = np.split(params["bias"], 2)
    a = 1 + np.tanh(x @ wa + h @ ua + ba)
    c = s(x @ wc + h @ uc + bc)
    h = c * h + (1 - c) * np.tanh(x @ wh + a * h)
    return h, h


def sgu(cell, params, h, x):
    wg, wz = np.split(params["kernel"], 2, -1)
    ug, uz = np.split(params["recurrent_kernel"], 2, -1)
    bg, bz = np.split(params["bias"], 2)
    g = np.tanh(((x @ wg + bg) * h) @ ug)
    z = np.minimum(np.maximum((x @ wz + h @ uz + bz) / 5 + 1 / 2, 0), 1)
    h = (1 - z) * h + z * np.log(1 + np.exp(g * h))
    return h, h


def dsgu(cell, params, h, x):
    wg, wz = np.split(params["kernel"], 2, -1)
    ug, uz, uo = np.split(params["recurrent_kernel"], 3, -1)
    bg, bz = np.split(params["bias"], 2)
    g = np.tanh(((x @ wg + bg) * h) @ ug)
    z = np.minimum(np.maximum((x @ wz + h @ uz + bz) / 5 + 1 / 2, 0), 1)
    h = (1 - z) * h + z * s((g * h) @ uo)
    return h, h


def tau_gru(cell, params, state, x):
    (wu, wg, wa, wz), (uu, ug, ua, uz), (bu, bg, ba, bz) = gates(cell, params, ("u", "g", "a", "z"))
    h, past = state
    u = np.tanh(x @ wu + h @ uu + bu)
    g = s(x @ wg + h @ ug + bg)
    a = s(x @ wa + h @ ua + ba)
    z = np.tanh(x @ wz + past[:, 0] @ uz + bz)
    new = h + cell.dt * g * (cell.beta * u + cell.alpha * a * z - h)
    return (new, np.concatenate([past[:, 1:], h[:, None]], 1)), new


REFERENCES = {
    "MGU1": mgu1,
    "MGU2": mgu2,
    "MGU3": mgu3,
    "MUT1": mut1,
    "MUT2": mut2,
    "MUT3": mut3,
    "LiGRU": ligru,
    "IntersectionRNN": intersection_rnn,
    "STAR": star,
    "LightRU": light_ru,
    "MinimalRNN": minimal_rnn,
    "ATR": atr,
    "RAN": ran,
    "SGRN": sgrn,
    "CFN": cfn,
    "BRC": brc,
    "NBRC": nbrc,
    "SGU": sgu,
    "DSGU": dsgu,
    "TauGRU": tau_gru,
}

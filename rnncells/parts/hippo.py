"""Matrices that write a signal's history in Legendre polynomials, fixed and in float64.

They are stiff: in float32 the matrix exponential of 256 polynomials over 784 ticks has a spectral radius
of .988 in place of .976. So they are NumPy arrays, computed once, and rounded where they are used.

    legs    all of the past, scaled to [0, 1]: m' = (A m + B u) / t
    legt    a sliding window of the last theta ticks: m' = (A m + B u) / theta

Source: Gu, Dao, Ermon, Rudra & Re 2020, arXiv 2008.07669 (LegS, LegT); Voelker, Kajic & Eliasmith 2019,
NeurIPS 32 (legt in the normalisation of the Legendre memory unit).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import scipy.linalg

Matrix = npt.NDArray[np.floating]


def legs(size: int) -> tuple[Matrix, Matrix]:
    """A [N, N] and B [N] of HiPPO-LegS.

    A_nk = -sqrt(2n + 1) sqrt(2k + 1) for n > k, -(n + 1) for n = k, 0 above;    B_n = sqrt(2n + 1)
    """
    root = np.sqrt(2 * np.arange(size) + 1.0)
    lower = np.tril(root[:, None] * root[None], -1)
    return -(lower + np.diag(np.arange(size) + 1.0)), root


def legt(size: int) -> tuple[Matrix, Matrix]:
    """A [N, N] and B [N] of the Legendre memory unit, for a window of length 1.

    A_ij = (2i + 1) (-1 if i < j, else (-1)^(i - j + 1));    B_i = (2i + 1) (-1)^i
    """
    i, j = np.mgrid[:size, :size]
    scale = 2 * np.arange(size) + 1.0
    signs = np.where(i < j, -1.0, (-1.0) ** (i - j + 1))
    return scale[:, None] * signs, scale * (-1.0) ** np.arange(size)


def zero_order_hold(a: Matrix, b: Matrix, step: float) -> tuple[Matrix, Matrix]:
    """One tick of m' = A m + B u with u constant over it: m <- Ad m + Bd u, exactly.

    exp(step [[A, B], [0, 0]]) = [[Ad, Bd], [0, 1]]
    """
    size = len(b)
    block = np.zeros((size + 1, size + 1))
    block[:size, :size], block[:size, size] = step * a, step * b
    whole = scipy.linalg.expm(block)
    return whole[:size, :size], whole[:size, size]


def bilinear(a: Matrix, b: Matrix, step: float) -> tuple[Matrix, Matrix]:
    """The same by the trapezoidal rule.

    Ad = (I - step A / 2)^-1 (I + step A / 2),    Bd = (I - step A / 2)^-1 step B
    """
    eye = np.eye(len(b))
    left = eye - step / 2 * a
    return np.linalg.solve(left, eye + step / 2 * a), np.linalg.solve(left, step * b)

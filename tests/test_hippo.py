"""The Legendre matrices: what they remember, and in which precision."""

import numpy as np
import pytest
from numpy.polynomial import legendre

from rnncells.parts import hippo


def shifted_legendre(size, r):
    """P_i(2r - 1) for i < size."""
    return np.stack([legendre.Legendre.basis(i)(2 * r - 1) for i in range(size)])


@pytest.mark.parametrize("rule", [hippo.zero_order_hold, hippo.bilinear])
def test_legt_is_a_delay_line(rule):
    """The memory of a slow signal, read by shifted Legendre polynomials, gives its last theta ticks."""
    size, theta = 8, 200
    a, b = rule(*hippo.legt(size), 1 / theta)
    signal = np.sin(2 * np.pi * np.arange(3 * theta) / theta)
    memory = np.zeros(size)
    for u in signal:
        memory = a @ memory + b * u
    back = np.array([0.1, 0.3, 0.5, 0.9])
    read = shifted_legendre(size, back).T @ memory
    np.testing.assert_allclose(read, signal[-1 - (back * theta).astype(int)], atol=0.05)


def test_legs_holds_all_of_the_past():
    """The coefficients of the projection of u on [0, t] onto scaled Legendre polynomials: of a constant, the
    first alone; of a line, the first two."""
    size, ticks = 6, 4000
    a, b = hippo.legs(size)
    eye, line, constant = np.eye(size), np.zeros(size), np.zeros(size)
    for t in range(1, ticks):
        left, right = eye - a / (2 * t + 2), eye + a / (2 * t)
        line = np.linalg.solve(left, right @ line + b * t / ticks / t)
        constant = np.linalg.solve(left, right @ constant + b / t)
    np.testing.assert_allclose(constant, [1, 0, 0, 0, 0, 0], atol=2e-3)
    np.testing.assert_allclose(line, [1 / 2, 1 / (2 * np.sqrt(3)), 0, 0, 0, 0], atol=2e-3)


def test_the_exponential_is_that_of_doubles():
    """Of 256 polynomials over 784 ticks, where single precision gives .988."""
    a, _ = hippo.zero_order_hold(*hippo.legt(256), 1 / 784)
    assert np.abs(np.linalg.eigvals(a)).max() == pytest.approx(0.976, abs=5e-4)


def test_the_rules_agree_for_small_steps_and_keep_the_exact_solution():
    a, b = hippo.legt(4)
    exact, rough = hippo.zero_order_hold(a, b, 1e-4), hippo.bilinear(a, b, 1e-4)
    for one, other in zip(exact, rough, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-6)
    twice, _ = hippo.zero_order_hold(a, b, 2e-4)
    np.testing.assert_allclose(exact[0] @ exact[0], twice, rtol=1e-12)

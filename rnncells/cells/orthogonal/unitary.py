"""Unitary evolution networks, of restricted and of full capacity."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from rnncells import checks
from rnncells.cell import Like, Params, Shape, Weights
from rnncells.dtypes import accumulator, wider
from rnncells.fields import static
from rnncells.initializers import Glorot
from rnncells.parts.arithmetic import align
from rnncells.parts.orthogonal import UnitaryCell, numbers_of, skew_hermitian, unit_circle


class UnitaryRNN(UnitaryCell):
    """uRNN: a unitary map of the state, made of phases, reflections and Fourier transforms.

        U = D_3 R_2 F^-1 D_2 P R_1 F D_1,    D_k = diag(e^(i theta_k)),    R_k = I - 2 v_k v_k^* / |v_k|^2
        h' = modrelu_b(x W + U h),    y = (Re h', Im h')
        modrelu_b(z) = relu(|z| + b) z / |z|

    with F the unitary Fourier transform and P a permutation that `seed` fixes. A tick takes H log H
    operations, and U has 7H parameters; it reaches a part of all unitary maps.

    Shapes: x [..., I], h [..., H] complex64 or wider, y [..., 2H]; kernel W [I, 2H], real parts, then
    imaginary ones; theta [3, H]; reflection [2, 2H], v_1 and v_2, real parts, then imaginary ones; bias b
    [H]. `prepare` returns `phases` e^(i theta) and `mirrors` v / |v| in place of the two.

    Args:
        features: H.
        seed: of the permutation, 0 by default.
        kernel_init: Glorot uniform, as a matrix [I, 2H].

    theta starts U(-pi, pi), v Glorot uniform, b U(-0.01, 0.01).

    Source: Arjovsky, Shah & Bengio 2016, arXiv 1511.06464. Deviations: |z| is sqrt(|z|^2 + 1e-8) (see
    `ExpRNN`); the first state, which the authors train, is zero: `LearnedCarry` trains it.
    """

    paper = "Arjovsky, Shah & Bengio 2016, arXiv 1511.06464"

    seed: int = static(default=0, check=checks.count)

    def turning_params(self, key: chex.PRNGKey, dtype: DTypeLike) -> Params:
        theta_key, reflection_key = jax.random.split(key)
        return {
            "theta": jax.random.uniform(theta_key, (3, self.features), dtype, -np.pi, np.pi),
            "reflection": Glorot()(reflection_key, (2, 2 * self.features), dtype),
        }

    def prepare(
        self, params: Params, key: chex.PRNGKey | None = None, batch_shape: Shape = (), like: Like = None
    ) -> Weights:
        reflection = params["reflection"].astype(accumulator(params["reflection"].dtype))
        unit = reflection / jnp.linalg.norm(reflection, axis=-1, keepdims=True)
        return {
            "kernel": params["kernel"],
            "phases": unit_circle(params["theta"]),
            "mirrors": jax.lax.complex(*jnp.split(unit, 2, -1)),
            "bias": params["bias"],
        }

    def turn(self, weights: Weights, hidden: jax.Array) -> jax.Array:
        first, second, third = (align(row, hidden) for row in weights["phases"])
        mirrors = [align(row, hidden) for row in weights["mirrors"]]
        turned = _mirrored(jnp.fft.fft(first * hidden, norm="ortho"), mirrors[0])
        order = np.random.default_rng(self.seed).permutation(self.features)
        turned = _mirrored(jnp.fft.ifft(second * turned[..., order], norm="ortho"), mirrors[1])
        return third * turned


def _mirrored(hidden: jax.Array, mirror: jax.Array) -> jax.Array:
    """h - 2 v (v^* h) for a v of length 1."""
    return hidden - 2 * mirror * jnp.sum(mirror.conj() * hidden, -1, keepdims=True)


class FullUnitaryRNN(UnitaryCell):
    """Full-capacity uRNN: the state is turned by any unitary matrix.

        U = exp(K),    K = -K^*
        h' = modrelu_b(x W + U h),    y = (Re h', Im h')
        modrelu_b(z) = relu(|z| + b) z / |z|

    Every unitary U is the exponential of such a K, and U stays unitary whatever is trained.

    Shapes: x [..., I], h [..., H] complex64 or wider, y [..., 2H]; kernel W [I, 2H], real parts, then
    imaginary ones; generator [H, H], as many real numbers as K has: above the diagonal the real parts of K,
    below and on it the imaginary ones; bias b [H]. `prepare` returns `recurrent_kernel` U^T [H, H] in place
    of `generator`: the exponential is taken once per sequence, in complex64 or wider.

    Args:
        features: H.
        kernel_init: Glorot uniform, as a matrix [I, 2H].

    U starts as a random unitary matrix, Haar distributed, b U(-0.01, 0.01).

    Source: Wisdom, Powers, Hershey, Le Roux & Atlas 2016, arXiv 1611.00035. Deviations: they train U itself,
    by steps along the manifold that only an optimiser of their own takes; here any optimiser trains K.
    |z| is sqrt(|z|^2 + 1e-8) (see `ExpRNN`); the first state, which they train, is zero: `LearnedCarry`
    trains it.
    """

    paper = "Wisdom, Powers, Hershey, Le Roux & Atlas 2016, arXiv 1611.00035"

    def turning_params(self, key: chex.PRNGKey, dtype: DTypeLike) -> Params:
        wide = wider(accumulator(dtype), jnp.complex64)
        # One after the other under vmap too, as the QR of `Orthogonal`.
        draw = jax.custom_batching.sequential_vmap(
            lambda key: numbers_of(unitary_logarithm(haar_unitary(key, self.features, wide)))
        )
        return {"generator": draw(key).astype(dtype)}

    def prepare(
        self, params: Params, key: chex.PRNGKey | None = None, batch_shape: Shape = (), like: Like = None
    ) -> Weights:
        numbers = params["generator"]
        turning = jax.scipy.linalg.expm(skew_hermitian(numbers.astype(accumulator(numbers.dtype))))
        return {"kernel": params["kernel"], "recurrent_kernel": turning.T, "bias": params["bias"]}

    def turn(self, weights: Weights, hidden: jax.Array) -> jax.Array:
        return hidden @ weights["recurrent_kernel"]


def haar_unitary(key: chex.PRNGKey, size: int, dtype: DTypeLike) -> jax.Array:
    """A random unitary matrix [H, H]: the Q of a normal matrix, with the phases of R taken out."""
    q, r = jnp.linalg.qr(jax.random.normal(key, (size, size), dtype))
    diagonal = jnp.diag(r)
    return q * (diagonal / jnp.abs(diagonal).astype(dtype))[None]


def unitary_logarithm(unitary: jax.Array) -> jax.Array:
    """K = -K^* with exp(K) = U, its eigenvalues between -i pi and i pi.

    U = e^(i t) is turned into i (I - U) (I + U)^-1 = tan(t / 2), which is Hermitian, so that its
    eigenvectors, which are those of U, are found on every platform.
    """
    eye = jnp.eye(len(unitary), dtype=unitary.dtype)
    hermitian = 1j * jnp.linalg.solve(eye + unitary, eye - unitary)
    tangents, vectors = jnp.linalg.eigh((hermitian + hermitian.T.conj()) / 2)
    angles = 2 * jnp.arctan(tangents)
    return (vectors * jax.lax.complex(jnp.zeros_like(angles), angles)[None]) @ vectors.T.conj()

"""Piecewise linear recurrent networks: plain, shallow and dendritic."""

from __future__ import annotations

import abc

import chex
import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from rnncells import checks
from rnncells.cell import Like, Params, Shape, Weights
from rnncells.dtypes import accumulator
from rnncells.fields import static
from rnncells.initializers import Initializer, LeCun, scheme
from rnncells.parts.arithmetic import align, dense
from rnncells.parts.gated import ProjectedCell


class PiecewiseLinear(ProjectedCell):
    """h' = a h + f(h) + x W + b, with f piecewise linear and without bias.

    a starts as the diagonal of K = (R^T R / H + I) / lambda, R standard normal and lambda the largest
    eigenvalue of what it divides: K is positive definite, with a largest eigenvalue of 1 (Talathi & Vartak
    2015, arXiv 1511.03771).
    """

    gates = ("h",)

    def init(self, key: chex.PRNGKey, input_size: int, dtype: DTypeLike = jnp.float32) -> Params:
        key, start_key, own_key = jax.random.split(key, 3)
        start = normalised_positive_definite(start_key, self.features, dtype)
        params = super().init(key, input_size, dtype) | {"decay": jnp.diag(start)}
        return params | self.own_params(own_key, start)

    @abc.abstractmethod
    def own_params(self, key: chex.PRNGKey, start: jax.Array) -> Params:
        """The parameters of f; start is K [H, H]."""

    @abc.abstractmethod
    def bent(self, weights: Weights, hidden: jax.Array) -> jax.Array:
        """f(h) [..., H]."""

    def step(self, weights: Weights, carry: jax.Array, drive: jax.Array) -> tuple[jax.Array, jax.Array]:
        hidden = self.bent(weights, carry) + drive + align(weights["decay"], carry) * carry
        return hidden, hidden


def normalised_positive_definite(key: chex.PRNGKey, size: int, dtype: DTypeLike) -> jax.Array:
    """K [H, H], see `PiecewiseLinear`."""
    factor = jax.random.normal(key, (size, size), accumulator(dtype))
    start = factor.T @ factor / size + jnp.eye(size, dtype=factor.dtype)
    # One after the other under vmap too, as the QR of `Orthogonal`.
    largest = jax.custom_batching.sequential_vmap(lambda start: jnp.linalg.eigvalsh(start)[-1])
    return (start / largest(start)).astype(dtype)


class PLRNN(PiecewiseLinear):
    """Piecewise linear recurrent network.

        h' = a h + phi(h) U + x W + b,    y = h'
        phi(h) = relu(h)

    with a elementwise and U without diagonal. Inside each orthant of the state it is a linear map, so that
    fixed points and cycles can be computed.

    Shapes: x [..., I], h and y [..., H]; kernel W [I, H], decay a [H], recurrent_kernel U [H, H] (`prepare`
    leaves out its diagonal), bias b [H].

    Args:
        features: H.
        linear_units: how many of the first units pass through phi as they are; 0 by default. The others make
            the almost linear network of Brenner et al. 2024.
        centre: phi(h) = relu(h - mean(h)), the mean over all units.
        kernel_init: Glorot uniform.
        bias_init, use_bias: zeros by default; without, b is left out.

    a and U start as diagonal and rest of K = (R^T R / H + I) / lambda, R standard normal, lambda such that
    the largest eigenvalue of K is 1.

    Source: Durstewitz 2017, doi 10.1371/journal.pcbi.1005542; Koppe, Toutounji, Kirsch, Lis & Durstewitz
    2019, doi 10.1371/journal.pcbi.1007263; almost linear: Brenner et al. 2024, arXiv 2410.14240. Noise of the
    state and forcing by the teacher are left to what trains the cell.
    """

    paper = "Durstewitz 2017, doi 10.1371/journal.pcbi.1005542"

    linear_units: int = static(default=0, check=checks.count)
    centre: bool = static(default=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.linear_units > self.features:
            raise ValueError(
                f"PLRNN.linear_units: expected at most {self.features}, one for each unit, got"
                f" {self.linear_units}."
            )

    def own_params(self, key: chex.PRNGKey, start: jax.Array) -> Params:
        return {"recurrent_kernel": without_diagonal(start)}

    def prepare(
        self, params: Params, key: chex.PRNGKey | None = None, batch_shape: Shape = (), like: Like = None
    ) -> Weights:
        return params | {"recurrent_kernel": without_diagonal(params["recurrent_kernel"])}

    def bent(self, weights: Weights, hidden: jax.Array) -> jax.Array:
        shifted = hidden - hidden.mean(-1, keepdims=True) if self.centre else hidden
        phi = jax.nn.relu(shifted)
        if self.linear_units:
            phi = jnp.concatenate([hidden[..., : self.linear_units], phi[..., self.linear_units :]], -1)
        return dense(phi, weights["recurrent_kernel"])


def without_diagonal(matrix: jax.Array) -> jax.Array:
    return matrix * (1 - jnp.eye(len(matrix), dtype=matrix.dtype))


class ShallowPLRNN(PiecewiseLinear):
    """Shallow piecewise linear recurrent network: a layer of hidden units behind a linear state.

        h' = a h + relu(h U + c) V + x W + b,    y = h'

    Clipped, relu(h U + c) - relu(h U) takes the place of the hidden units: each is then between 0 and c, and
    the state stays bounded where |a| < 1.

    Shapes: x [..., I], h and y [..., H]; kernel W [I, H], decay a [H], inner_kernel U [H, L], inner_bias c
    [L], outer_kernel V [L, H], bias b [H].

    Args:
        features: H.
        hidden_units: L; 4 H by default. The paper takes many more, 400 for 20 units.
        clipped: False by default.
        kernel_init: of W, Glorot uniform.
        layer_init: of U and V; U(-a, a) with a = H^(-1/2) for U and L^(-1/2) for V.
        bias_init, use_bias: of b, zeros by default; without, b is left out.

    a starts as that of PLRNN. c starts at zero, clipped U(-a, a) with a = L^(-1/2).

    Source: Hess, Monfared, Brenner & Durstewitz 2023, arXiv 2306.04406; initialisation from the authors'
    code. Their generalised teacher forcing is left to what trains the cell.
    """

    paper = "Hess, Monfared, Brenner & Durstewitz 2023, arXiv 2306.04406"

    hidden_units: int | None = static(default=None)
    clipped: bool = static(default=False)
    layer_init: Initializer = scheme(LeCun(3**-0.5, "uniform"), kw_only=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.hidden_units is not None:
            checks.positive_int("ShallowPLRNN.hidden_units", self.hidden_units)

    def own_params(self, key: chex.PRNGKey, start: jax.Array) -> Params:
        inner_key, outer_key, bias_key = jax.random.split(key, 3)
        size, dtype = self.features, start.dtype
        width = 4 * size if self.hidden_units is None else self.hidden_units
        bias = jax.random.uniform(bias_key, (width,), dtype, -1.0, 1.0) * width**-0.5
        return {
            "inner_kernel": self.layer_init(inner_key, (size, width), dtype),
            "inner_bias": bias if self.clipped else jnp.zeros_like(bias),
            "outer_kernel": self.layer_init(outer_key, (width, size), dtype),
        }

    def bent(self, weights: Weights, hidden: jax.Array) -> jax.Array:
        inner = dense(hidden, weights["inner_kernel"])
        units = jax.nn.relu(inner + align(weights["inner_bias"], inner))
        if self.clipped:
            units = units - jax.nn.relu(inner)
        return dense(units, weights["outer_kernel"])


class DendriticPLRNN(PiecewiseLinear):
    """Dendritic piecewise linear recurrent network: units that add up several thresholds.

        h' = a h + phi(h) U + x W + b,    y = h'
        phi(h)_i = sum_k alpha_k relu(h_i - T_ik)

    with U without diagonal. Clipped, relu(h_i - T_ik) - relu(h_i) takes the place of relu(h_i - T_ik): phi
    is then bounded, and so is the state where |a| < 1.

    Shapes: x [..., I], h and y [..., H]; kernel W [I, H], decay a [H], recurrent_kernel U [H, H] (`prepare`
    leaves out its diagonal), slopes alpha [K], thresholds T [H, K], bias b [H].

    Args:
        features: H.
        bases: K; 50 by default, as the authors' code.
        clipped: False by default.
        kernel_init: Glorot uniform.
        bias_init, use_bias: zeros by default; without, b is left out.

    a and U start as those of PLRNN, alpha U(-K^(-1/2), K^(-1/2)), T standard normal.

    Source: Brenner, Hess, Mikhaeil, Bereska, Monfared, Kuo & Durstewitz 2022, PMLR 162:2292; initialisation
    from the authors' code, which, where it knows the data, draws T over their range instead.
    """

    paper = "Brenner et al. 2022, PMLR 162:2292"

    bases: int = static(default=50, check=checks.positive_int)
    clipped: bool = static(default=False)

    def own_params(self, key: chex.PRNGKey, start: jax.Array) -> Params:
        slope_key, threshold_key = jax.random.split(key)
        size, count, dtype = self.features, self.bases, start.dtype
        return {
            "recurrent_kernel": without_diagonal(start),
            "slopes": jax.random.uniform(slope_key, (count,), dtype, -1.0, 1.0) * count**-0.5,
            "thresholds": jax.random.normal(threshold_key, (size, count), dtype),
        }

    def prepare(
        self, params: Params, key: chex.PRNGKey | None = None, batch_shape: Shape = (), like: Like = None
    ) -> Weights:
        return params | {"recurrent_kernel": without_diagonal(params["recurrent_kernel"])}

    def bent(self, weights: Weights, hidden: jax.Array) -> jax.Array:
        above = hidden[..., None]
        units = jax.nn.relu(above - align(weights["thresholds"], above))
        if self.clipped:
            units = units - jax.nn.relu(above)
        # A sum and no product: what is multiplied would be kept for all ticks.
        phi = (units * align(weights["slopes"], units)).sum(-1)
        return dense(phi, weights["recurrent_kernel"])

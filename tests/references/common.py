"""What the transcriptions share: the logistic function, and gates cut out of fused parameters."""

import numpy as np


def s(v):
    return 1 / (1 + np.exp(-v))


def gates(cell, params, names):
    """x W + b and U of each gate by name, from the fused parameters."""
    assert cell.gates == names
    size = cell.features

    def block(array, i):
        return array[..., i * size : (i + 1) * size]

    kernel, recurrent, bias = params["kernel"], params.get("recurrent_kernel"), params["bias"]
    index = range(len(names))
    return (
        [block(kernel, i) for i in index],
        [None if recurrent is None else block(recurrent, i) for i in index],
        [block(bias, i) for i in index],
    )


def normalised(v, scale, epsilon):
    """Over the last axis, by loops over nothing: mean, variance, scale."""
    mean = v.mean(-1, keepdims=True)
    variance = ((v - mean) ** 2).mean(-1, keepdims=True)
    return scale * (v - mean) / np.sqrt(variance + epsilon)

"""What a query sees in a memory, in NumPy, from the equations."""

import numpy as np

from rnncells import AdditiveAttention
from tests.cases import B, S, to_numpy


def numpy_attend(attention, params, query, memory, length=S):
    """One query [Q] and one memory [S, M]."""
    params, query, memory = to_numpy((params, query, memory))
    scores = np.zeros(length)
    for s, m in enumerate(memory[:length]):
        if isinstance(attention, AdditiveAttention):
            z = query @ params["query_kernel"] + m @ params["memory_kernel"] + params["bias"]
            scores[s] = params["score_kernel"] @ np.tanh(z)
        elif attention.score == "dot":
            scores[s] = query @ m
        elif attention.score == "general":
            scores[s] = query @ params["kernel"] @ m
        else:
            kernel = np.concatenate([params["query_kernel"], params["memory_kernel"]])
            scores[s] = params["score_kernel"] @ np.tanh(np.concatenate([query, m]) @ kernel)
    weights = np.zeros(len(memory))
    weights[:length] = np.exp(scores) / np.exp(scores).sum()
    context = np.zeros(memory.shape[-1])
    for a, m in zip(weights[:length], memory[:length], strict=True):
        context += a * m
    return context, weights


def numpy_attend_all(attention, params, queries, memory, lengths=None):
    """queries [B, Q], memory [S, B, M]."""
    lengths = [S] * B if lengths is None else lengths
    rows = [numpy_attend(attention, params, queries[b], memory[:, b], lengths[b]) for b in range(B)]
    return np.stack([context for context, _ in rows]), np.stack([weights for _, weights in rows], 1)

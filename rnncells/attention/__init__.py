"""Attention over a sequence of states.

    scores.py    AdditiveAttention, MultiplicativeAttention
    pooling.py   AttentionPooling
    decoder.py   AttentionDecoder, a cell
    masking.py   what they share: positions that do not exist

Layout, as everywhere, is time-major: a memory is [S, *B, M], such as the outputs of `unroll` over an
encoder; queries are [*B, Q], weights [S, *B], contexts [*B, M]. Lengths are int [*B]: positions at or past
them have weight zero and are never read, so that NaN there reaches neither results nor gradients; a memory of
length 0 gives weights and a context of zero. The softmax runs in float32 or wider.
"""

from rnncells.attention.decoder import AttentionCarry, AttentionDecoder
from rnncells.attention.pooling import AttentionPooling
from rnncells.attention.scores import AdditiveAttention, Attention, MultiplicativeAttention

__all__ = [
    "AdditiveAttention",
    "Attention",
    "AttentionCarry",
    "AttentionDecoder",
    "AttentionPooling",
    "MultiplicativeAttention",
]

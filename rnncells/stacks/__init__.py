"""Cells over cells: layers of a stack, and both directions of time.

stack.py           Stack
bidirectional.py   Bidirectional
layers.py          what both share: the keys and ticks of a layer
"""

from rnncells.stacks.bidirectional import Bidirectional, BidirectionalCarry
from rnncells.stacks.stack import Stack

__all__ = ["Bidirectional", "BidirectionalCarry", "Stack"]

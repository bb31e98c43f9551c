"""The pages of the catalogue in docs/cells, written from the registry and the docstrings.

    tex.py         one side of an equation as TeX
    equations.py   the equations of a docstring
    cost.py        what a tick costs, counted in its jaxpr
    impulse.py     the pictures: what a cell does to an impulse
    pages.py       one page for each family
    __main__.py    writes them

`make catalogue` writes them again, with the pictures of cells that have none; `make catalogue ARGS=--redraw`
all pictures too. The equations of a new cell follow from its docstring: a line that is not understood stays
as it is written, and `tests/test_catalogue_pages.py` says which.
"""

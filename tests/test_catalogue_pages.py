"""The pages of docs/cells follow from the registry and the docstrings; what is counted on them is right."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import rnncells
from experiments.catalogue import equations, pages
from experiments.catalogue.cost import Work, cost, work
from experiments.catalogue.impulse import TICKS, courses
from experiments.catalogue.tex import UnclearError, expression

PICTURES = pages.FOLDER / pages.PICTURES
NAMES = {kind.__name__ for kinds in pages.families().values() for kind in kinds}


def test_every_cell_is_on_a_page():
    assert set(rnncells.CELLS) <= NAMES
    assert {"ConvLSTM", "ConvGRU"} <= NAMES


def test_pages_are_up_to_date():
    made = pages.pages()
    assert {path.name for path in pages.FOLDER.glob("*.md")} == set(made), "run `make catalogue`"
    old = [name for name, text in made.items() if (pages.FOLDER / name).read_text() != text]
    assert not old, "run `make catalogue`"


def test_every_cell_has_a_picture():
    assert {path.stem for path in PICTURES.iterdir()} == NAMES, "run `make catalogue`"
    assert sum(path.stat().st_size for path in PICTURES.iterdir()) < 1.5e6


def test_the_site_shows_every_page():
    shown = (pages.ROOT / "mkdocs.yml").read_text()
    assert not [path.name for path in pages.FOLDER.glob("*.md") if f"cells/{path.name}\n" not in shown]


def lines():
    """Every line of an indented block of every cell's docstring."""
    for kinds in pages.families().values():
        for kind in kinds:
            for paragraph in pages.paragraphs(kind):
                if paragraph[0].startswith("    "):
                    yield from (line[4:] for line in paragraph)


def test_almost_every_equation_is_understood():
    every = list(lines())
    unclear = [line for line in every if not equations.rows(line)]
    assert len(every) > 300
    assert len(unclear) <= 5, unclear


@pytest.mark.parametrize(
    ("text", "tex"),
    [
        ("(1 - z) n + z h", r"(1 - z)\,n + z\,h"),
        ("s(x W_r + h U_r + b_r)", r"s(x\,W_{r} + h\,U_{r} + b_{r})"),
        ("h'_g", "h'_{g}"),
        ("x_(t-K+1) ... x_t", r"x_{t-K+1}\,\dots \,x_{t}"),
        ("beta1_k W_theta", r"\beta_{1,k}\,W_{\theta}"),
        ("W_re v_rest W_qkv", r"W_{\mathrm{re}}\,v_{\mathrm{rest}}\,W_{qkv}"),
        ("exp(-|a_j| + i w_k)", r"\exp(-\lvert a_{j}\rvert  + i\,w_{k})"),
        ("e^(u + k) v + e^-exp(w)", r"e^{u + k}\,v + e^{-\exp(w)}"),
        ("v_k v_k^T / |v_k|^2", r"v_{k}\,v_{k}^{T} / \lvert v_{k}\rvert ^{2}"),
        ("sqrt(mean square of o + 1e-6)", r"\sqrt{\text{mean square of}\ o + 10^{-6}}"),
        ("2 Re(sum over n of C_n s_n)", r"2\,\operatorname{Re}(\sum_{n}\,C_{n}\,s_{n})"),
        ("tau dh/dt", r"\tau\,\frac{dh}{dt}"),
        ("ln s(x)", r"\ln s(x)"),
        ("diag(1 ... -1)", r"\operatorname{diag}(1\,\dots  \;{-}1)"),
        ("exp(log_rate)", r"\exp(\text{log}\_\text{rate})"),
        ("for k = 0 ... 7", r"\text{for}\ k = 0\,\dots \,7"),
        (
            'pooling="fo"',
            r"\texttt{pooling="  # the rest is the next line
            r'"fo"}',
        ),
        ("a for each row", r"a\ \text{for each row}"),
        ("y = z,    a further layer", r"y = z,\quad \text{a further layer}"),
    ],
)
def test_expressions(text, tex):
    assert expression(text) == tex


@pytest.mark.parametrize("text", ["(x", "x)", "[x)", "|x", "x # y", "a ^2", "It ends. Here", "x^+"])
def test_what_is_not_understood_is_said(text):
    with pytest.raises(UnclearError):
        expression(text)


def test_a_block_has_one_equation_in_a_row():
    made = equations.block(
        [
            "i = s(x W_i)      f = s(x W_f)",
            "c' = f c + i,    y = c'",
            "k = 2 r           for r < 1",
            "    0             otherwise",
        ]
    )
    assert made.splitlines() == [
        "$$",
        r"\begin{aligned}",
        r"i & = s(x\,W_{i}) \\",
        r"f & = s(x\,W_{f}) \\",
        r"c' & = f\,c + i,\quad y = c' \\",
        r"k & = 2\,r && \text{for}\ r < 1 \\",
        r"& \phantom{=}\; 0 && \text{otherwise}",
        r"\end{aligned}",
        "$$",
    ]


def test_other_lines_stay_as_they_are():
    made = equations.block(["y = x", "what comes next is said in words", "z = y"])
    assert made.split("\n\n")[1] == "```text\nwhat comes next is said in words\n```"
    assert made.count("aligned") == 4


@pytest.mark.parametrize(
    ("function", "shapes", "expected"),
    [
        (lambda a, b: a @ b, [(3, 4), (4, 5)], Work(60, 0)),
        (lambda a, b: jnp.tanh(a * b) / b - a, [(3, 4), (3, 4)], Work(24, 12)),
        (lambda a: (a + 1j * a) @ (a + 1j * a), [(3, 3)], Work(4 * 27 + 2 * 4 * 9, 0)),
        (lambda a: jax.lax.scan(lambda c, _: (c * c, None), a, None, 7)[0], [(3,)], Work(21, 0)),
        (lambda a: jax.lax.cond(a[0] > 0, jnp.exp, lambda a: a * a, a), [(3,)], Work(3, 0)),
        (lambda a: jnp.fft.fft(a), [(8,)], Work(2 * 8 * 3, 0)),
        (lambda a, k: jnp.convolve(a, k, "same"), [(8,), (3,)], Work(8 * 3, 0)),
        (lambda a: jnp.arange(3) * 2 + a.astype(int), [(3,)], Work(0, 0)),
    ],
)
@pytest.mark.usefixtures("standard_promotion")
def test_work(function, shapes, expected):
    arrays = [jax.ShapeDtypeStruct(shape, "float32") for shape in shapes]
    assert work(jax.make_jaxpr(function)(*arrays).jaxpr) == expected


def test_a_loop_of_unknown_length_has_no_cost():
    jaxpr = jax.make_jaxpr(lambda a: jax.lax.while_loop(lambda a: a < 9, lambda a: a * 2, a))(1.0)
    with pytest.raises(ValueError, match="expected loops of a known length"):
        work(jaxpr.jaxpr)


def test_cost_of_an_lstm():
    cell = rnncells.LSTM(8)
    params = cell.init(jax.random.key(0), 3)
    found = cost(cell, params, jax.ShapeDtypeStruct((3,), "float32"))
    assert found.step == Work(4 * 8 * 8 + 3 * 8, 5 * 8)
    assert found.rest == Work(3 * 4 * 8, 0)


def test_a_course_is_what_the_cell_does():
    cell = rnncells.LSTM(16)
    output, memory = courses(cell)
    assert (output.name, memory.name) == ("output", "state cell")
    params = cell.init(jax.random.key(0), 1)
    carry, y = cell(params, cell.initial_carry(params), jnp.ones(1))
    np.testing.assert_allclose(output.values[0, 0], y, rtol=1e-5)
    np.testing.assert_allclose(memory.values[0, 0], carry.cell, rtol=1e-5)
    assert not output.values[:, 1].any()
    assert output.values.shape == (TICKS, 2, 16)


def test_plain_text_stays_what_it_is():
    assert pages.marked("x [..., H], a_b * c < |d|") == r"x \[..., H\], a\_b \* c &lt; \|d\|"
    assert pages.marked("as LSTM, `GRU` and `tanh`") == (
        "as [LSTM](gated.md#lstm), [`GRU`](gated.md#gru) and `tanh`"
    )


def test_sources_are_links():
    assert pages.marked("Cho 2014, arXiv 1406.1078.") == (
        "Cho 2014, [arXiv 1406.1078](https://arxiv.org/abs/1406.1078)."
    )
    assert pages.marked("doi 10.1016/S0893-6080(05)80125-X; x") == (
        "[doi 10.1016/S0893-6080(05)80125-X](https://doi.org/10.1016/S0893-6080%2805%2980125-X); x"
    )


@pytest.mark.parametrize("kind", rnncells.CELLS.values(), ids=rnncells.CELLS)
def test_every_docstring_has_what_a_page_needs(kind):
    firsts = [paragraph[0].partition(" ")[0] for paragraph in pages.paragraphs(kind)]
    assert {"Shapes:", "Args:", "Source:"} <= set(firsts)
    assert any(paragraph[0].startswith("    ") for paragraph in pages.paragraphs(kind))

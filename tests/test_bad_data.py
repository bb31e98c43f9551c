"""Data of users that are not as they should be: each gets one sentence that names the place, what was
expected and what came; and what is left out of them is counted."""

import numpy as np
import pytest

from experiments import classify, fit, forecast
from experiments.harness import answers, csv_file
from experiments.harness.supervised import Regression

HEAD = "date,price\n"
ROWS = "".join(f"2024-01-{day:02},{day}\n" for day in range(1, 21))
TEXTS = "text,label\n" + "".join(f"{word}{i},{word}\n" for word in ("x", "y") for i in range(9))


PRICE = "column 'price': expected a number such as 1234.5, got"
FEW = "column 'label': expected 3 different values of 'text' with 'z', one for each part, or more; found 1"


def at(line, *words):
    return f"{{file}}, line {line}, {' '.join(words)}."


def prices(file, **options):
    forecast.Config(csv=file, **{"column": ("price",), "window": 3, **options}).task()


def texts(file, **options):
    classify.Config(csv=file, **options).task()


def numbers(file):
    """As `python -m experiments.predict` reads them."""
    task = Regression(input_size=2, output_size=1, length=3)
    return answers.read(file, task)


FILES = {
    "no file": (prices, None, "{file}: expected a file, found none."),
    "nothing": (prices, "", "{file}: expected a line with the names of columns, found none."),
    "no rows": (prices, HEAD, "{file}: expected rows below the names of columns, found none."),
    "no such column": (
        prices,
        "date,close,volume\n2024-01-01,1,2\n",
        "{file}, line 1: expected a column named 'price', found date, close, volume.",
    ),
    "no such column below a comment": (
        prices,
        "# from somewhere\n\ndate;close\n2024-01-01;1\n",
        "{file}, line 3: expected a column named 'price', found date, close.",
    ),
    "a column twice": (
        prices,
        "price,date,price\n1,2024-01-01,2\n",
        "{file}, line 1: expected a column named 'price', found 2 of them.",
    ),
    "no column asked for": (
        lambda file: prices(file, column=()),
        HEAD + ROWS,
        "column: expected names of columns of {file}, which are date, price; got none.",
    ),
    "a row too short": (
        prices,
        HEAD + "2024-01-01,1\n2024-01-02\n",
        "{file}, line 3: expected 2 fields, got 1.",
    ),
    "a row too long": (prices, HEAD + "2024-01-01,1,234\n", "{file}, line 2: expected 2 fields, got 3."),
    "no number": (prices, HEAD + "2024-01-01,1\n2024-01-02,one\n", at(3, PRICE, "'one'")),
    "thousands in quotes": (prices, HEAD + '2024-01-01,"1,234.5"\n', at(2, PRICE, "'1,234.5'")),
    "a decimal comma": (prices, "date;price\n2024-01-01;1,5\n", at(2, PRICE, "'1,5'")),
    "a currency, below a field of two lines": (
        prices,
        'note,price,date\n"two\nlines",1,2024-01-01\nb,$2,2024-01-02\n',
        at(4, PRICE, "'$2'"),
    ),
    "not finite": (prices, HEAD + "2024-01-01,inf\n", at(2, PRICE, "'inf'")),
    "only missing values": (
        prices,
        HEAD + "2024-01-01,\n2024-01-02,NA\n",
        "{file}: expected rows with price, found none among 2.",
    ),
    "no date": (
        prices,
        HEAD + "2024-01-01,1\nyesterday,2\n",
        "{file}, line 3, column 'date': expected a date such as 2024-12-31 (date_format says others), got"
        " 'yesterday'.",
    ),
    "a missing date": (
        prices,
        HEAD + ",1\n",
        "{file}, line 2, column 'date': expected a date such as 2024-12-31 (date_format"
        " says others), got ''.",
    ),
    "a day that is none": (
        lambda file: prices(file, date_format="%d.%m.%Y"),
        HEAD + "29.02.2023,1\n",
        "{file}, line 2, column 'date': expected a date as %d.%m.%Y, got '29.02.2023'.",
    ),
    "a date twice": (
        prices,
        HEAD + "2024-01-01,1\n2024-01-02,2\n2024-01-01,3\n",
        "{file}, line 4, column 'date': expected each date once, got '2024-01-01' again,"
        " with other values than"
        " on line 2.",
    ),
    "fewer rows than a window": (
        lambda file: prices(file, window=14, horizon=2),
        HEAD + ROWS,
        "window, horizon: expected windows of 14 rows and 2 after them in every part, got 0 for training,"
        " 2 for validation, 2 for test: there are 20 rows.",
    ),
    "not UTF-8": (
        prices,
        "note,price\né,1\n".encode("latin-1"),
        "{file}, line 2: expected text in UTF-8, got the byte 0xe9.",
    ),
    "UTF-16": (
        prices,
        (HEAD + ROWS).encode("utf-16"),
        "{file}, line 1: expected text in UTF-8, got the byte 0xff.",
    ),
    "a quote that does not end": (
        prices,
        'note,price\na,1\n"b,2\nc,3\n',
        "{file}, line 3: expected fields in whole quotes or without (unexpected end of data).",
    ),
    "a quote within": (
        prices,
        'note,price\n"a"b,1\n',
        "{file}, line 2: expected fields in whole quotes or without (',' expected after '\"').",
    ),
    "one class only": (
        texts,
        "text,label\na,x\nb,x\n",
        "{file}, column 'label': expected two classes or more, found 'x' only.",
    ),
    "a class with one row": (texts, TEXTS + "once,z\n", at(20, FEW)),
    "a class with one text": (texts, TEXTS + "again,z\n" * 5, at(20, FEW)),
    "no texts": (
        texts,
        "text,label\n,x\n ,y\n",
        "{file}: expected rows with text and label, found none among 2.",
    ),
    "no column of texts": (
        texts,
        "words,label\na,x\n",
        "{file}, line 1: expected a column named 'text', found words, label.",
    ),
    "two labels of one text": (
        lambda file: texts(file, group="label"),
        TEXTS,
        "{file}, line 2, column 'label': expected 3 different values of 'label' with"
        " 'x', one for each part, or"
        " more; found 1.",
    ),
    "a word among ticks": (
        numbers,
        "a,b\n1,2\n3,x\n",
        "{file}, line 3, column 2: expected a number, got 'x'.",
    ),
    "a tick that is not finite": (
        numbers,
        "1,2\n3,nan\n",
        "{file}, line 2, column 2: expected a number, got 'nan'.",
    ),
    "ticks of two widths": (numbers, "1,2\n3\n", "{file}, line 2: expected 2 columns, got 1."),
    "names alone": (numbers, "a,b\n", "{file}: expected numbers, found none."),
}
"""What is read, what stands in the file, and what is said."""


@pytest.mark.parametrize("case", FILES)
def test_what_is_wrong_with_a_file_is_said(case, tmp_path):
    read, content, words = FILES[case]
    file = tmp_path / "mine.csv"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=r".") as error:
        read(file)
    assert str(error.value) == words.format(file=file)


ARRAYS = {
    "no.npy": (None, "{file}: expected a file, found none."),
    "text.txt": (b"1", "{file}: expected a name that ends with .npy, .npz or .csv."),
    "empty.npy": (b"", "{file}: expected arrays of numbers that NumPy has saved (No data left in file)."),
    "other.npy": (b"1,2", "{file}: expected arrays of numbers that NumPy has saved (*)."),
    "half.npz": (b"PK\x03\x04half", "{file}: expected arrays of numbers that NumPy has saved (*)."),
    "objects.npy": (np.array([None, "a"]), "{file}: expected arrays of numbers that NumPy has saved (*)."),
    "names.npz": (
        {"xs": np.ones((1, 3, 2)), "ys": np.ones(1)},
        "{file}: expected an array named inputs, found xs, ys.",
    ),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_what_is_wrong_with_arrays_of_a_file_is_said(name, tmp_path):
    content, words = ARRAYS[name]
    file = tmp_path / name
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif isinstance(content, dict):
        np.savez(file, **content)
    elif content is not None:
        np.save(file, content)
    with pytest.raises(ValueError, match=r".") as error:
        numbers(file)
    before, _, after = words.format(file=file).partition("*")
    assert str(error.value).startswith(before)
    assert str(error.value).endswith(after)


INPUTS, CLASSES = np.ones((4, 3, 2)), [0, 1, 0, 1]
HOLE = np.where(np.arange(3)[:, None] == 1, np.nan, INPUTS)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((HOLE, CLASSES), "inputs: expected finite numbers, got nan in sequence 0 and tick 1."),
        (
            (INPUTS[..., 0], CLASSES),
            "inputs: expected floats [N, T, I] or tokens, ints [N, T], got float32[4, 3].",
        ),
        ((INPUTS[:0], []), "inputs: expected floats [N, T, I] or tokens, ints [N, T], got float32[0, 3, 2]."),
        (
            (np.array([["a", "b"]]), [0]),
            "inputs: expected floats, or ints for tokens and classes, got <U1[1, 2].",
        ),
        ((-np.ones((4, 3), int), CLASSES), "inputs: expected ints from 0, got -1 in sequence 0 and tick 0."),
        (
            ([INPUTS[0], np.ones((2, 5))], [0, 1]),
            "inputs: expected arrays that differ in length only, got [2, 5], [3, 2].",
        ),
        (
            (INPUTS, CLASSES[:3]),
            "targets: expected ints [N] or [N, T], or floats [N, O] or [N, T, O], for 4"
            " sequences of 3 ticks, got"
            " int32[3].",
        ),
        ((INPUTS, [0, 1, 0, -1]), "targets: expected ints from 0, got -1 in sequence 3."),
        ((INPUTS, [0.0, 1.0, np.inf, 0.0]), "targets: expected finite numbers, got inf in sequence 2."),
        (
            (INPUTS, CLASSES, [3, 3, 3, 4]),
            "lengths: expected 4 ints within 0 and 3, got int64[4] from 3 to 4.",
        ),
    ],
)
def test_what_is_wrong_with_arrays_is_said(given, words):
    with pytest.raises(ValueError, match=r".") as error:
        fit(*given)
    assert str(error.value) == words


def test_what_is_left_out_is_counted(tmp_path, capsys):
    """Newest first, after a byte order mark, with semicolons, quotes, an empty line, holes, one twice."""
    rows = ["2024-02-03;3", "2024-02-02;", "", '"2024-02-01";"1"', "2024-02-01; 1", "2024-01-31;null"]
    file = tmp_path / "mine.csv"
    file.write_bytes("\r\n".join(["\ufeffDate; price ", *rows, ""]).encode())
    table = csv_file.read(file).measured("price").by_date("Date")
    assert table.numbers("price").tolist() == [1, 3]
    assert table.dates("Date").astype("datetime64[D]").astype(str).tolist() == ["2024-02-01", "2024-02-03"]
    assert table.lines == [5, 2]
    assert table.report() == (
        "mine.csv: 6 rows read, 2 used; 1 left out: an empty line (line 4); 2 left out: no number in 'price'"
        " (lines 3, 7); 1 left out: the same again (line 6); the rows were not in the"
        " order of 'Date' and were"
        " sorted."
    )
    forecast.Config(csv=file, column=("price",)).series()
    assert capsys.readouterr().err == table.report() + "\n"


def test_a_label_may_be_called_none(tmp_path, capsys):
    """Only what is empty is missing among texts; what cannot be told apart is said."""
    file = tmp_path / "mine.csv"
    words = ["abcd"[i % 4] * (i // 4 + 1) for i in range(40)]
    rows = [f"{word},{'None' if i % 2 else 'NA'}" for i, word in enumerate(words)]
    file.write_text("\n".join(["text,label", *rows, "aé,NA", *(f"{word},None" for word in words), ",NA"]))
    task = classify.Config(csv=file, length=9).task()
    assert task.extras["classes"] == ["NA", "None"]
    first, second, *_ = capsys.readouterr().err.splitlines()
    assert first == "mine.csv: 82 rows read, 81 used; 1 left out: nothing in 'text' (line 83)."
    assert second.startswith("mine.csv: 8 texts have more than 9 characters, of which the first are read; ")
    assert second.endswith(" of the test part can be right.")


def test_a_command_ends_with_the_sentence(tmp_path, capsys):
    file = tmp_path / "mine.csv"
    file.write_text(HEAD + "2024-01-01,x\n")
    with pytest.raises(SystemExit) as end:
        forecast.main(forecast.Config(csv=file, column=("price",), out=tmp_path / "run"))
    assert end.value.code == 1
    said = " ".join(capsys.readouterr().out.split())
    assert "line 2, column 'price': expected a number such as 1234.5, got 'x'." in said
    assert not (tmp_path / "run").exists()

"""CSV files of users: columns by name, every mistake with its line and column, and what was left out and why.

table = csv_file.read(file, ["text", "label"]).filled("text", "label")
print(table.report())
for text, label in zip(table["text"], table["label"], strict=True): ...
"""

from __future__ import annotations

import csv
import dataclasses
import datetime
import io
import math
import pathlib
from collections import Counter
from collections.abc import Iterator, Sequence

import numpy as np

SEPARATORS = ",;\t|"
MISSING = {"", "na", "n/a", "nan", "null", "none"}
"""What stands, in any case of letters, where a number is missing."""


@dataclasses.dataclass(frozen=True)
class Table:
    """Rows of a file as text without blanks around it, column by column."""

    file: pathlib.Path
    columns: dict[str, list[str]]
    lines: list[int]
    """On which line each row begins, from 1."""
    read: int
    """How many rows there were."""
    left_out: dict[str, list[int]]
    """Why rows are not among these, and their lines."""
    notes: tuple[str, ...] = ()
    """What else was done."""

    def __getitem__(self, name: str) -> list[str]:
        return self.columns[name]

    def __len__(self) -> int:
        return len(self.lines)

    def place(self, row: int, name: str) -> str:
        """Where a text stands, as mistakes name it."""
        return f"{self.file}, line {self.lines[row]}, column {name!r}"

    def numbers(self, name: str) -> np.ndarray:
        """float64 [N]; NaN where one is missing (nothing, NA, NaN, null or None).

        Raises:
            ValueError: for another text, and for what is not finite.
        """
        found = np.full(len(self), math.nan)
        for row, text in enumerate(self[name]):
            if text.lower() not in MISSING:
                found[row] = value = number(text)
                if not math.isfinite(value):
                    place = self.place(row, name)
                    raise ValueError(f"{place}: expected a number such as 1234.5, got {text!r}.")
        return found

    def dates(self, name: str, form: str | None = None) -> np.ndarray:
        """datetime64[us] [N], of UTC where they name a zone.

        Args:
            name: of the column.
            form: as `datetime.strptime` has it, such as %d.%m.%Y; by default as ISO 8601.

        Raises:
            ValueError: for another text, an empty one included.
        """
        found = []
        for row, text in enumerate(self[name]):
            try:
                parse = datetime.datetime.strptime
                date = datetime.datetime.fromisoformat(text) if form is None else parse(text, form)
            except ValueError:
                like = (
                    "a date such as 2024-12-31 (date_format says others)"
                    if form is None
                    else f"a date as {form}"
                )
                raise ValueError(f"{self.place(row, name)}: expected {like}, got {text!r}.") from None
            found.append(date if date.tzinfo is None else date.astimezone(datetime.UTC).replace(tzinfo=None))
        return np.array(found, "datetime64[us]")

    def without(self, gone: Sequence[bool] | np.ndarray, why: str) -> Table:
        """The other rows; `why` is said in the report, with the lines of those that are gone."""
        if not any(gone):
            return self
        left_out = {**self.left_out}
        lines = [line for line, out in zip(self.lines, gone, strict=True) if out]
        left_out[why] = [*left_out.get(why, []), *lines]
        kept = self._taken([row for row, out in enumerate(gone) if not out])
        return dataclasses.replace(kept, left_out=left_out)

    def filled(self, *names: str) -> Table:
        """The rows that have a text in each of these columns.

        Raises:
            ValueError: where there is none.
        """
        table = self
        for name in names:
            table = table.without([not text for text in table[name]], f"nothing in {name!r}")
        return table._some(*names)

    def measured(self, *names: str) -> Table:
        """The rows that have a number in each of these columns.

        Raises:
            ValueError: where there is none, and for what is no number.
        """
        table = self
        for name in names:
            table = table.without(np.isnan(table.numbers(name)), f"no number in {name!r}")
        return table._some(*names)

    def _some(self, *names: str) -> Table:
        if not len(self):
            words = f"expected rows with {' and '.join(names)}, found none among {self.read}"
            raise ValueError(f"{self.file}: {words}.")
        return self

    def by_date(self, name: str, form: str | None = None) -> Table:
        """The rows in the order of their dates. One that says the same as another of its date is left out.

        Raises:
            ValueError: for two rows of one date that say different things, and for what is no date.
        """
        dates = self.dates(name, form)
        order = np.argsort(dates, kind="stable")
        table, dates = self._taken(order.tolist()), dates[order]
        if (order[1:] < order[:-1]).any():
            note = f"the rows were not in the order of {name!r} and were sorted"
            table = dataclasses.replace(table, notes=(*self.notes, note))
        again = np.concatenate([[False], dates[1:] == dates[:-1]])
        for row in np.flatnonzero(again).tolist():
            if any(texts[row] != texts[row - 1] for each, texts in table.columns.items() if each != name):
                raise ValueError(
                    f"{table.place(row, name)}: expected each date once, got {table[name][row]!r} again, with"
                    f" other values than on line {table.lines[row - 1]}."
                )
        return table.without(again, "the same again")

    def report(self) -> str:
        """How many rows were read, how many were left out, and why."""
        words = [f"{self.file.name}: {self.read} rows read, {len(self)} used"]
        for why, lines in self.left_out.items():
            shown = ", ".join(map(str, lines[:3])) + (", ..." if len(lines) > 3 else "")
            words.append(f"{len(lines)} left out: {why} (line{'s' * (len(lines) > 1)} {shown})")
        return "; ".join([*words, *self.notes]) + "."

    def _taken(self, rows: list[int]) -> Table:
        columns = {name: [texts[row] for row in rows] for name, texts in self.columns.items()}
        return dataclasses.replace(self, columns=columns, lines=[self.lines[row] for row in rows])


def read(file: pathlib.Path, columns: Sequence[str] | None = None) -> Table:
    """A file whose first line names its columns, below lines that begin with # where there are some.

    UTF-8 with or without a byte order mark; separated by commas, semicolons, tabs or bars; fields may stand
    in double quotes. Empty lines are left out, and counted.

    Args:
        file: to read.
        columns: names of those that are wanted; by default all.

    Raises:
        ValueError: where there is no such file or column, or a row has more or fewer fields than names.
    """
    rows = fields(file)
    header, names = next(rows, (0, []))
    if not header:
        raise ValueError(f"{file}: expected a line with the names of columns, found none.")
    counts = Counter(names)
    wanted = [name for name in names if name] if columns is None else list(dict.fromkeys(columns))
    for name in wanted:
        if counts[name] != 1:
            found = f"{counts[name]} of them" if counts[name] else ", ".join(names)
            raise ValueError(f"{file}, line {header}: expected a column named {name!r}, found {found}.")
    kept: list[tuple[int, list[str]]] = []
    empty: list[int] = []
    for line, row in rows:
        if not any(row) and len(row) <= 1:
            empty.append(line)
        elif len(row) != len(names):
            raise ValueError(f"{file}, line {line}: expected {len(names)} fields, got {len(row)}.")
        else:
            kept.append((line, row))
    if not kept:
        raise ValueError(f"{file}: expected rows below the names of columns, found none.")
    table = {name: [row[names.index(name)] for _, row in kept] for name in wanted}
    lines = [line for line, _ in kept]
    return Table(file, table, lines, len(kept) + len(empty), {"an empty line": empty} if empty else {})


def names(file: pathlib.Path) -> list[str]:
    """The names of its columns."""
    return next(fields(file), (0, []))[1]


def fields(file: pathlib.Path) -> Iterator[tuple[int, list[str]]]:
    """Rows as they stand in a file, and the line that each begins on; comments above the first are left out.

    Raises:
        ValueError: for what is no file, no text in UTF-8, or has a quote that does not end.
    """
    lines = io.StringIO(text(file), newline="").readlines()
    comments = 0
    while comments < len(lines) and (not lines[comments].strip() or lines[comments].startswith("#")):
        comments += 1
    lines = lines[comments:]
    outside = "".join(lines[:1]).split('"')[::2]  # of the first line, what does not stand in quotes
    separator = max(SEPARATORS, key="".join(outside).count)
    reader = csv.reader(lines, delimiter=separator, skipinitialspace=True, strict=True)
    line = comments + 1
    try:
        for row in reader:
            yield line, [cell.strip() for cell in row]
            line = comments + reader.line_num + 1
    except csv.Error as error:
        raise ValueError(
            f"{file}, line {line}: expected fields in whole quotes or without ({error})."
        ) from None


def text(file: pathlib.Path) -> str:
    """What a text file holds.

    Raises:
        ValueError: where it cannot be read, or is not in UTF-8.
    """
    try:
        content = file.read_bytes()
        return content.decode("utf-8-sig")
    except FileNotFoundError:
        raise ValueError(f"{file}: expected a file, found none.") from None
    except OSError as error:
        raise ValueError(f"{file}: expected a file that can be read ({error.strerror}).") from None
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        byte = content[error.start]
        raise ValueError(f"{file}, line {line}: expected text in UTF-8, got the byte 0x{byte:02x}.") from None


def number(text: str) -> float:
    """What a text says; NaN for what is no number."""
    try:
        return math.nan if "_" in text else float(text)
    except ValueError:
        return math.nan

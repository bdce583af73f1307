"""Example: statistics of a CSV text, with dataclasses as arguments and results.

    fastworker build examples/tasks/python-csv
    fastworker dev examples/tasks/python-csv csv_statistics "$(printf 'city,rain\\nOslo,3\\nRome,1.5\\n')"

The annotations are the task's schema: calls with other arguments are refused before they are queued, and a dict becomes
`Options` before the function runs.
"""

import csv
import io
import statistics
from dataclasses import dataclass, field

from fastworker import BadArguments, progress, task


@dataclass
class Options:
    """How the text is read."""

    delimiter: str = ","
    columns: list[str] | None = None
    """The columns to look at; all if it is not given."""


@dataclass
class Column:
    """What a column contains."""

    name: str
    filled: int = 0
    distinct: int = 0
    numbers: "Numbers | None" = None


@dataclass
class Numbers:
    """Statistics of a column in which all values are numbers."""

    least: float
    most: float
    mean: float
    deviation: float


@dataclass
class Report:
    """The statistics of a text."""

    rows: int
    columns: list[Column] = field(default_factory=list)


@task
def csv_statistics(text: str, options: Options = Options()) -> Report:  # noqa: B008 (it is not changed)
    """Describe the columns of a CSV text, whose first line has their names."""
    if len(options.delimiter) != 1:
        raise BadArguments("argument 'options': the delimiter must be one character")
    rows = list(csv.DictReader(io.StringIO(text), delimiter=options.delimiter))
    names = list(rows[0]) if rows else []
    unknown = set(options.columns or []) - set(names)
    if unknown:
        raise BadArguments(f"argument 'options': no column {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    report = Report(len(rows))
    chosen = options.columns or names
    for done, name in enumerate(chosen, start=1):
        report.columns.append(describe(name, [row[name] for row in rows if row[name]]))
        progress(done, len(chosen), name)
    print(f"{len(rows)} rows, {len(chosen)} columns")
    return report


def describe(name: str, values: list[str]) -> Column:
    """Describes one column."""
    column = Column(name, filled=len(values), distinct=len(set(values)))
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        return column
    if numbers:
        column.numbers = Numbers(min(numbers), max(numbers), statistics.fmean(numbers), statistics.pstdev(numbers))
    return column

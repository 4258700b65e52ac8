"""Many rows for a statement of PostgreSQL: one parameter for each column, an array as text.

A parameter for each value has the driver write every one of them, and the server take a text of
thousands of them apart and plan it; an array is one word to both. Pure. Columns are whole numbers
or texts, and may have None; anything else is a TypeError, as PostgreSQL would compare nothing else
with our columns.
"""

from collections.abc import Sequence

Values = Sequence[object]


def as_array(values: Values) -> tuple[str, str]:
    """The mark that stands for these values in a statement, and the parameter for it."""
    kinds = set(map(type, values)) - {type(None)}
    if kinds <= {int}:
        if None in values:
            values = ["NULL" if one is None else one for one in values]
        return "?::bigint[]", f"{{{','.join(map(str, values))}}}"
    if kinds == {str}:
        return "?::text[]", f"{{{','.join(map(_quoted, values))}}}"
    raise TypeError(f"no array of {sorted(kind.__name__ for kind in kinds)}")


def as_table(name: str, rows: Sequence[Values]) -> tuple[str, list[str]]:
    """These rows as a table for FROM: `name` with column1, column2, …; and its parameters."""
    columns = [as_array(column) for column in zip(*rows, strict=True)]
    marks = ", ".join(mark for mark, _ in columns)
    names = ", ".join(f"column{number}" for number in range(1, len(columns) + 1))
    return f"unnest({marks}) {name} ({names})", [array for _, array in columns]


def _quoted(text: object) -> str:
    if text is None:
        return "NULL"
    escaped = str(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'

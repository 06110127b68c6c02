"""What the engines share: the questions, and their answers as text, a JSON object a line.

{"version"}, then for each question {"check": its name, "got": {"rows"} or {"failed"}, "seconds"}, and last {"end"}. A cell
is null or a text that says the same whichever engine gave it, so that answers are compared by comparing texts.
"""

import datetime
import json
import pathlib
import sys
import time
import tomllib

UTC = datetime.timezone.utc


def questions(engine):
    """Each question's name, columns as (name, kind), and what this engine is asked."""
    text = (pathlib.Path(__file__).parent / "questions.toml").read_text()
    for question in tomllib.loads(text)["question"]:
        columns = [tuple(column.split(" ")) for column in question["columns"]]
        yield question["name"], columns, question.get(engine, question["sql"])


def _time(value):
    """To the microsecond, in UTC. What has no zone is taken to be in UTC: the sessions are set to it."""
    if isinstance(value, str):
        value = datetime.datetime.fromisoformat(value)
    value = value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    return value.strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _date(value):
    if isinstance(value, str):
        value = datetime.date.fromisoformat(value)
    if type(value) is not datetime.date:
        raise TypeError(f"not a date: {type(value).__name__}")
    return value.isoformat()


def _bytes(value):
    # An engine that has one type for text and bytes gives a text in which surrogates stand for what is not UTF-8.
    raw = value.encode("utf-8", "surrogateescape") if isinstance(value, str) else bytes(value)
    return raw.hex()


def _of(kind):
    def same(value):
        # A bool is an int to Python.
        if type(value) is not kind:
            raise TypeError(f"a {type(value).__name__} and not a {kind.__name__}")
        return str(value).lower() if kind is bool else str(value)
    return same


CELLS = {"text": _of(str), "int": _of(int), "bool": _of(bool), "date": _date, "time": _time, "bytes": _bytes}


def _cells(columns, row):
    for (name, kind), value in zip(columns, row, strict=True):
        try:
            yield None if value is None else CELLS[kind](value)
        except (TypeError, ValueError) as error:
            raise TypeError(f"column {name} is not {kind}: {error}") from error


def _say(entry):
    print(json.dumps(entry), flush=True)


def answer(engine, version, ask):
    """Asks every question. `ask` takes SQL and gives the columns' names and the rows."""
    _say({"version": version})
    for name, columns, sql in questions(engine):
        began = time.monotonic()
        try:
            names, rows = ask(sql)
            wanted = [column for column, _ in columns]
            if list(names) != wanted:
                raise TypeError(f"its columns are {list(names)}")
            got = {"rows": [list(_cells(columns, row)) for row in rows]}
        except Exception as error:  # An engine's own trouble is an answer too, and never the right one.
            got = {"failed": f"{type(error).__name__}: {error}"}
        _say({"check": name, "got": got, "seconds": round(time.monotonic() - began, 3)})
    _say({"end": True})


def table():
    """Where the table is: a folder, or an address that begins with s3://."""
    if len(sys.argv) < 2:
        sys.exit(f"usage: {sys.argv[0]} TABLE")
    return sys.argv[1].rstrip("/")

"""DuckDB, by its own extension `delta`: ask_duckdb.py TABLE. With s3://, AWS_… says how to get there."""

import os
import pathlib
import urllib.parse

import duckdb
import duckdb_ext

import answers


def extension(name):
    """Where the package has it; `INSTALL delta` would bring the same file from DuckDB's own place."""
    folder = pathlib.Path(next(iter(duckdb_ext.__path__))) / "extensions"
    return str(next(folder.glob(f"v{duckdb.__version__}/*/{name}.duckdb_extension")))


def reach_store(connection):
    endpoint = urllib.parse.urlsplit(os.environ["AWS_ENDPOINT_URL"])
    connection.load_extension(extension("httpfs"))
    options = {
        "KEY_ID": os.environ["AWS_ACCESS_KEY_ID"],
        "SECRET": os.environ["AWS_SECRET_ACCESS_KEY"],
        "REGION": os.environ["AWS_REGION"],
        "ENDPOINT": endpoint.netloc,
        "URL_STYLE": "path",
    }
    quoted = "".join(f", {name} '{value}'" for name, value in options.items())
    connection.execute(f"CREATE SECRET (TYPE s3{quoted}, USE_SSL {endpoint.scheme == 'https'})")


def main():
    table = answers.table()
    connection = duckdb.connect(config={"autoinstall_known_extensions": "false"})
    connection.load_extension(extension("delta"))
    if table.startswith("s3://"):
        reach_store(connection)
    connection.execute("SET TimeZone = 'UTC'")
    connection.execute(f"CREATE VIEW events AS SELECT * FROM delta_scan('{table}')")

    def ask(sql):
        answer = connection.execute(sql)
        return [column[0] for column in answer.description], answer.fetchall()

    answers.answer("duckdb", duckdb.__version__, ask)


main()

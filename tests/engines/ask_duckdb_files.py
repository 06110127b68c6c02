"""DuckDB without an extension: ask_duckdb_files.py TABLE [listing]

The files are those that the table's log names, as `deltalake` reads it. With `listing` they are all that the folder
holds, which is wrong: the same rows stand in files that were merged and in those that they became.
"""

import sys

import deltalake
import duckdb

import answers


def main():
    table = answers.table()
    if sys.argv[2:] == ["listing"]:
        files = f"{table}/*/*/*.parquet"
    else:
        files = deltalake.DeltaTable(table).file_uris()
    connection = duckdb.connect()
    connection.execute("SET TimeZone = 'UTC'")
    parquet = connection.read_parquet(files, hive_partitioning=True)
    columns = [column for column, _ in all_columns()]
    parquet.project(", ".join(f'"{column}"' for column in columns)).create_view("events")

    def ask(sql):
        answer = connection.execute(sql)
        return [column[0] for column in answer.description], answer.fetchall()

    answers.answer("duckdb", duckdb.__version__, ask)


def all_columns():
    """The table's, in order: the files lack those by which it is partitioned, which then come last."""
    return next(columns for name, columns, _ in answers.questions("duckdb") if name == "every cell")


main()

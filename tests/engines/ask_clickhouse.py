"""ClickHouse, as the library chDB: ask_clickhouse.py TABLE. With s3://, AWS_… says how to get there."""

import json
import os

from chdb import session

import answers


def source(table):
    if not table.startswith("s3://"):
        return f"deltaLakeLocal('{table}')"
    endpoint, place = os.environ["AWS_ENDPOINT_URL"], table.removeprefix("s3://")
    key, secret = os.environ["AWS_ACCESS_KEY_ID"], os.environ["AWS_SECRET_ACCESS_KEY"]
    return f"deltaLake('{endpoint}/{place}/', '{key}', '{secret}')"


def main():
    table = answers.table()
    if not table.startswith("s3://"):
        # Files are read below `user_files_path` alone, and chDB's is the folder where it is started.
        os.chdir(table)
    clickhouse = session.Session()
    clickhouse.query("SET session_timezone = 'UTC'")
    clickhouse.query("CREATE DATABASE evidence ENGINE = Memory")
    clickhouse.query(f"CREATE VIEW evidence.events AS SELECT * FROM {source(table)}")
    clickhouse.query("USE evidence")

    def ask(sql):
        # Its one type for text and bytes goes out as it is, so the JSON need not be UTF-8.
        printed = clickhouse.query(sql, "JSONCompactEachRowWithNames").bytes().decode("utf-8", "surrogateescape")
        names, *rows = (json.loads(line) for line in printed.split("\n") if line)
        return names, rows

    version = clickhouse.query("SELECT version()", "TSV").data().strip()
    answers.answer("clickhouse", version, ask)


main()

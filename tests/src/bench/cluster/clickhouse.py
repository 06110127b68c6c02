"""Bytes that ClickHouse takes for the rows of Parquet files: for each codec the codec and the bytes of a row."""

import sys
import tempfile

from chdb import session

files = sys.argv[1]
with tempfile.TemporaryDirectory(prefix="retrace-clickhouse-") as folder:
    clickhouse = session.Session(folder)

    def ask(statement):
        return clickhouse.query(statement, "TabSeparated").bytes().decode().strip()

    print("version", ask("SELECT version()"))
    clickhouse.query("CREATE DATABASE lake ENGINE = Atomic")
    for codec in ["ZSTD(1)", "LZ4"]:
        clickhouse.query("DROP TABLE IF EXISTS lake.events SYNC")
        # The same columns, the files' own order. A null is a value as any other there, so the keys are not null.
        clickhouse.query(
            f"""CREATE TABLE lake.events ENGINE = MergeTree ORDER BY (topic_partition, log_offset)
            SETTINGS default_compression_codec = '{codec}', allow_nullable_key = 1
            EMPTY AS SELECT * FROM file('{files}', Parquet)"""
        )
        clickhouse.query(f"INSERT INTO lake.events SELECT * FROM file('{files}', Parquet)")
        clickhouse.query("OPTIMIZE TABLE lake.events FINAL")
        print(
            codec,
            ask(
                """SELECT sum(bytes_on_disk) / sum(rows) FROM system.parts
                WHERE active AND database = 'lake' AND table = 'events'"""
            ),
        )

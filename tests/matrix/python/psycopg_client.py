"""psycopg 3: text and binary, prepared, pipelines, server cursors, COPY, notifications, two phases, cancelling."""

import asyncio
import datetime
import decimal
import os
import threading
import time
import uuid

import psycopg
from psycopg import errors, pq, sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb
from psycopg.types.range import Range

import transcript

CHECKS = []

VALUES = """SELECT true, 'c'::"char", 'n'::name, 1::int2, -2::int4, 3::int8, 1.5::float4, 'NaN'::float8, 12345.678900::numeric,
    '-1e-20'::numeric, 't'::text, 'v'::varchar, 'b'::char(3), '\\x00ff'::bytea, '2026-11-24'::date, '12:34:56.789'::time,
    '12:34:56+02'::timetz, '2026-11-24 12:34:56.789'::timestamp, '2026-11-24 12:34:56.789+00'::timestamptz,
    '1 year 2 mons -3 days 04:05:06.7'::interval, '{"a":1}'::json, '{"a":[1,null]}'::jsonb,
    'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid, '10.0.0.0/8'::cidr, '::1'::inet, '08:00:2b:01:02:03'::macaddr,
    B'101'::bit(3), B'10101'::varbit, 4294967295::oid, '16/B374D848'::pg_lsn, '(1,2)'::point, '[1,5)'::int4range,
    '{1,NULL,3}'::int4[], '{{a,b},{c,d}}'::text[], '12.34'::money, 'cat & rat'::tsquery, 'pg_class'::regclass,
    ROW(1, 'x'), '<a/>'::xml, NULL::int"""

DIAGNOSTICS = [name for name in dir(psycopg.errors.Diagnostic) if not name.startswith("_")]


def check(function):
    CHECKS.append(function)
    return function


def told(error):
    """An error or a notice, field by field."""
    diagnostic = getattr(error, "diag", error)
    fields = {name: getattr(diagnostic, name, None) for name in DIAGNOSTICS}
    fields = {name: value for name, value in fields.items() if isinstance(value, (str, int))}
    return {"kind": type(error).__name__, **fields} if fields else {"kind": type(error).__name__, "text": str(error)}


def attempt(act):
    try:
        return act()
    except psycopg.Error as error:
        return told(error)


@check
def types_in_both_formats(conn):
    results = {}
    for binary in (False, True):
        cursor = conn.cursor(binary=binary)
        cursor.execute(VALUES)
        result = cursor.pgresult
        results[f"binary={binary}"] = [
            [column.name, column.type_code, column.internal_size, column.precision, column.scale,
             result.fformat(index), result.get_value(0, index)]
            for index, column in enumerate(cursor.description)
        ]
    return results


@check
def parameters_in_both_formats(conn):
    values = [
        True, 42, 2**40, -1.5, decimal.Decimal("1234.5600"), "text\nü", b"\x00\xff", datetime.date(2026, 11, 24),
        datetime.datetime(2026, 11, 24, 12, 0, tzinfo=datetime.timezone.utc), datetime.timedelta(days=3, seconds=7),
        uuid.UUID(int=7), Jsonb({"a": [1, None]}), [1, None, 3], ["a,b", '"c"'], Range(1, 5), None,
    ]
    answers = []
    for format_ in ("%s", "%b", "%t"):
        for value in values:
            # NULL alone has no type that a server could guess.
            cast = "::text" if value is None else ""
            answers.append(attempt(lambda: conn.execute(f"SELECT {format_}{cast} AS v", [value]).fetchone()))
    return answers


@check
def errors_field_by_field(conn):
    conn.autocommit = True
    conn.execute("CREATE TABLE e (n int PRIMARY KEY CHECK (n > 0), d int REFERENCES e)")
    statements = [
        "SELECT 1/0", "SELECT 'x'::int", "SELECT * FROM nowhere", "SELECT 1 +", "INSERT INTO e VALUES (0)", "INSERT INTO e VALUES (1)",
        "INSERT INTO e VALUES (1)", "INSERT INTO e VALUES (2, 9)", "INSERT INTO e VALUES (NULL)", "SELECT no_such_function(1)",
        "DO $$ BEGIN RAISE EXCEPTION 'm' USING DETAIL = 'd', HINT = 'h', ERRCODE = 'ZZ123', TABLE = 't', COLUMN = 'c'; END $$",
        "SET work_mem = 'much'", "", ";", "SELECT 1; SELECT 1/0; SELECT 2",
    ]
    return [attempt(lambda: conn.execute(statement).statusmessage) for statement in statements]


@check
def notices(conn):
    heard = []
    conn.add_notice_handler(lambda notice: heard.append(told(notice)))
    conn.execute("DO $$ BEGIN RAISE NOTICE 'n %', 1; RAISE WARNING 'w' USING HINT = 'h'; RAISE INFO 'i'; RAISE DEBUG 'd'; END $$")
    conn.execute("DROP TABLE IF EXISTS no_such_table")
    conn.execute("SET client_min_messages = debug1")
    conn.execute("DO $$ BEGIN RAISE DEBUG 'd'; END $$")
    return heard


@check
def transactions_and_savepoints(conn):
    conn.execute("CREATE TABLE tx (n int)")
    conn.commit()
    seen = [conn.info.transaction_status.name]
    try:
        with conn.transaction():
            conn.execute("INSERT INTO tx VALUES (1)")
            try:
                with conn.transaction("inner"):
                    conn.execute("INSERT INTO tx VALUES (2)")
                    conn.execute("SELECT 1/0")
            except errors.DivisionByZero as error:
                seen.append(told(error))
            seen.append(conn.info.transaction_status.name)
            with conn.transaction(force_rollback=True):
                conn.execute("INSERT INTO tx VALUES (3)")
    finally:
        seen.append(conn.info.transaction_status.name)
    conn.execute("INSERT INTO tx VALUES (4)")
    seen.append(attempt(lambda: conn.execute("SELECT 1/0")))
    seen.append(attempt(lambda: conn.execute("SELECT 1")))
    seen.append(conn.info.transaction_status.name)
    conn.rollback()
    conn.read_only = True
    seen.append(attempt(lambda: conn.execute("INSERT INTO tx VALUES (5)")))
    conn.rollback()
    conn.read_only = None
    conn.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
    seen.append(conn.execute("SHOW transaction_isolation").fetchall())
    seen.append(conn.execute("SELECT n FROM tx").fetchall())
    return seen


@check
def executemany_with_returning(conn):
    conn.execute("CREATE TABLE em (n int, t text)")
    cursor = conn.cursor()
    cursor.executemany("INSERT INTO em VALUES (%s, %s) RETURNING n * 2", [(n, f"row {n}") for n in range(200)], returning=True)
    seen = [cursor.rowcount]
    while True:
        seen.append(cursor.fetchall())
        if not cursor.nextset():
            break
    seen.append(attempt(lambda: cursor.executemany("SELECT 10 / %s", [(1,), (0,), (2,)])))
    return seen


@check
def prepared_statements(conn):
    conn.prepare_threshold = 2
    conn.prepared_max = 3
    answers = [conn.execute("SELECT %s::int + 1 AS prepared", [n]).fetchone() for n in range(30)]
    for n in range(12):
        # More statements than are kept: some are closed again.
        answers.append([conn.execute(f"SELECT {n % 6} + %s::int", [n]).fetchone() for _ in range(4)])
    answers.append(conn.execute("SELECT 'at once'", prepare=True).fetchone())
    conn.execute("DEALLOCATE ALL")
    return answers


@check
def pipeline_mode(conn):
    conn.autocommit = True
    conn.execute("CREATE TABLE pl (n int)")
    seen = []
    with conn.pipeline() as pipeline:
        cursors = [conn.execute("SELECT %s::int AS piped, repeat('x', %s)", [n, n]) for n in range(150)]
        pipeline.sync()
        seen.append([cursor.fetchone() for cursor in cursors])
    try:
        with conn.pipeline():
            first = conn.execute("INSERT INTO pl VALUES (1) RETURNING n")
            conn.execute("SELECT 1/0")
            conn.execute("INSERT INTO pl VALUES (2)")
    except psycopg.Error as error:
        seen.append(told(error))
    seen.append(attempt(first.fetchone))
    with conn.pipeline():
        with conn.transaction():
            for n in range(20):
                conn.execute("INSERT INTO pl VALUES (%s)", [n])
    seen.append(conn.execute("SELECT count(*), sum(n) FROM pl").fetchone())
    return seen


@check
def server_cursors(conn):
    seen = []
    for binary in (False, True):
        with conn.cursor("named", binary=binary, scrollable=True) as cursor:
            cursor.itersize = 70
            cursor.execute("SELECT n, md5(n::text) FROM generate_series(1, 500) n")
            seen.append(cursor.fetchmany(3))
            cursor.scroll(100)
            seen.append(cursor.fetchone())
            cursor.scroll(5, mode="absolute")
            seen.append([row[0] for row in cursor])
    with conn.cursor("held", withhold=True) as cursor:
        cursor.execute("SELECT generate_series(1, 10)")
        conn.commit()
        seen.append(cursor.fetchall())
    conn.commit()
    seen.append(attempt(lambda: conn.cursor("broken").execute("SELECT 1/0").fetchall()))
    return seen


@check
def rows_one_at_a_time(conn):
    cursor = conn.cursor(row_factory=dict_row)
    seen = [list(cursor.stream("SELECT n, n * n AS square FROM generate_series(1, %s) n", [300]))]
    seen.append(list(cursor.stream("SELECT generate_series(1, 1000) AS n", size=64)))
    rows = []

    def broken():
        rows.extend(cursor.stream("SELECT 10 / (5 - n) AS q FROM generate_series(1, 9) n"))

    seen.append(attempt(broken))
    conn.rollback()
    return [seen, rows]


@check
def copy_in_and_out(conn):
    conn.execute("CREATE TABLE cp (n int, t text, d date, b bytea)")
    rows = [(n, f"row\t{n}\n" if n % 3 else None, datetime.date(2026, 1, 1) + datetime.timedelta(n), bytes([n % 256]) * 3) for n in range(500)]
    seen = []
    cursor = conn.cursor()
    with cursor.copy("COPY cp FROM STDIN") as copy:
        for row in rows:
            copy.write_row(row)
    seen.append([cursor.rowcount, cursor.statusmessage])
    with cursor.copy("COPY cp FROM STDIN (FORMAT BINARY)") as copy:
        copy.set_types(["int4", "text", "date", "bytea"])
        for row in rows:
            copy.write_row(row)
    seen.append([cursor.rowcount, cursor.statusmessage])
    with cursor.copy("COPY cp FROM STDIN (FORMAT CSV, HEADER)") as copy:
        copy.write('n,t,d,b\n1,"a ""quoted"" one",2026-01-01,\\x00\n')
        copy.write(b"2,,,\n")
    for statement in ("COPY cp TO STDOUT", "COPY cp TO STDOUT (FORMAT CSV, HEADER)", "COPY cp TO STDOUT (FORMAT BINARY)"):
        with cursor.copy(statement) as copy:
            seen.append(b"".join(copy))
    with cursor.copy("COPY (SELECT n, t, d FROM cp ORDER BY n, t LIMIT 50) TO STDOUT (FORMAT BINARY)") as copy:
        copy.set_types(["int4", "text", "date"])
        seen.append(list(copy.rows()))
    with cursor.copy("COPY (SELECT %s::int, %s) TO STDOUT", [7, "parameters"]) as copy:
        seen.append(list(copy.rows()))
    seen.append(cursor.execute("SELECT count(*), sum(n), count(t) FROM cp").fetchone())
    return seen


@check
def copy_that_fails(conn):
    conn.autocommit = True
    conn.execute("CREATE TABLE cf (n int)")

    def bad_row():
        with conn.cursor().copy("COPY cf FROM STDIN") as copy:
            copy.write("1\ntwo\n3\n")

    def given_up():
        with conn.cursor().copy("COPY cf FROM STDIN") as copy:
            copy.write("1\n")
            raise KeyError("given up")

    def left_early():
        with conn.cursor().copy("COPY (SELECT generate_series(1, 100000)) TO STDOUT") as copy:
            return copy.read()

    def broken_out():
        with conn.cursor().copy("COPY (SELECT 10 / (5 - n) FROM generate_series(1, 9) n) TO STDOUT") as copy:
            return list(copy)

    seen = [attempt(bad_row)]
    try:
        given_up()
    except KeyError as error:
        seen.append(str(error))
    seen.append(attempt(broken_out))
    left = attempt(left_early)
    # How much one read gives hangs on the network; that the rest is given up does not.
    seen.append(left if isinstance(left, dict) else left[:2])
    seen.append(conn.execute("SELECT count(*) FROM cf").fetchone())
    return seen


@check
def notifications(conn):
    conn.autocommit = True
    conn.execute("LISTEN news")
    with psycopg.connect(autocommit=True) as other:
        for n in range(20):
            other.execute("SELECT pg_notify('news', %s)", [f"message {n}"])
    heard = [(notify.channel, notify.payload) for notify in conn.notifies(timeout=20, stop_after=20)]
    conn.execute("UNLISTEN *")
    return heard


@check
def two_phases(conn):
    # Names of prepared transactions belong to the whole cluster.
    xid = conn.xid(1, f"gate-test-{os.getpid()}", "branch")
    conn.execute("SELECT 1")
    conn.commit()
    conn.tpc_begin(xid)
    conn.execute("CREATE TABLE tpc (n int)")
    conn.tpc_prepare()
    with psycopg.connect() as other:
        seen = [sum(found.gtrid == xid.gtrid for found in other.tpc_recover())]
    conn.tpc_commit()
    conn.tpc_begin(f"other-{os.getpid()}")
    conn.execute("INSERT INTO tpc VALUES (1)")
    conn.tpc_prepare()
    seen.append(attempt(lambda: conn.execute("SELECT 1")))
    conn.tpc_rollback()
    seen.append(conn.execute("SELECT count(*) FROM tpc").fetchone())
    return seen


@check
def cancelled_statement(conn):
    def cancel():
        with psycopg.connect(autocommit=True) as watcher:
            asleep = ("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'active'"
                      " AND query = 'SELECT pg_sleep(60)'")
            while watcher.execute(asleep).fetchone()[0] == 0:
                time.sleep(0.01)
        conn.cancel_safe(timeout=20)

    thread = threading.Thread(target=cancel)
    thread.start()
    seen = [attempt(lambda: conn.execute("SELECT pg_sleep(60)"))]
    thread.join()
    conn.rollback()
    seen.append(conn.execute("SELECT 'alive'").fetchone())
    return seen


@check
def parameter_status(conn):
    names = ["client_encoding", "DateStyle", "IntervalStyle", "TimeZone", "integer_datetimes", "is_superuser", "server_encoding",
             "server_version", "session_authorization", "standard_conforming_strings", "application_name", "in_hot_standby",
             "default_transaction_read_only"]
    before = [conn.info.parameter_status(name) for name in names]
    conn.execute("SET DateStyle = 'SQL, DMY'; SET TimeZone = 'Asia/Kolkata'; SET IntervalStyle = 'iso_8601'; SET client_encoding = 'LATIN1'")
    after = [conn.info.parameter_status(name) for name in names]
    rows = conn.execute("SELECT date '2026-11-24', '1 day'::interval::text, 'ü', timestamptz '2026-11-24 00:00Z'").fetchall()
    conn.rollback()
    return [before, after, rows, [conn.info.parameter_status(name) for name in names], conn.info.server_version]


@check
def large_values(conn):
    text = "0123456789abcdef\n" * 200_000
    row = conn.execute("SELECT length(%s), md5(%b), %b::bytea", [text, text, text.encode()]).fetchone()
    rows = conn.execute("SELECT n, md5(n::text), n / 7.0 FROM generate_series(1, 50000) n").fetchall()
    return [row[0], row[1], bytes(row[2]) == text.encode(), len(rows), rows[-1]]


@check
def several_results(conn):
    cursor = conn.execute("SELECT 1 AS a; CREATE TABLE sr (n int); INSERT INTO sr VALUES (1), (2); SELECT n FROM sr; UPDATE sr SET n = 0; SELECT")
    seen = []
    while True:
        seen.append([cursor.statusmessage, cursor.rowcount, cursor.fetchall() if cursor.description is not None and cursor.pgresult.nfields else None])
        if not cursor.nextset():
            break
    return seen


@check
def types_of_its_own(conn):
    from psycopg.types.composite import CompositeInfo, register_composite
    from psycopg.types.enum import EnumInfo, register_enum
    conn.execute("CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TYPE pair AS (a int, m mood)")
    register_enum(EnumInfo.fetch(conn, "mood"), conn)
    register_composite(CompositeInfo.fetch(conn, "pair"), conn)
    seen = []
    for binary in (False, True):
        row = conn.cursor(binary=binary).execute("SELECT 'ok'::mood, ROW(1, 'sad')::pair, ARRAY['ok', 'sad']::mood[]").fetchone()
        seen.append([row[0].name, str(row[1]), [mood.name for mood in row[2]]])
    return seen


@check
def a_session_that_is_ended(conn):
    seen = attempt(lambda: conn.execute("SELECT pg_terminate_backend(pg_backend_pid())"))
    return [seen, conn.closed]


@check
def many_at_once(conn):
    async def one(number):
        async with await psycopg.AsyncConnection.connect(autocommit=True) as own:
            rows = []
            for n in range(10):
                cursor = await own.execute("SELECT %s::int * %s", [number, n])
                rows.append(await cursor.fetchone())
            return rows

    async def all_of_them():
        return await asyncio.gather(*(one(number) for number in range(20)))

    return asyncio.run(all_of_them())


def main():
    transcript.version(psycopg.__version__)
    for function in CHECKS:
        try:
            with psycopg.connect(connect_timeout=30, options="-c statement_timeout=60s") as conn:
                transcript.got(function.__name__, function(conn))
        except psycopg.Error as error:
            transcript.got(function.__name__, told(error))
        except Exception as error:  # A client's own trouble is as comparable as a server's.
            transcript.got(function.__name__, repr(error))
    transcript.recorded("SELECT $1::int + 1 AS prepared", 30)
    transcript.recorded("SELECT $1::int AS piped, repeat('x', $2)", 150)
    transcript.recorded("INSERT INTO em VALUES ($1, $2) RETURNING n * 2", 200)
    transcript.recorded("COPY cp FROM STDIN (FORMAT BINARY)", 1)
    transcript.recorded("COPY cp TO STDOUT", 1)
    transcript.recorded("SELECT pg_sleep(60)", 1)
    transcript.recorded("SELECT $1::int * $2", 200)
    transcript.end()


main()

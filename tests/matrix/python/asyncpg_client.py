"""asyncpg: binary everywhere, prepared statements, cursors, COPY, introspection of types, notifications."""

import asyncio
import datetime
import decimal
import ssl
import os
import uuid

import asyncpg

import transcript

CHECKS = []


def check(function):
    CHECKS.append(function)
    return function


def told(error):
    """An error or a message of the server, field by field."""
    fields = error.as_dict() if hasattr(error, "as_dict") else {"text": str(error)}
    return {"kind": type(error).__name__, **{name: str(value) for name, value in fields.items() if value is not None}}


async def attempt(awaitable):
    try:
        return await awaitable
    except (asyncpg.PostgresError, asyncpg.InterfaceError, asyncio.TimeoutError) as error:
        return told(error)


def connect():
    # asyncpg reads the way from the variables of libpq, but not the authority to trust beside them.
    ca = os.environ.get("PGSSLROOTCERT")
    return asyncpg.connect(ssl=ssl.create_default_context(cafile=ca) if ca else False, timeout=30, command_timeout=60)


@check
async def types_in_binary(conn):
    values = [
        ("bool", True), ("int2", -2), ("int4", 7), ("int8", 2**40), ("float4", 1.5), ("float8", -0.0), ("numeric", decimal.Decimal("1234.5600")),
        ("text", "ünï\n"), ("bytea", b"\x00\xff"), ("date", datetime.date(2026, 11, 24)), ("time", datetime.time(12, 34, 56, 789)),
        ("timestamp", datetime.datetime(2026, 11, 24, 12, 0)), ("timestamptz", datetime.datetime(2026, 11, 24, tzinfo=datetime.timezone.utc)),
        ("interval", datetime.timedelta(days=3, seconds=7)), ("uuid", uuid.UUID(int=7)), ("json", '{"a": 1}'), ("jsonb", '{"a": [1, null]}'),
        ("inet", "10.0.0.1"), ("cidr", "10.0.0.0/8"), ("macaddr", "08:00:2b:01:02:03"), ("bit(3)", asyncpg.BitString("101")),
        ("oid", 4294967295), ("point", asyncpg.Point(1, 2)), ("box", asyncpg.Box((1, 2), (3, 4))), ("int4range", asyncpg.Range(1, 5)),
        ("int4[]", [1, None, 3]), ("text[]", [["a", "b"], ["c", "d"]]), ("money", "$12.34"), ("tsvector", "'cat':1"), ("xml", "<a/>"),
    ]
    return [[name, await attempt(conn.fetchval(f"SELECT $1::{name}", value))] for name, value in values]


@check
async def introspection_of_types(conn):
    await conn.execute("CREATE TYPE mood AS ENUM ('sad', 'ok'); CREATE TYPE pair AS (a int, m mood, d numeric[]); CREATE DOMAIN small AS int CHECK (VALUE < 9)")
    row = await conn.fetchrow("SELECT 'ok'::mood AS m, ROW(1, 'sad', '{1.5}')::pair AS p, ARRAY[ROW(2, 'ok', NULL)::pair] AS ps, 3::small AS s")
    back = await conn.fetchrow("SELECT ($1::pair).a, $2::mood[]", (5, "ok", [decimal.Decimal(1)]), ["sad", None])
    await conn.set_type_codec("jsonb", encoder=str, decoder=lambda text: "decoded " + text, schema="pg_catalog")
    return [row, back, await conn.fetchval("SELECT '{}'::jsonb"), await attempt(conn.fetchval("SELECT 10::small"))]


@check
async def prepared_statements(conn):
    statement = await conn.prepare("SELECT $1::int AS prepared, $2::text")
    described = [[p.name for p in statement.get_parameters()], [(a.name, a.type.name) for a in statement.get_attributes()]]
    rows = [await statement.fetchrow(n, str(n)) for n in range(50)]
    repeated = [await conn.fetchval("SELECT $1::int + 1 AS cached", n) for n in range(50)]
    return [described, rows, repeated, statement.get_statusmsg()]


@check
async def executemany(conn):
    await conn.execute("CREATE TABLE em (n int PRIMARY KEY, t text)")
    await conn.executemany("INSERT INTO em VALUES ($1, $2)", [(n, "x" * n) for n in range(300)])
    failed = await attempt(conn.executemany("INSERT INTO em VALUES ($1, $2)", [(1000, "a"), (1, "twice"), (1001, "b")]))
    return [failed, await conn.fetchrow("SELECT count(*), sum(length(t)) FROM em")]


@check
async def cursors(conn):
    seen = []
    async with conn.transaction():
        seen.append([row[0] async for row in conn.cursor("SELECT generate_series(1, 500)", prefetch=40)])
        cursor = await conn.cursor("SELECT n, md5(n::text) FROM generate_series(1, 100) n")
        seen += [await cursor.fetch(7), await cursor.forward(20), await cursor.fetchrow(), await cursor.fetch(1000)]
    return seen


@check
async def transactions(conn):
    await conn.execute("CREATE TABLE tx (n int)")
    seen = []
    async with conn.transaction(isolation="serializable"):
        await conn.execute("INSERT INTO tx VALUES (1)")
        try:
            async with conn.transaction():
                await conn.execute("INSERT INTO tx VALUES (2)")
                await conn.execute("SELECT 1/0")
        except asyncpg.DivisionByZeroError as error:
            seen.append(told(error))
        seen.append(await conn.fetch("SELECT n FROM tx"))
    transaction = conn.transaction(readonly=True)
    await transaction.start()
    seen.append(await attempt(conn.execute("INSERT INTO tx VALUES (3)")))
    seen.append(await attempt(conn.execute("SELECT 1")))
    await transaction.rollback()
    return seen


@check
async def copy_records(conn):
    await conn.execute("CREATE TABLE cp (n int, t text, d timestamptz, a int[])")
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc)
    records = [(n, f"row {n}\t" if n % 5 else None, start + datetime.timedelta(hours=n), [n, None]) for n in range(2000)]
    seen = [await attempt(conn.copy_records_to_table("cp", records=records))]
    out = bytearray()

    async def keep(data):
        out.extend(data)

    seen.append(await attempt(conn.copy_from_query("SELECT * FROM cp WHERE n < $1", 100, output=keep, format="csv", header=True)))
    seen.append(await attempt(conn.copy_from_table("cp", output=keep, format="binary")))

    async def rows():
        for n in range(10):
            yield f"{n},row,2026-01-01Z,{{}}\n".encode()

    seen.append(await attempt(conn.copy_to_table("cp", source=rows(), format="csv")))
    seen.append(await attempt(conn.copy_to_table("cp", source=_bytes(b"1\tx\tnever\t{}\n"))))
    return [seen, bytes(out), await conn.fetchrow("SELECT count(*), sum(n), count(t) FROM cp")]


async def _bytes(data):
    yield data


@check
async def notices_and_notifications(conn):
    heard, notices = asyncio.Queue(), []
    conn.add_log_listener(lambda _, message: notices.append(told(message)))
    await conn.execute("DO $$ BEGIN RAISE NOTICE 'n %', 1; RAISE WARNING 'w' USING DETAIL = 'd'; END $$")
    await conn.add_listener("news", lambda _, __, channel, payload: heard.put_nowait([channel, payload]))
    other = await connect()
    for n in range(10):
        await other.execute("SELECT pg_notify('news', $1)", str(n))
    await other.close()
    return [notices, [await asyncio.wait_for(heard.get(), 20) for _ in range(10)]]


@check
async def errors(conn):
    await conn.execute("CREATE TABLE e (n int PRIMARY KEY CHECK (n > 0))")
    statements = ["SELECT 1/0", "SELECT 'x'::int", "SELECT * FROM nowhere", "SELECT 1 +", "INSERT INTO e VALUES (0)", "INSERT INTO e VALUES (1), (1)", "SELECT 1; SELECT 1/0"]
    answers = [await attempt(conn.execute(statement)) for statement in statements]
    answers += [await attempt(conn.fetch("SELECT 10 / $1::int", n)) for n in (0, 1)]
    return answers


@check
async def a_timeout_cancels(conn):
    slept = await attempt(conn.fetch("SELECT pg_sleep(60)", timeout=0.5))
    return [slept, await conn.fetchval("SELECT 'alive'")]


@check
async def a_changed_table(conn):
    await conn.execute("CREATE TABLE ch (n int); INSERT INTO ch VALUES (1)")
    statement = await conn.prepare("SELECT * FROM ch")
    seen = [await statement.fetch()]
    await conn.execute("ALTER TABLE ch ADD COLUMN t text DEFAULT 'new'")
    seen += [await attempt(statement.fetch()), await attempt(conn.fetch("SELECT * FROM ch"))]
    return seen


@check
async def settings_and_large_values(conn):
    settings = conn.get_settings()
    text = "0123456789abcdef\n" * 150_000
    row = await conn.fetchrow("SELECT length($1::text), md5($1), $1 || $1", text)
    rows = await conn.fetch("SELECT n, md5(n::text) FROM generate_series(1, 50000) n")
    return [settings.TimeZone, settings.server_version, list(conn.get_server_version()), row[0], row[1], len(row[2]), len(rows), rows[-1]]


@check
async def a_pool(_):
    ca = os.environ.get("PGSSLROOTCERT")
    async with asyncpg.create_pool(min_size=3, max_size=6, ssl=ssl.create_default_context(cafile=ca) if ca else False, timeout=30) as pool:
        async def one(number):
            async with pool.acquire() as own:
                return await own.fetchval("SELECT $1::int AS pooled", number)
        return await asyncio.gather(*(one(number) for number in range(60)))


async def main():
    transcript.version(asyncpg.__version__)
    for function in CHECKS:
        conn = await connect()
        try:
            transcript.got(function.__name__, await asyncio.wait_for(function(conn), 90))
        except Exception as error:  # A client's own trouble is as comparable as a server's.
            transcript.got(function.__name__, told(error))
        finally:
            try:
                await conn.close(timeout=10)
            except (OSError, asyncpg.PostgresError, asyncio.TimeoutError):
                conn.terminate()
    transcript.recorded("SELECT $1::int AS prepared, $2::text", 50)
    transcript.recorded("SELECT $1::int + 1 AS cached", 50)
    transcript.recorded("SELECT $1::int AS pooled", 60)
    transcript.recorded('COPY "cp" FROM STDIN (FORMAT binary) ', 1)
    transcript.recorded("SELECT pg_sleep(60)", 1)
    transcript.end()


asyncio.run(main())

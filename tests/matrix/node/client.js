'use strict';
// node-postgres: plain, named and typed queries, cursors, streams, COPY, notifications, a pool.

const fs = require('fs');
const { pipeline } = require('stream/promises');
const { Readable, Writable } = require('stream');
const { Client, Pool } = require('pg');
const Cursor = require('pg-cursor');
const QueryStream = require('pg-query-stream');
const { from: copyFrom, to: copyTo } = require('pg-copy-streams');

const say = (entry) => fs.writeSync(1, JSON.stringify(entry) + '\n');

// How long one check may take, in milliseconds.
const PATIENCE = 60000;

// The driver reads the way from the variables of libpq, but not the authority to trust beside them.
const ca = process.env.PGSSLROOTCERT;
const settings = { ssl: ca ? { ca: fs.readFileSync(ca, 'utf8'), rejectUnauthorized: true } : false, connectionTimeoutMillis: 30000 };
// The mode is said above; the variable would set it again, without the authority.
delete process.env.PGSSLMODE;

const FIELDS = ['severity', 'code', 'message', 'detail', 'hint', 'position', 'where', 'schema', 'table', 'column', 'dataType', 'constraint', 'file', 'routine'];

function told(error) {
  const fields = { kind: error.constructor.name };
  for (const name of FIELDS) if (error[name] !== undefined) fields[name] = String(error[name]);
  return fields;
}

async function attempt(promise) {
  try {
    return await promise;
  } catch (error) {
    return told(error);
  }
}

function plain(value) {
  if (Buffer.isBuffer(value)) return value.toString('hex');
  if (typeof value === 'number' && !Number.isFinite(value)) return String(value);
  if (typeof value === 'bigint') return String(value);
  if (Array.isArray(value)) return value.map(plain);
  if (value instanceof Date) return value.toISOString();
  if (value && typeof value === 'object') return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, plain(item)]));
  return value;
}

const outcome = (result) => (Array.isArray(result) ? result.map(outcome) : [result.command, result.rowCount, result.fields.map((f) => [f.name, f.dataTypeID, f.format]), result.rows]);

const VALUES = `SELECT true AS a, 1::int2 AS b, -2::int4 AS c, 3::int8 AS d, 1.5::float4 AS e, 'NaN'::float8 AS f, 12345.678900::numeric AS g,
  't'::text AS h, '\\x00ff'::bytea AS i, '2026-11-24'::date AS j, '2026-11-24 12:34:56.789+00'::timestamptz AS k, '1 year 2 mons'::interval AS l,
  '{"a":[1,null]}'::jsonb AS m, 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11'::uuid AS n, '{1,NULL,3}'::int4[] AS o, '(1,2)'::point AS p,
  '::1'::inet AS q, NULL::int AS r, ROW(1, 'x') AS s, '{{a,b},{c,d}}'::text[] AS t`;

const checks = {
  async types_as_text(client) {
    return outcome(await client.query(VALUES));
  },
  async types_in_binary(client) {
    return outcome(await client.query({ text: VALUES, values: [], binary: true }));
  },
  async parameters(client) {
    const text = 'SELECT $1::int AS n, $2::text AS t, $3::bytea AS b, $4::jsonb AS j, $5::int[] AS a, $6::timestamptz AS d, $7::float8 AS f, $8::text AS nothing';
    const values = [7, 'ünï\n', Buffer.from([0, 255]), { a: [1, null] }, [1, null, 3], new Date(0), 1.5, null];
    return [outcome(await client.query(text, values)), outcome(await client.query({ text, values, rowMode: 'array' }))];
  },
  async named_statements(client) {
    const rows = [];
    for (let n = 0; n < 40; n += 1) rows.push((await client.query({ name: 'twice', text: 'SELECT $1::int * 2 AS named', values: [n] })).rows[0]);
    rows.push(await attempt(client.query({ name: 'broken', text: 'SELECT 10 / $1::int AS q', values: [0] })));
    rows.push((await client.query({ name: 'broken', text: 'SELECT 10 / $1::int AS q', values: [5] })).rows);
    return rows;
  },
  async queued_queries(client) {
    const queued = [];
    for (let n = 0; n < 100; n += 1) queued.push(attempt(client.query('SELECT $1::int AS queued, 10 / ($1 - 50) AS q', [n]).then((result) => result.rows)));
    return Promise.all(queued);
  },
  async several_statements(client) {
    return outcome(await client.query("SELECT 1 AS a; CREATE TABLE ss (n int); INSERT INTO ss VALUES (1), (2); SELECT n FROM ss; UPDATE ss SET n = 0; SELECT"));
  },
  async errors(client) {
    await client.query('CREATE TABLE e (n int PRIMARY KEY CHECK (n > 0))');
    const statements = ['SELECT 1/0', "SELECT 'x'::int", 'SELECT * FROM nowhere', 'SELECT 1 +', 'INSERT INTO e VALUES (0)', 'INSERT INTO e VALUES (1), (1)', '', 'SELECT 1; SELECT 1/0'];
    const answers = [];
    for (const statement of statements) answers.push(await attempt(client.query(statement).then(outcome)));
    answers.push(await attempt(client.query('SELECT $1::int', ['x']).then(outcome)), await attempt(client.query('SELECT 1', [1]).then(outcome)));
    return answers;
  },
  async transactions(client) {
    await client.query('CREATE TABLE tx (n int)');
    const seen = [];
    await client.query('BEGIN');
    await client.query('INSERT INTO tx VALUES ($1)', [1]);
    await client.query('SAVEPOINT s');
    seen.push(await attempt(client.query('SELECT 1/0')), await attempt(client.query('SELECT 1')));
    await client.query('ROLLBACK TO s');
    seen.push((await client.query('COMMIT')).command);
    await client.query('BEGIN');
    seen.push(await attempt(client.query('SELECT 1/0')), (await client.query('COMMIT')).command);
    seen.push((await client.query('SELECT n FROM tx')).rows);
    return seen;
  },
  async cursor(client) {
    const cursor = client.query(new Cursor('SELECT n, md5(n::text) AS h FROM generate_series(1, $1::int) n', [200]));
    const seen = [await cursor.read(7), await cursor.read(100)];
    await cursor.close();
    const whole = client.query(new Cursor('SELECT generate_series(1, 25) AS n'));
    for (let rows = await whole.read(10); rows.length > 0; rows = await whole.read(10)) seen.push(rows);
    const broken = client.query(new Cursor('SELECT 10 / (15 - n) AS q FROM generate_series(1, 30) n'));
    seen.push(await attempt(broken.read(5)), await attempt(broken.read(50)));
    return [seen, (await client.query("SELECT 'alive' AS a")).rows];
  },
  async query_stream(client) {
    const seen = [];
    for await (const row of client.query(new QueryStream('SELECT n FROM generate_series(1, 3000) n', [], { batchSize: 128 }))) seen.push(row.n);
    let few = 0;
    for await (const row of client.query(new QueryStream('SELECT n FROM generate_series(1, 3000) n', [], { batchSize: 64 }))) {
      few += row.n;
      if (row.n === 100) break;
    }
    return [seen.length, seen[2999], few, (await client.query("SELECT 'alive' AS a")).rows];
  },
  async copy(client) {
    await client.query('CREATE TABLE cp (n int, t text)');
    const lines = Array.from({ length: 5000 }, (_, n) => `${n}\trow ${n} ${'x'.repeat(n % 50)}\n`);
    const into = client.query(copyFrom('COPY cp FROM STDIN'));
    await pipeline(Readable.from(lines), into);
    const collect = async (statement) => {
      const parts = [];
      await pipeline(client.query(copyTo(statement)), new Writable({ write(part, _, done) { parts.push(part); done(); } }));
      return Buffer.concat(parts);
    };
    const text = await collect('COPY cp TO STDOUT');
    const binary = await collect('COPY (SELECT * FROM cp WHERE n < 100) TO STDOUT (FORMAT binary)');
    const back = client.query(copyFrom('COPY cp FROM STDIN (FORMAT binary)'));
    await pipeline(Readable.from([binary]), back);
    const bad = await attempt(pipeline(Readable.from(['1\tgood\n', 'two\tbad\n']), client.query(copyFrom('COPY cp FROM STDIN'))));
    const out = await attempt(collect('COPY (SELECT 10 / (5 - n) FROM generate_series(1, 9) n) TO STDOUT'));
    return [into.rowCount, text, binary, back.rowCount, bad, out, (await client.query('SELECT count(*), sum(n) FROM cp')).rows];
  },
  async notices_and_notifications(client) {
    const notices = [];
    const heard = [];
    client.on('notice', (notice) => notices.push(told(notice)));
    const all = new Promise((resolve) => client.on('notification', ({ channel, payload }) => heard.push([channel, payload]) === 10 && resolve()));
    await client.query("LISTEN news; DO $$ BEGIN RAISE NOTICE 'n %', 1; RAISE WARNING 'w' USING HINT = 'h'; END $$");
    const other = new Client(settings);
    await other.connect();
    for (let n = 0; n < 10; n += 1) await other.query("SELECT pg_notify('news', $1)", [String(n)]);
    await other.end();
    await all;
    return [notices, heard];
  },
  async large_values(client) {
    const text = '0123456789abcdef\n'.repeat(150000);
    const { rows } = await client.query('SELECT length($1::text) AS n, md5($1) AS h, $1 || $1 AS twice', [text]);
    const many = await client.query('SELECT n, md5(n::text) AS h FROM generate_series(1, 50000) n');
    return [rows[0].n, rows[0].h, rows[0].twice === text + text, many.rowCount, many.rows[49999]];
  },
  async a_statement_timeout(client) {
    await client.query('SET statement_timeout = 200');
    return [await attempt(client.query('SELECT pg_sleep(60)')), (await client.query("SELECT 'alive' AS a")).rows];
  },
  async a_pool(_) {
    const pool = new Pool({ ...settings, max: 5 });
    const results = await Promise.all(Array.from({ length: 60 }, (_, n) => pool.query('SELECT $1::int AS pooled', [n])));
    await pool.end();
    return results.map((result) => result.rows[0].pooled);
  },
};

function bounded(promise) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(() => reject(new Error('not in time')), PATIENCE);
    promise.then(resolve, reject).finally(() => clearTimeout(timer));
  });
}

async function main() {
  say({ version: require('pg/package.json').version });
  for (const [name, check] of Object.entries(checks)) {
    const client = new Client(settings);
    // What breaks a connection also breaks what was asked on it.
    client.on('error', () => {});
    const got = await attempt(bounded(client.connect().then(() => check(client))));
    say({ check: name, got: plain(got) });
    await attempt(bounded(client.end()));
  }
  say({ recorded: 'SELECT $1::int * 2 AS named', times: 40 });
  say({ recorded: 'SELECT $1::int AS queued, 10 / ($1 - 50) AS q', times: 100 });
  say({ recorded: 'SELECT $1::int AS pooled', times: 60 });
  say({ recorded: 'COPY cp FROM STDIN (FORMAT binary)', times: 1 });
  say({ recorded: 'SELECT pg_sleep(60)', times: 1 });
  say({ end: true });
  process.exit(0);
}

main();

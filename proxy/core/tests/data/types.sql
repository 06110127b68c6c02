-- What PostgreSQL prints for values whose binary format it sends: the table that tests/types_agree.rs checks.
-- Any scratch database of PostgreSQL 15 gives the same lines:
--   psql -XqAt -v ON_ERROR_STOP=1 -f types.sql > types.tsv
-- Columns: type OID, value in binary format as hex, DateStyle, IntervalStyle, TimeZone, text; as COPY writes them.
\set QUIET on
set client_min_messages = warning;
set client_encoding = 'UTF8';
set extra_float_digits = 1;
set datestyle = 'ISO, MDY';
set timezone = 'UTC';
select setseed(0.5) \g /dev/null

create temp table agree (
    n serial, oid oid, bytes text, date_style text, interval_style text, time_zone text, printed text);

create function pg_temp.emit(type text, send text, query text) returns void language plpgsql as $$
begin
    execute format(
        'insert into agree (oid, bytes, date_style, interval_style, time_zone, printed)
         select %s, encode(%s(v), ''hex''), current_setting(''DateStyle''), current_setting(''IntervalStyle''),
                current_setting(''TimeZone''), format(''%%s'', v)
         from (%s) as s(v)', type::regtype::oid, send, query);
end $$;

create function pg_temp.scalars() returns void language sql as $$
    select pg_temp.emit('bool', 'boolsend', 'values (true), (false)');
    select pg_temp.emit('int2', 'int2send', 'select unnest(array[0, 1, -1, 32767, -32768]::int2[])');
    select pg_temp.emit('int4', 'int4send', 'select unnest(array[0, 1, -1, 2147483647, -2147483648]::int4[])');
    select pg_temp.emit('int8', 'int8send', 'select unnest(array[0, -1, 9223372036854775807, -9223372036854775808]::int8[])');
    select pg_temp.emit('int8', 'int8send', 'select ((random() - 0.5) * 10 ^ (random() * 18))::int8 from generate_series(1, 20)');
    select pg_temp.emit('oid', 'oidsend', 'select unnest(array[0, 4294967295]::oid[])');
    select pg_temp.emit('xid', 'xidsend', 'select unnest(array[''0'', ''4294967295'']::xid[])');
    select pg_temp.emit('cid', 'cidsend', 'select unnest(array[''7'']::cid[])');
    select pg_temp.emit('xid8', 'xid8send', 'select unnest(array[''0'', ''18446744073709551615'']::xid8[])');
    select pg_temp.emit('tid', 'tidsend', 'select unnest(array[''(0,1)'', ''(4294967295,65535)'']::tid[])');
    select pg_temp.emit('pg_lsn', 'pg_lsn_send', 'select unnest(array[''0/0'', ''16/B374D848'', ''FFFFFFFF/FFFFFFFF'']::pg_lsn[])');
    select pg_temp.emit('float8', 'float8send', 'select unnest(array[''0'', ''-0'', 1, -1, ''nan'', ''inf'', ''-inf'', 1e15, 1e14, 999999999999999, 123456789012345678, 1e20, 1e-4, 1e-5, 0.00012345, 1e23, 9e15, 0.1, 0.30000000000000004, 5e-324, 1.7976931348623157e308, 2.2250738585072014e-308, 4111111111111111, 9007199254740993, 1e100, 1.5e300]::float8[])');
    select pg_temp.emit('float8', 'float8send', 'select 2::float8 ^ n from generate_series(-1070, 1020, 11) as n');
    select pg_temp.emit('float8', 'float8send', 'select 2::float8 ^ n from generate_series(40, 140) as n');
    select pg_temp.emit('float8', 'float8send', 'select 2::float8 ^ n from generate_series(-90, -40, 2) as n');
    select pg_temp.emit('float8', 'float8send', 'select (''1e'' || n)::float8 from generate_series(-300, 300, 7) as n');
    select pg_temp.emit('float8', 'float8send', 'select (''1e'' || n)::float8 * (1 + (random() * 9)::int) from generate_series(15, 45) as n');
    select pg_temp.emit('float8', 'float8send', 'select (random() - 0.5) * 10::float8 ^ (random() * 600 - 300) from generate_series(1, 150)');
    select pg_temp.emit('float8', 'float8send', 'select round((random() * 1000000)::numeric, 2)::float8 from generate_series(1, 20)');
    select pg_temp.emit('float4', 'float4send', 'select unnest(array[''0'', ''-0'', 1, ''nan'', ''inf'', ''-inf'', 1e5, 1e6, 999999, 1234567, 1e-4, 1e-5, 0.1, 16777217, 1e-45, 3.4028235e38, 1.1754944e-38]::float4[])');
    select pg_temp.emit('float4', 'float4send', 'select (2::float8 ^ n)::float4 from generate_series(-149, 127, 3) as n');
    select pg_temp.emit('float4', 'float4send', 'select ((random() - 0.5) * 10::float8 ^ (random() * 70 - 35))::float4 from generate_series(1, 100)');
    select pg_temp.emit('numeric', 'numeric_send', 'select unnest(array[''0'', ''0.00'', ''-0.5'', ''NaN'', ''Infinity'', ''-Infinity'', ''1'', ''10000'', ''10000.0000'', ''0.0001'', ''0.00010'', ''0.00001234'', ''123456789.987654321'', ''1e50'', ''1e-50'', ''-99999999999999999999.99'', ''9999'', ''100000000'', ''1.10'', ''4111111111111111.00'']::numeric[])');
    select pg_temp.emit('numeric', 'numeric_send', 'select round(((random() - 0.5) * 10 ^ (random() * 12))::numeric, (random() * 20)::int) from generate_series(1, 120)');
    select pg_temp.emit('numeric', 'numeric_send', 'select 1::numeric / n from generate_series(1, 30) as n');
    select pg_temp.emit('text', 'textsend', $q$select unnest(array['', 'plain', E'tab\tline\nback\\slash', 'käse 漢字 😀', 'NULL'])$q$);
    select pg_temp.emit('varchar', 'varcharsend', $q$select unnest(array['', 'abc']::varchar[])$q$);
    select pg_temp.emit('bpchar', 'bpcharsend', $q$select 'ab'::char(5)$q$);
    select pg_temp.emit('name', 'namesend', $q$select 'pg_class'::name$q$);
    select pg_temp.emit('"char"', 'charsend', $q$select unnest(array['a', '', '~']::"char"[])$q$);
    select pg_temp.emit('json', 'json_send', $q$select unnest(array['{"a": [1, 2]}', 'null', '  "x"'])::json$q$);
    select pg_temp.emit('jsonb', 'jsonb_send', $q$select unnest(array['{"b":1,"a":[1,2.50,"\u00e4"]}', 'null', '"x"'])::jsonb$q$);
    select pg_temp.emit('xml', 'xml_send', $q$select unnest(array['<a>b</a>', 'text'])::xml$q$);
    select pg_temp.emit('bytea', 'byteasend', $q$select unnest(array['', '\x00ff', 'abc']::bytea[])$q$);
    select pg_temp.emit('uuid', 'uuid_send', 'select md5(n::text)::uuid from generate_series(1, 10) as n');
    select pg_temp.emit('inet', 'inet_send', $q$select unnest(array['1.2.3.4', '1.2.3.4/32', '10.0.0.1/8', '0.0.0.0/0', '::', '::1', '::/0', '1::', '::1.2.3.4', '::ffff:1.2.3.4', '::ffff:0:0', '2001:db8::1', '2001:db8:0:0:1:0:0:1', '1:0:0:2:0:0:0:3', 'fe80::1/64', '1:2:3:4:5:6:7:8', '0:0:3:4:5:6:7:8', '1:2:3:4:5:6:0:0', '1:0:3:4:5:6:7:8', '::5:6:7:8', '::6:7:8', '::2:3:4:5:6:7:8', '0:0:0:0:0:0:0:8', '0:0:0:0:0:0:7:0', '0:0:0:0:0:1:7:8'])::inet$q$);
    select pg_temp.emit('cidr', 'cidr_send', $q$select unnest(array['10.0.0.0/8', '1.2.3.4', '::/0', '2001:db8::/32', '::1'])::cidr$q$);
    select pg_temp.emit('macaddr', 'macaddr_send', $q$select '08:00:2b:01:02:ff'::macaddr$q$);
    select pg_temp.emit('macaddr8', 'macaddr8_send', $q$select '08:00:2b:01:02:03:04:ff'::macaddr8$q$);
    select pg_temp.emit('bit', 'bit_send', $q$select B'10110'::bit(5) union all select B'1'::bit(1) union all select B'1011011101111'::bit(13)$q$);
    select pg_temp.emit('varbit', 'varbit_send', $q$select unnest(array['', '1', '10110111', '101101110'])::varbit$q$);
$$;

create function pg_temp.arrays() returns void language sql as $$
    select pg_temp.emit('int4[]', 'array_send', $q$select unnest(array['{}', '{1,2,3}', '{{1,2},{3,4}}', '{NULL,1}', '{{{1},{2}},{{3},{4}}}', '[0:1]={1,2}', '[-2:-1][3:4]={{1,2},{3,NULL}}', '[2:2]={9}']::text[])::int4[]$q$);
    select pg_temp.emit('text[]', 'array_send', $q$select unnest(array['{a,b}', '{"",NULL,"null","NuLL",nul}', '{"a b","a,b","a\"b","a\\b","{","}"}', '{ä,漢}', '{{a,"b c"},{"",d}}']::text[])::text[]$q$);
    select pg_temp.emit('text[]', 'array_send', $q$select array[E'a\tb', E'a\nb', E'a\rb', E'a\vb', E'a\fb', E'a\u00a0b', 'a''b', ';']$q$);
    select pg_temp.emit('text[]', 'array_send', $q$select array_agg(chr(33 + (random() * 93)::int) || chr(33 + (random() * 93)::int)) from generate_series(1, 400) as n group by n % 100$q$);
    select pg_temp.emit('float8[]', 'array_send', $q$select '{1.5,-0,NaN,Infinity}'::float8[]$q$);
    select pg_temp.emit('float4[]', 'array_send', $q$select '{1.5,1e10}'::float4[]$q$);
    select pg_temp.emit('numeric[]', 'array_send', $q$select '{1.50,NaN}'::numeric[]$q$);
    select pg_temp.emit('bool[]', 'array_send', $q$select '{t,f,NULL}'::bool[]$q$);
    select pg_temp.emit('bytea[]', 'array_send', $q$select array['\x00ff', '']::bytea[]$q$);
    select pg_temp.emit('jsonb[]', 'array_send', $q$select array['{"a":"b c"}', '1']::jsonb[]$q$);
    select pg_temp.emit('json[]', 'array_send', $q$select array['{"a":"b c"}', '1']::json[]$q$);
    select pg_temp.emit('uuid[]', 'array_send', $q$select array[md5('a')::uuid]$q$);
    select pg_temp.emit('inet[]', 'array_send', $q$select array['1.2.3.4/8', '::1']::inet[]$q$);
    select pg_temp.emit('varchar[]', 'array_send', $q$select array['x', '']::varchar[]$q$);
    select pg_temp.emit('name[]', 'array_send', $q$select array['x']::name[]$q$);
    select pg_temp.emit('int2[]', 'array_send', $q$select array[1, 2]::int2[]$q$);
    select pg_temp.emit('int8[]', 'array_send', $q$select array[1, 2]::int8[]$q$);
    select pg_temp.emit('oid[]', 'array_send', $q$select array[1, 2]::oid[]$q$);
    select pg_temp.emit('bit[]', 'array_send', $q$select array[B'101', B'1']::bit(3)[]$q$);
    select pg_temp.emit('xml[]', 'array_send', $q$select array['<a b="c"/>']::xml[]$q$);
$$;

create function pg_temp.times() returns void language sql as $$
    select pg_temp.emit('date', 'date_send', $q$select unnest(array['infinity', '-infinity', '2000-01-01', '1999-12-31', '2024-02-29', '1900-03-01', '0001-01-01', '0001-12-31 BC', '0044-03-15 BC', '4714-11-24 BC', '5874897-12-31', '12345-06-07'])::date$q$);
    select pg_temp.emit('date', 'date_send', $q$select '2000-01-01'::date + ((random() - 0.5) * 2000000)::int from generate_series(1, 15)$q$);
    select pg_temp.emit('time', 'time_send', $q$select unnest(array['00:00', '24:00', '12:34:56.789', '23:59:59.999999', '00:00:00.1'])::time$q$);
    select pg_temp.emit('timetz', 'timetz_send', $q$select unnest(array['00:00+00', '24:00-12', '12:34:56.5+05:30', '01:02:03-07:52:58', '01:02:03+15:59:59'])::timetz$q$);
    select pg_temp.emit('timestamp', 'timestamp_send', $q$select unnest(array['infinity', '-infinity', '2000-01-01', '1999-12-31 23:59:59.999999', '2024-02-29 12:30:00.5', '4714-11-24 00:00 BC', '294276-12-31 23:59:59.999999', '0001-01-01', '0001-12-31 23:00 BC', '99999-01-01'])::timestamp$q$);
    select pg_temp.emit('timestamp', 'timestamp_send', $q$select '2000-01-01'::timestamp + ((random() - 0.5) * 1e9) * interval '1 second' from generate_series(1, 15)$q$);
    select pg_temp.emit('timestamptz', 'timestamptz_send', $q$select unnest(array['infinity', '-infinity', '2000-01-01 00:00+00', '2024-01-15 12:00+00', '2024-07-15 12:00:00.25+00', '2024-03-10 09:59:59.999999+00', '2024-03-10 10:00+00', '2024-11-03 09:00+00', '1850-01-01 00:00+00', '0044-03-15 00:00+00 BC', '2100-07-01 00:00+00', '9999-07-01 00:00+00', '12000-07-01 00:00+00', '12001-01-15 00:00+00', '294276-07-01 00:00+00'])::timestamptz$q$);
    select pg_temp.emit('timestamptz', 'timestamptz_send', $q$select '2000-01-01 00:00+00'::timestamptz + ((random() - 0.5) * 1.8e9) * interval '1 second' from generate_series(1, 25)$q$);
    select pg_temp.emit('timestamp[]', 'array_send', $q$select array['2024-02-29 12:30']::timestamp[]$q$);
    select pg_temp.emit('timestamptz[]', 'array_send', $q$select array['2024-02-29 12:30+00', null]::timestamptz[]$q$);
    select pg_temp.emit('date[]', 'array_send', $q$select array['2024-02-29', 'infinity']::date[]$q$);
    select pg_temp.emit('time[]', 'array_send', $q$select array['12:30']::time[]$q$);
$$;

create function pg_temp.intervals() returns void language sql as $$
    select pg_temp.emit('interval', 'interval_send', $q$select unnest(array['0', '1 year', '-1 year', '1 year 2 mons 3 days 04:05:06', '-1 year -2 mons -3 days -04:05:06', '1 year -2 mons', '-1 mon 3 days', '-3 days 04:05:06', '3 days -04:05:06.5', '1 day', '2 days', '00:00:01', '-00:00:01', '00:00:00.5', '-00:00:00.5', '-00:00:01.5', '00:01', '01:00', '1000:00:00', '-1 day 00:00:01', '1 mon', '1 mon 1 sec', '1 year 1 day -1 sec', '-1 mon -1 sec', '178000000 years', '2147483647 days', '5 days 00:00:00.000001'])::interval$q$);
    select pg_temp.emit('interval', 'interval_send', $q$select make_interval(years => (random() * 4 - 2)::int, months => (random() * 20 - 10)::int, days => (random() * 4 - 2)::int, hours => (random() * 4 - 2)::int, mins => (random() * 4 - 2)::int, secs => round((random() * 4 - 2)::numeric, (random() * 3)::int)::float8) from generate_series(1, 25)$q$);
    select pg_temp.emit('interval[]', 'array_send', $q$select array['1 day 01:00', '0']::interval[]$q$);
$$;

select pg_temp.scalars(), pg_temp.arrays() \g /dev/null

select pg_temp.times() \g /dev/null
set timezone = 'America/Los_Angeles';
select pg_temp.times() \g /dev/null
set timezone = 'Asia/Kolkata';
select pg_temp.times() \g /dev/null
set timezone = 'Australia/Lord_Howe';
select pg_temp.times() \g /dev/null
set time zone -3.5;
select pg_temp.times() \g /dev/null
set timezone = 'Europe/Berlin'; set datestyle = 'SQL, DMY';
select pg_temp.times() \g /dev/null
set datestyle = 'SQL, MDY';
select pg_temp.times() \g /dev/null
set datestyle = 'Postgres, MDY';
select pg_temp.times() \g /dev/null
set datestyle = 'Postgres, DMY';
select pg_temp.times() \g /dev/null
set datestyle = 'German, DMY';
select pg_temp.times() \g /dev/null
set datestyle = 'ISO, YMD';
set intervalstyle = 'postgres'; select pg_temp.intervals() \g /dev/null
set intervalstyle = 'postgres_verbose'; select pg_temp.intervals() \g /dev/null
set intervalstyle = 'sql_standard'; select pg_temp.intervals() \g /dev/null
set intervalstyle = 'iso_8601'; select pg_temp.intervals() \g /dev/null
copy (select oid, bytes, date_style, interval_style, time_zone, printed from agree order by n) to stdout;

-- What docs/events.md promises of a value, said by Postgres alone.
CREATE SCHEMA oracle;

-- The JSON of an array whose elements are known: flat in storage order, dims from the outside in.
CREATE FUNCTION oracle.nest(flat text[], dims int[]) RETURNS json LANGUAGE plpgsql AS $$
BEGIN
    FOR d IN REVERSE cardinality(dims)..1 LOOP
        flat := ARRAY(SELECT '[' || string_agg(x, ',' ORDER BY i) || ']' FROM unnest(flat) WITH ORDINALITY AS u (x, i)
                      GROUP BY (i - 1) / dims[d] ORDER BY (i - 1) / dims[d]);
    END LOOP;
    RETURN flat[1]::json;
END $$;

CREATE FUNCTION oracle.dims(a anyarray) RETURNS int[] LANGUAGE sql AS $$
    SELECT ARRAY(SELECT array_length(a, d) FROM generate_series(1, array_ndims(a)) AS d) $$;

CREATE FUNCTION oracle.plain_bounds(a anyarray) RETURNS bool LANGUAGE sql AS $$
    SELECT NOT EXISTS (SELECT FROM generate_series(1, array_ndims(a)) AS d WHERE array_lower(a, d) <> 1) $$;

CREATE FUNCTION oracle.offset_of(t timetz) RETURNS int LANGUAGE sql AS $$ SELECT extract(timezone FROM t)::int $$;

-- The expression, of type json, for a value e of a type. It yields NULL for NULL.
CREATE FUNCTION oracle.expr(of oid, e text) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    t pg_type := (SELECT p FROM pg_type p WHERE p.oid = of);
    elem oid := (SELECT p.oid FROM pg_type p WHERE p.typarray = of);
    name text := CASE WHEN t.typnamespace = 'pg_catalog'::regnamespace OR t.typname = 'hstore' THEN t.typname END;
BEGIN
    IF t.typtype = 'd' THEN
        RETURN oracle.expr(t.typbasetype, format('(%s)::%s', e,
            (SELECT format('%I.%I', n.nspname, b.typname) FROM pg_type b JOIN pg_namespace n ON n.oid = b.typnamespace WHERE b.oid = t.typbasetype)));
    ELSIF elem IS NOT NULL THEN
        RETURN format($f$(SELECT CASE WHEN a IS NULL THEN NULL WHEN array_ndims(a) IS NULL THEN '[]'::json
            WHEN NOT oracle.plain_bounds(a) THEN to_json(a::text)
            ELSE oracle.nest(ARRAY(SELECT coalesce((%s)::text, 'null') FROM (SELECT unnest(a) AS e) AS u), oracle.dims(a)) END
            FROM (SELECT %s AS a) AS s)$f$, oracle.expr(elem, 'e'), e);
    ELSIF t.typtype = 'c' THEN
        RETURN format($f$(SELECT CASE WHEN c IS NOT DISTINCT FROM NULL THEN NULL ELSE (SELECT row_to_json(r) FROM (SELECT %s) AS r) END
            FROM (SELECT %s AS c) AS s)$f$,
            coalesce((SELECT string_agg(format('%s AS %I', oracle.expr(atttypid, format('(c).%I', attname)), attname), ', ' ORDER BY attnum)
                FROM pg_attribute WHERE attrelid = t.typrelid AND attnum > 0 AND NOT attisdropped), ''), e);
    END IF;
    RETURN CASE
        WHEN name IN ('oid', 'xid', 'cid', 'xid8') THEN format('to_json((%s)::text::numeric)', e)
        WHEN name IN ('numeric', 'date', 'interval', 'int2vector', 'oidvector') THEN format('to_json((%s)::text)', e)
        WHEN name IN ('json', 'jsonb') THEN format('(%s)::text::json', e)
        WHEN name = 'bytea' THEN format($f$to_json(translate(encode(%s, 'base64'), E'\n', ''))$f$, e)
        WHEN name = 'timestamp' THEN format($f$(SELECT CASE WHEN v >= '0001-01-01' AND v < '10000-01-01' THEN to_json(to_char(v, 'YYYY-MM-DD"T"HH24:MI:SS.US'))
            ELSE to_json(v::text) END FROM (SELECT %s AS v) AS s)$f$, e)
        WHEN name = 'timestamptz' THEN format($f$(SELECT CASE WHEN v >= '0001-01-01Z' AND v < '10000-01-01Z'
            THEN to_json(to_char(v AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')) ELSE to_json(v::text) END FROM (SELECT %s AS v) AS s)$f$, e)
        WHEN name = 'time' THEN format($f$to_json(to_char((%s)::interval, 'HH24:MI:SS.US'))$f$, e)
        WHEN name = 'timetz' THEN format($f$(SELECT CASE WHEN oracle.offset_of(v) %% 60 <> 0 THEN to_json(v::text)
            ELSE to_json(to_char(v::time::interval, 'HH24:MI:SS.US') || CASE WHEN oracle.offset_of(v) < 0 THEN '-' ELSE '+' END
                || to_char(make_interval(secs => abs(oracle.offset_of(v))), 'HH24:MI')) END FROM (SELECT %s AS v) AS s)$f$, e)
        WHEN name = 'hstore' THEN format($f$(SELECT CASE WHEN h IS NULL THEN NULL ELSE (SELECT '{' || coalesce(string_agg(to_json(key)::text || ':' ||
            coalesce(to_json(value)::text, 'null'), ','), '') || '}' FROM public.each(h))::json END FROM (SELECT %s AS h) AS s)$f$, e)
        ELSE format('to_json(%s)', e)
    END;
END $$;

-- A query for the rows of a table with a column uid, among them the generated columns of the kinds that are published: uid, the columns as a JSON object, and a JSON array of
-- the names of the json and jsonb columns that hold the JSON value null.
CREATE FUNCTION oracle.rows(of regclass, generated "char"[]) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    columns text;
    nulls text;
BEGIN
    WITH RECURSIVE base (attnum, typ) AS (
        SELECT attnum, atttypid FROM pg_attribute WHERE attrelid = of AND attnum > 0 AND NOT attisdropped
        UNION ALL SELECT b.attnum, t.typbasetype FROM base b JOIN pg_type t ON t.oid = b.typ WHERE t.typtype = 'd')
    SELECT string_agg(format('%s AS %I', oracle.expr(a.atttypid, format('t.%I', a.attname)), a.attname), ', ' ORDER BY a.attnum),
        string_agg(format($f$CASE WHEN json_typeof(t.%I::text::json) = 'null' THEN %L END$f$, a.attname, a.attname), ', ' ORDER BY a.attnum)
            FILTER (WHERE EXISTS (SELECT FROM base b WHERE b.attnum = a.attnum AND b.typ IN ('json'::regtype, 'jsonb'::regtype)))
    INTO columns, nulls
    FROM pg_attribute a WHERE a.attrelid = of AND a.attnum > 0 AND NOT a.attisdropped AND (a.attgenerated = '' OR a.attgenerated = ANY (generated));
    RETURN format($f$SELECT uid, (SELECT row_to_json(r)::text FROM (SELECT %s) AS r), to_json(array_remove(ARRAY[%s]::text[], NULL)) FROM %s AS t$f$,
        columns, nulls, (SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = of));
END $$;

-- The tables of the load, one for each kind of key that walferry treats differently, and the truth
-- about them. Installed by Setup; see doc.go.

CREATE SCHEMA cdctest;

-- One row per change of a captured table, written by the transaction that made the change. n rises
-- with the changes of one key: it is drawn while that row is locked, or the unique index holds the
-- next writer of the key back, until the transaction ends. Across keys of concurrent transactions it
-- says nothing of the order of commits. Within one transaction it is the order of the changes.
CREATE TABLE cdctest.truth (
	n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	xid bigint NOT NULL DEFAULT (pg_current_xact_id()::text::numeric % 4294967296)::bigint,
	op text NOT NULL,
	schema_name text NOT NULL,
	table_name text NOT NULL,
	old_key jsonb,
	new_key jsonb,
	old_row jsonb,
	new_row jsonb
);

-- A row as docs/events.md has it, for the types in use here: a numeric is a string.
CREATE FUNCTION cdctest.event_row(r jsonb, amount numeric) RETURNS jsonb LANGUAGE sql IMMUTABLE AS
$$ SELECT CASE WHEN r ? 'amount' THEN jsonb_set(r, '{amount}', coalesce(to_jsonb(amount::text), 'null')) ELSE r END $$;

-- The arguments are the columns of the record's key; none for a table without one.
CREATE FUNCTION cdctest.note() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
	old_row jsonb;
	new_row jsonb;
	old_key jsonb;
	new_key jsonb;
	col text;
BEGIN
	IF TG_OP IN ('UPDATE', 'DELETE') THEN
		old_row := cdctest.event_row(to_jsonb(OLD), (to_jsonb(OLD)->>'amount')::numeric);
	END IF;
	IF TG_OP IN ('INSERT', 'UPDATE') THEN
		new_row := cdctest.event_row(to_jsonb(NEW), (to_jsonb(NEW)->>'amount')::numeric);
	END IF;
	FOR i IN 0 .. TG_NARGS - 1 LOOP
		col := TG_ARGV[i];
		IF old_row IS NOT NULL THEN
			old_key := coalesce(old_key, '{}') || jsonb_build_object(col, old_row->col);
		END IF;
		IF new_row IS NOT NULL THEN
			new_key := coalesce(new_key, '{}') || jsonb_build_object(col, new_row->col);
		END IF;
	END LOOP;
	INSERT INTO cdctest.truth (op, schema_name, table_name, old_key, new_key, old_row, new_row)
	VALUES (CASE TG_OP WHEN 'INSERT' THEN 'c' WHEN 'UPDATE' THEN 'u' WHEN 'DELETE' THEN 'd' ELSE 't' END,
		TG_TABLE_SCHEMA, TG_TABLE_NAME, old_key, new_key, old_row, new_row);
	RETURN NULL;
END $$;

-- Default identity. The note is stored out of line when it is long, so that an update which leaves
-- it alone does not send it.
CREATE TABLE public.accounts (
	id int PRIMARY KEY,
	v bigint NOT NULL,
	amount numeric(12, 2),
	open boolean,
	tags text[],
	doc jsonb,
	note text
);
ALTER TABLE public.accounts ALTER note SET STORAGE EXTERNAL;
CREATE TRIGGER truth AFTER INSERT OR UPDATE OR DELETE ON public.accounts FOR EACH ROW EXECUTE FUNCTION cdctest.note('id');
CREATE TRIGGER truth_truncate AFTER TRUNCATE ON public.accounts FOR EACH STATEMENT EXECUTE FUNCTION cdctest.note();

-- A composite key and names that need quoting; the topic's name cannot have the space.
CREATE SCHEMA sales;
CREATE TABLE sales."Order Lines" (
	"Order" int NOT NULL,
	line int NOT NULL,
	v bigint NOT NULL,
	note text,
	PRIMARY KEY ("Order", line)
);
CREATE TRIGGER truth AFTER INSERT OR UPDATE OR DELETE ON sales."Order Lines" FOR EACH ROW EXECUTE FUNCTION cdctest.note('Order', 'line');
CREATE TRIGGER truth_truncate AFTER TRUNCATE ON sales."Order Lines" FOR EACH STATEMENT EXECUTE FUNCTION cdctest.note();

-- Full identity: the stream flags every column, the key comes from the catalog.
CREATE TABLE public.audits (
	id int PRIMARY KEY,
	v bigint NOT NULL,
	note text
);
ALTER TABLE public.audits REPLICA IDENTITY FULL;
ALTER TABLE public.audits ALTER note SET STORAGE EXTERNAL;
CREATE TRIGGER truth AFTER INSERT OR UPDATE OR DELETE ON public.audits FOR EACH ROW EXECUTE FUNCTION cdctest.note('id');
CREATE TRIGGER truth_truncate AFTER TRUNCATE ON public.audits FOR EACH STATEMENT EXECUTE FUNCTION cdctest.note();

-- No key at all: every record goes to one partition.
CREATE TABLE public.journal (
	id int,
	v bigint NOT NULL,
	note text
);
ALTER TABLE public.journal REPLICA IDENTITY FULL;
CREATE TRIGGER truth AFTER INSERT OR UPDATE OR DELETE ON public.journal FOR EACH ROW EXECUTE FUNCTION cdctest.note();
CREATE TRIGGER truth_truncate AFTER TRUNCATE ON public.journal FOR EACH STATEMENT EXECUTE FUNCTION cdctest.note();

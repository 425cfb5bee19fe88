package oracle

import (
	"crypto/md5"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"testing"

	"github.com/walferry/walferry/internal/pgtest"
)

// Each of these was seen in a released tool of this kind.

// TestMistakeAnUndecodableRowVanishes: what cannot be written stops the stream in front of it, each time.
func TestMistakeAnUndecodableRowVanishes(t *testing.T) {
	onMajors(t, func(t *testing.T, server *pgtest.Server) {
		r := newRig(t, server.DatabaseIn("SQL_ASCII"))
		r.exec("CREATE TABLE m (uid int PRIMARY KEY, at timestamptz, d date, i interval, v text)")
		r.follow()
		s := script{r, named("m", "uid")}
		// These are what stopped or emptied others: years of five digits, before Christ, styles of the session.
		s.run(`
			- SET datestyle = 'German'; SET intervalstyle = 'sql_standard'
			d INSERT INTO m VALUES (1, '10000-01-01 00:00:00+00', '5874897-12-31', '1 year -2 days', 'a'), (2, '0044-03-15 00:00:00+00 BC', '4713-01-01 BC', '-1 mon 00:00:01', 'b')
			- SET datestyle = 'ISO'; SET intervalstyle = 'iso_8601'
			d UPDATE m SET v = 'c'`)
		// The oracle printed the first rows in the session's style: ask again.
		r.want = nil
		got := r.read()
		if len(got) != 4 || got[0].after["at"] != `"10000-01-01 00:00:00+00"` || got[1].after["d"] != `"4713-01-01 BC"` || got[0].after["i"] != `"P1Y-2D"` {
			t.Errorf("got %v", got)
		}
	})
}

// TestMistakeABytePoisonsTheStream: a "char" may hold a byte that is no character by itself, and servers
// before 16 send it as it is.
func TestMistakeABytePoisonsTheStream(t *testing.T) {
	onMajors(t, func(t *testing.T, server *pgtest.Server) {
		r := newRig(t, server.Database())
		r.exec(`CREATE TABLE m (id int PRIMARY KEY, c "char", cs "char"[])`)
		r.follow()
		r.exec(`INSERT INTO m VALUES (1, 'é'::"char", ARRAY['é', '\', 'a']::"char"[])`)
		want := object{"id": "1", "c": `"\\303"`, "cs": `["\\303","\\","a"]`}
		if got := r.read(); len(got) != 1 || got[0].after.String() != want.String() {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

// TestMistakeNaNAndInfinity: neither is NULL, nor another number, nor the year 1, nor the end of the process.
func TestMistakeNaNAndInfinity(t *testing.T) {
	onMajors(t, func(t *testing.T, server *pgtest.Server) {
		r := newRig(t, server.Database())
		r.exec("CREATE TABLE m (f4 float4, f8 float8, n numeric, d date, ts timestamp, tz timestamptz, a float8[], id int PRIMARY KEY)")
		r.follow()
		r.exec(`INSERT INTO m VALUES ('NaN', 'NaN', 'NaN', 'infinity', '-infinity', 'infinity', '{NaN,Infinity}', 1);
			UPDATE m SET f4 = '-Infinity', f8 = 'Infinity', n = '-Infinity', d = '-infinity', ts = 'infinity', tz = '-infinity'`)
		got := r.read()
		for i, want := range []object{
			{"f4": `"NaN"`, "f8": `"NaN"`, "n": `"NaN"`, "d": `"infinity"`, "ts": `"-infinity"`, "tz": `"infinity"`, "a": `["NaN","Infinity"]`, "id": "1"},
			{"f4": `"-Infinity"`, "f8": `"Infinity"`, "n": `"-Infinity"`, "d": `"-infinity"`, "ts": `"infinity"`, "tz": `"-infinity"`, "a": `["NaN","Infinity"]`, "id": "1"},
		} {
			if len(got) != 2 || got[i].after.String() != want.String() {
				t.Fatalf("got %v, want %v", got, want)
			}
		}
	})
}

// TestMistakeNumbersAreRounded: no integer of a document, no int8 and no numeric passes through a double.
func TestMistakeNumbersAreRounded(t *testing.T) {
	onMajors(t, func(t *testing.T, server *pgtest.Server) {
		r := newRig(t, server.Database())
		r.exec("CREATE TABLE m (id int8 PRIMARY KEY, j jsonb, n numeric(30,10), ns numeric[])")
		r.follow()
		r.exec(`INSERT INTO m VALUES (9007199254740993, '{"n": 12345678901234567891, "m": [9007199254740993, 0.1000000000000000055]}', 12345678901234567890.0123456789, '{9007199254740993.1}')`)
		want := object{
			"id": "9007199254740993", "j": `{"m": [9007199254740993, 0.1000000000000000055], "n": 12345678901234567891}`,
			"n": `"12345678901234567890.0123456789"`, "ns": `["9007199254740993.1"]`,
		}
		if got := r.read(); len(got) != 1 || got[0].after.String() != want.String() || got[0].key != "{id=9007199254740993}" {
			t.Errorf("got %v, want %v", got, want)
		}
	})
}

// TestMistakeTheOldKeyIsNotTold: a change of the key ends the old key, by a delete and a tombstone under it.
func TestMistakeTheOldKeyIsNotTold(t *testing.T) {
	onMajors(t, func(t *testing.T, server *pgtest.Server) {
		r := newRig(t, server.Database())
		r.exec("CREATE TABLE m (id numeric PRIMARY KEY, v text)")
		r.exec("INSERT INTO m VALUES (1.0, 'a')")
		r.follow()
		r.exec("UPDATE m SET id = 2; UPDATE m SET id = 2.00")
		var told []string
		for _, g := range r.read() {
			told = append(told, fmt.Sprintf("%s %s %v", g.op, g.key, g.oldKey))
		}
		want := `[d {id="1.0"} {}  {id="1.0"} {} u {id="2"} {id="1.0"} d {id="2"} {}  {id="2"} {} u {id="2.00"} {id="2"}]`
		if fmt.Sprint(told) != want {
			t.Errorf("got  %v\nwant %s", told, want)
		}
	})
}

// TestMistakeARollbackTakesMoreThanItsOwn: ROLLBACK TO SAVEPOINT takes back what came after the savepoint,
// and nothing of what stood before, also where the transaction was spilled to disk.
func TestMistakeARollbackTakesMoreThanItsOwn(t *testing.T) {
	onMajors(t, func(t *testing.T, server *pgtest.Server) {
		r := newRig(t, server.Database())
		r.exec("CREATE TABLE m (uid int PRIMARY KEY, v text); ALTER DATABASE " + r.db.Name + " SET logical_decoding_work_mem = '64kB'")
		r.follow()
		r.exec(`BEGIN; INSERT INTO m SELECT i, 'kept' FROM generate_series(1, 2000) i;
				SAVEPOINT a; INSERT INTO m SELECT i, 'gone' FROM generate_series(2001, 4000) i; DELETE FROM m WHERE uid <= 1000; ROLLBACK TO a;
				INSERT INTO m SELECT i, 'kept' FROM generate_series(4001, 5000) i;
				SAVEPOINT b; SAVEPOINT c; UPDATE m SET v = 'gone'; ROLLBACK TO c; RELEASE b; COMMIT;
				BEGIN; INSERT INTO m SELECT i, 'gone' FROM generate_series(6000, 9000) i; ROLLBACK`)
		for _, is := range r.rows("m") {
			r.want.insert(named("m", "uid"), is)
		}
		if n := r.check(); n != 3000 {
			t.Errorf("%d rows, want 3000", n)
		}
	})
}

// TestMistakeALargeRowIsDropped: a row of 1.5 MB comes whole, and one of 100 MB where WALFERRY_FULL asks for it.
func TestMistakeALargeRowIsDropped(t *testing.T) {
	sizes := []int{0, 1_500_000}
	if os.Getenv("WALFERRY_FULL") != "" {
		sizes = append(sizes, 100_000_000)
	}
	onMajors(t, func(t *testing.T, server *pgtest.Server) {
		r := newRig(t, server.Database())
		r.exec("CREATE TABLE m (id int PRIMARY KEY, b bytea, t text)")
		r.follow()
		for _, size := range sizes {
			r.exec(fmt.Sprintf(`INSERT INTO m SELECT %d, convert_to(left(s, %[1]d), 'UTF8'), left(s, %[1]d)
				FROM (SELECT repeat('0123456789"', %[1]d / 11 + 1) AS s) AS x`, size))
			sum := r.text("SELECT md5(b) || md5(t) FROM m WHERE id = " + fmt.Sprint(size))
			got := r.read()
			if len(got) != 1 {
				t.Fatalf("%d records of a row of %d bytes", len(got), size)
			}
			var bytes []byte
			var text string
			err := json.Unmarshal([]byte(got[0].after["b"]), &bytes)
			if err == nil {
				err = json.Unmarshal([]byte(got[0].after["t"]), &text)
			}
			if is := fmt.Sprintf("%x%x", md5.Sum(bytes), md5.Sum([]byte(text))); err != nil || is != sum {
				t.Errorf("%d bytes: sum %s, %v, want %s", size, is, err, sum)
			}
			if n := base64.StdEncoding.EncodedLen(size) + 2; len(got[0].after["b"]) != n {
				t.Errorf("%d characters, want %d", len(got[0].after["b"]), n)
			}
		}
	})
}

// TestMistakeADeleteIsKeyedByTheTable: every record of a row has the row's key, so that all go one way,
// under each identity that can tell it.
func TestMistakeADeleteIsKeyedByTheTable(t *testing.T) {
	onMajors(t, func(t *testing.T, server *pgtest.Server) {
		r := newRig(t, server.Database())
		r.exec("CREATE TABLE m (b text, a int, code int NOT NULL UNIQUE, v text, PRIMARY KEY (a, b))")
		r.follow()
		for identity, key := range map[string]string{"DEFAULT": `{a=1 b="x"}`, "FULL": `{a=1 b="x"}`, "USING INDEX m_code_key": `{code=7}`} {
			r.exec("ALTER TABLE m REPLICA IDENTITY " + identity + "; INSERT INTO m VALUES ('x', 1, 7, 'v'); UPDATE m SET v = 'w'; DELETE FROM m")
			got := r.read()
			if len(got) != 4 {
				t.Errorf("%s: %d records", identity, len(got))
			}
			for _, g := range got {
				if g.key != key {
					t.Errorf("%s: the key of %q is %s, want %s", identity, g.op, g.key, key)
				}
			}
		}
	})
}

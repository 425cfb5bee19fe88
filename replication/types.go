package replication

import "github.com/walferry/walferry/event"

// builtin is a type that every server has under the same OID.
type builtin struct {
	oid, array uint32 // array is 0 where there is no array type of it
	name       string
	kind       event.Kind
}

// builtinList is pg_type of Postgres 18 for the types a column can have. OIDs below 10000 are
// assigned by hand and never reused; a type that is not here is looked up in the catalog.
var builtinList = [...]builtin{
	{16, 1000, "bool", event.KindBool},
	{17, 1001, "bytea", event.KindBytea},
	{18, 1002, "char", event.KindChar},
	{19, 1003, "name", event.KindText},
	{20, 1016, "int8", event.KindInt8},
	{21, 1005, "int2", event.KindInt},
	{22, 1006, "int2vector", event.KindText},
	{23, 1007, "int4", event.KindInt},
	{24, 1008, "regproc", event.KindText},
	{25, 1009, "text", event.KindText},
	{26, 1028, "oid", event.KindInt},
	{27, 1010, "tid", event.KindText},
	{28, 1011, "xid", event.KindInt},
	{29, 1012, "cid", event.KindInt},
	{30, 1013, "oidvector", event.KindText},
	{114, 199, "json", event.KindJSON},
	{142, 143, "xml", event.KindText},
	{600, 1017, "point", event.KindText},
	{601, 1018, "lseg", event.KindText},
	{602, 1019, "path", event.KindText},
	{603, 1020, "box", event.KindText},
	{604, 1027, "polygon", event.KindText},
	{628, 629, "line", event.KindText},
	{650, 651, "cidr", event.KindText},
	{700, 1021, "float4", event.KindFloat},
	{701, 1022, "float8", event.KindFloat},
	{718, 719, "circle", event.KindText},
	{774, 775, "macaddr8", event.KindText},
	{790, 791, "money", event.KindText},
	{829, 1040, "macaddr", event.KindText},
	{869, 1041, "inet", event.KindText},
	{1033, 1034, "aclitem", event.KindText},
	{1042, 1014, "bpchar", event.KindText},
	{1043, 1015, "varchar", event.KindText},
	{1082, 1182, "date", event.KindDate},
	{1083, 1183, "time", event.KindTime},
	{1114, 1115, "timestamp", event.KindTimestamp},
	{1184, 1185, "timestamptz", event.KindTimestampTZ},
	{1186, 1187, "interval", event.KindInterval},
	{1266, 1270, "timetz", event.KindTimeTZ},
	{1560, 1561, "bit", event.KindText},
	{1562, 1563, "varbit", event.KindText},
	{1700, 1231, "numeric", event.KindNumeric},
	{1790, 2201, "refcursor", event.KindText},
	{2202, 2207, "regprocedure", event.KindText},
	{2203, 2208, "regoper", event.KindText},
	{2204, 2209, "regoperator", event.KindText},
	{2205, 2210, "regclass", event.KindText},
	{2206, 2211, "regtype", event.KindText},
	{2950, 2951, "uuid", event.KindText},
	{2970, 2949, "txid_snapshot", event.KindText},
	{3220, 3221, "pg_lsn", event.KindText},
	{3614, 3643, "tsvector", event.KindText},
	{3615, 3645, "tsquery", event.KindText},
	{3734, 3735, "regconfig", event.KindText},
	{3769, 3770, "regdictionary", event.KindText},
	{3802, 3807, "jsonb", event.KindJSON},
	{3904, 3905, "int4range", event.KindText},
	{3906, 3907, "numrange", event.KindText},
	{3908, 3909, "tsrange", event.KindText},
	{3910, 3911, "tstzrange", event.KindText},
	{3912, 3913, "daterange", event.KindText},
	{3926, 3927, "int8range", event.KindText},
	{4072, 4073, "jsonpath", event.KindText},
	{4089, 4090, "regnamespace", event.KindText},
	{4096, 4097, "regrole", event.KindText},
	{4191, 4192, "regcollation", event.KindText},
	{4451, 6150, "int4multirange", event.KindText},
	{4532, 6151, "nummultirange", event.KindText},
	{4533, 6152, "tsmultirange", event.KindText},
	{4534, 6153, "tstzmultirange", event.KindText},
	{4535, 6155, "datemultirange", event.KindText},
	{4536, 6157, "int8multirange", event.KindText},
	{5038, 5039, "pg_snapshot", event.KindText},
	{5069, 271, "xid8", event.KindInt8},
}

// builtinTypes are the built-in types and their arrays by OID.
func builtinTypes() map[uint32]*event.Type {
	all := make(map[uint32]*event.Type, 2*len(builtinList))
	for _, b := range builtinList {
		t := &event.Type{OID: b.oid, Schema: "pg_catalog", Name: b.name, Kind: b.kind, Delim: ','}
		if b.name == "box" {
			t.Delim = ';' // the one type whose text form holds commas outside of quotes
		}
		all[b.oid] = t
		if b.array != 0 {
			all[b.array] = &event.Type{OID: b.array, Schema: "pg_catalog", Name: "_" + b.name, Kind: event.KindArray, Elem: t, Delim: t.Delim}
		}
	}
	return all
}

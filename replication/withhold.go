package replication

import (
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walferry/walferry/event"
)

// withheld is a server error whose words are not repeated, because they may hold a value of a row.
// The error itself stays in the chain.
type withheld struct{ pg *pgconn.PgError }

func (e *withheld) Error() string {
	return "the server's words may hold a value of a row and are withheld (SQLSTATE " + e.pg.Code + ")"
}
func (e *withheld) Unwrap() error { return e.pg }

// wordsHoldData tells whether an error of this SQLSTATE quotes data. Those of class 22 (data exceptions)
// print the bytes or the text that they stumbled over, and those of class 23 (violated constraints) name
// the row in their detail. 22023 is the exception: it is what the server says to a wrong option of a
// command, which is ours.
func wordsHoldData(sqlstate string) bool {
	class := sqlstate[:min(2, len(sqlstate))]
	return (class == "22" || class == "23") && sqlstate != "22023"
}

// associatedLSN finds the place of the change that the output plugin was called for in an error's
// context, which ends with it: slot "walferry_shop", output plugin "pgoutput", in the change callback,
// associated LSN 16/B374D848. Zero where there is none.
func associatedLSN(where string) event.LSN {
	words := strings.Fields(where)
	if len(words) == 0 {
		return 0
	}
	lsn, err := event.ParseLSN(words[len(words)-1])
	if err != nil {
		return 0
	}
	return lsn
}

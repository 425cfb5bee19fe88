package replication

import (
	"cmp"
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// answerIn is how long a server gets for an answer: a little more than it gives itself by
// statementTimeout. A connection that something between here and there has forgotten answers never,
// and whoever asks would wait for it.
const answerIn = 35 * time.Second

// inTime bounds the wait for an answer.
func (c Config) inTime(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, cmp.Or(c.answerIn, answerIn))
}

// patience bounds each statement of an SQL connection, as pgx calls it: before the statement is sent, and
// once its last row was read. It traces nothing.
type patience struct{ cfg Config }

// giveUp is the key of what ends the context of a statement.
type giveUp struct{}

func (p patience) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	ctx, cancel := p.cfg.inTime(ctx)
	return context.WithValue(ctx, giveUp{}, cancel)
}

func (patience) TraceQueryEnd(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryEndData) {
	if cancel, ok := ctx.Value(giveUp{}).(context.CancelFunc); ok {
		cancel()
	}
}

package sink

import "github.com/twmb/franz-go/pkg/kgo"

// IsOpaque tells whether the brokers refused to say how far the last transaction was.
func IsOpaque(t *Transactional) bool { return t.txn.claim.Load().opaque }

// ClaimWith claims with a client that has one more hook.
func ClaimWith(t *Transactional, hook kgo.Hook, claim func()) {
	before := t.options
	defer func() { t.options = before }()
	t.options = append(before[:len(before):len(before)], kgo.WithHooks(hook))
	claim()
}

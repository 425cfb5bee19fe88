package sink

// IsOpaque tells whether the brokers refused to say how far the last transaction was.
func IsOpaque(t *Transactional) bool { return t.txn.claim.Load().opaque }

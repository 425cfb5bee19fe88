// Package checkpoint keeps what is durable: the tracker that turns acknowledgements into a low-water mark, the record, the judgement of a record against a server, and the stores.
package checkpoint

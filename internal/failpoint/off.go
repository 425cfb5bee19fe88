//go:build !failpoints

package failpoint

import "github.com/twmb/franz-go/pkg/kgo"

// Here is a place to die at; in this build nobody does.
func Here(Point) {}

// Kafka returns the options by which CommitSent is noticed: none in this build.
func Kafka() []kgo.Opt { return nil }

package pipeline

import (
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/walferry/walferry/checkpoint"
	"github.com/walferry/walferry/event"
	"github.com/walferry/walferry/fault"
)

// TestASlotThatAnotherInstanceMakesMeanwhile: two start at once, and one has lost the lock of the set-up. The other
// makes the slot, streams and saves between any two looks of the first; that one is refused only when the slot is
// really not there.
func TestASlotThatAnotherInstanceMakesMeanwhile(t *testing.T) {
	for _, at := range []string{"load", "acquire"} {
		for _, gone := range []bool{false, true} {
			t.Run(fmt.Sprintf("at %s, dropped again: %t", at, gone), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					r := &rig{source: newFakeSource(tx{0x100, 0x120, 1}), store: &fakeStore{}}
					r.source.slot = nil
					makes := func() {
						r.store.record = &checkpoint.Record{Version: 1, Origin: origin, Timeline: 1, Fingerprint: "f1", Instance: "another", End: 0x20}
						if !gone {
							r.source.slot = &event.Slot{Plugin: "pgoutput", Database: "shop", Confirmed: 0x20}
						}
					}
					if at == "load" {
						r.store.meanwhile.load = makes
					} else {
						r.store.meanwhile.acquire = makes
					}
					r.start(t)
					if gone {
						if err := <-r.ended; !fault.Is(err, fault.SlotMissing) {
							t.Errorf("ended with %v", err)
						}
						return
					}
					time.Sleep(5 * time.Second)
					if err := r.finish(); err != nil {
						t.Fatal(err)
					}
					if got := r.store.stored(); got.End != 0x120 || slices.ContainsFunc(r.store.saves, func(c checkpoint.Record) bool { return c.Intent }) {
						t.Errorf("saved %+v", r.store.saves)
					}
				})
			})
		}
	}
}

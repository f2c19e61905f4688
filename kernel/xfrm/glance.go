package xfrm

import (
	"context"
	"fmt"

	"golang.org/x/sys/unix"

	"sasyncd/kernel/netlink"
	"sasyncd/sync/sadb"
)

// Glances returns what a Scan tells of the SAs that keys name, in the order of keys.
// Those that are not there are left out. It waits for no other reading. When ctx ends,
// what was read until then comes with its error.
func (k *Kernel) Glances(ctx context.Context, keys []sadb.SAKey) ([]sadb.Reading, error) {
	s := scanner{decoder: newDecoder(k.names.Name), seed: k.scanSeed, now: k.now().Unix()}
	s.chunk.Readings = make([]sadb.Reading, 0, len(keys))
	for len(keys) > 0 {
		if err := ctx.Err(); err != nil {
			return s.chunk.Readings, fmt.Errorf("read sas: %w", err)
		}
		part := keys[:min(batchMessages, len(keys))]
		keys = keys[len(part):]
		var failed error
		note := func(err error) {
			if failed == nil {
				failed = err
			}
		}
		err := k.glance.Questions(func(b *netlink.Batch) {
			for _, key := range part {
				b.Begin(msgGetSA, 0)
				b.Data = appendSAID(b.Data, key)
				b.End()
			}
		}, func(_ int, m netlink.Message) {
			if m.Type == msgNewSA {
				note(s.add(m.Payload))
			}
		}, func(i int, res netlink.Result) {
			if res.Errno != unix.ESRCH {
				note(fmt.Errorf("%s: %w", part[i], res.Err()))
			}
		})
		s.raw = s.raw[:0] // valid no longer
		if err != nil {
			failed = err
		}
		if failed != nil {
			return s.chunk.Readings, fmt.Errorf("read sas: %w", failed)
		}
	}
	return s.chunk.Readings, nil
}

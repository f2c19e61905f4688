package matrix

import (
	"context"
	"errors"
	"sync"
	"time"

	"sasyncd/carp/vip"
	"sasyncd/kernel/kerneltest"
	"sasyncd/sync/sadb"
	"sasyncd/sync/sadb/sadbtest"
	"sasyncd/tests/harness/lab"
)

// forgetQueues drops the packets that wait for neighbours, which a machine loses
// with its power: the namespace has kept them.
func (s *side) forgetQueues() {
	var links []int
	for _, p := range s.Ports() {
		l, err := s.Netlink().LinkByName(p.Inner)
		if err != nil {
			s.t.Fatalf("find %s of %s: %v", p.Inner, s.Name, err)
		}
		links = append(links, l.Attrs().Index)
	}
	var hops *vip.NextHops
	err := s.Do(func() (err error) { hops, err = vip.NewNextHops(); return err })
	if err == nil {
		err = hops.Purge(links)
		hops.Close()
	}
	if err != nil {
		s.t.Fatalf("forget what waits on %s: %v", s.Name, err)
	}
}

// apply changes a gateway's tables as an IKE daemon does.
func (r *row) apply(s *side, kind sadb.OpKind, sas ...*sadb.SA) error {
	ops := make([]sadb.Op, len(sas))
	for i, sa := range sas {
		ops[i] = sadb.Op{Kind: kind, SA: sa}
	}
	return errors.Join(s.kernel.Apply(context.Background(), ops)...)
}

// sas makes SAs of the group that carry nothing, outbound.
func (r *row) sas(n int) []*sadb.SA {
	list := make([]*sadb.SA, n)
	for i := range list {
		r.spi += 1 + r.rand.Uint32N(1<<10) // orderly SPIs would share one hash bucket
		sa := kerneltest.SampleESN(lab.VIPOut.String(), "198.51.100.1", r.spi)
		sa.Key.Dst, sa.Reqid = sadbtest.Addr4(r.rand), 1000+r.spi
		sa.AEAD.Key = sadb.NewSecret(sadbtest.Bytes(r.rand, 20))
		list[i] = sa
	}
	return list
}

// storm rekeys on a gateway until it is stopped.
func (r *row) storm(s *side) (stop func() (int, error)) {
	quit, done := make(chan struct{}), make(chan error, 1)
	n := 0
	lists := make([][]*sadb.SA, 4096)
	for i := range lists {
		lists[i] = r.sas(2)
	}
	go func() {
		tick := time.NewTicker(10 * time.Millisecond)
		defer tick.Stop()
		var err error
		for {
			select {
			case <-quit:
				done <- err
				return
			case <-tick.C:
			}
			if n < len(lists) && err == nil {
				err = r.apply(s, sadb.OpAddSA, lists[n]...)
				if n >= 20 && err == nil {
					// What a fault has emptied has nothing to be deleted.
					_ = r.apply(s, sadb.OpDeleteSA, lists[n-20]...)
				}
				n++
			}
		}
	}()
	return sync.OnceValues(func() (int, error) { close(quit); err := <-done; return n, err })
}

// negotiate gives the tunnels fresh SAs, on a gateway and at the remote end.
func (r *row) negotiate(s *side) {
	r.t.Helper()
	for _, tn := range r.tunnels {
		r.dead[tn.SPIOut], r.dead[tn.SPIIn] = true, true
	}
	r.tunnels = lab.Negotiate(s.Node, r.RGW, r.tunnels)
}

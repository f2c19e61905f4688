package engine

import (
	"fmt"
	"net/netip"
	"time"

	"sasyncd/carp/vip"
)

// fakes stand in for the kernel.
type fakes struct {
	mended     FenceMended      // what Mend of the fence says
	routes     []netip.Addr     // what Mend of the addresses says
	configured []vip.Configured // what Configured says
	log        []string
	fail       error
	late       []netip.Addr // of Acquire

	during func(call string) // each
}

func (f *fakes) note(call string) {
	f.log = append(f.log, call)
	if f.during != nil {
		f.during(call)
	}
}

func (f *fakes) Set(...netip.Addr) error { f.note("fence"); return f.fail }

func (f *fakes) Clear(int, ...netip.Addr) error { f.note("unfence"); return f.fail }

func (f *fakes) Purge([]int) error { f.note("purge"); return nil }

func (f *fakes) Own([]vip.Address) error { f.note("own"); return nil }

func (f *fakes) Keep([]int) error { return nil }

func (f *fakes) Announce([]vip.Address) error { f.note("announce"); return nil }

func (f *fakes) Release([]vip.Address) error { f.note("release"); return nil }

func (f *fakes) Term(string) uint64 { return 7 }

func (f *fakes) SetTerm(string, uint64) {}

func (f *fakes) Acquire([]vip.Address, time.Duration) ([]netip.Addr, error) {
	f.note("acquire")
	return f.late, nil
}

type fakeFence struct{ *fakes }

func (f fakeFence) Forget(...netip.Addr) error { f.note("forget"); return nil }

func (f fakeFence) Closed(...netip.Addr) (bool, error) { return false, nil }

func (f fakeFence) Mend(vips ...netip.Addr) (FenceMended, error) {
	f.note(fmt.Sprintf("mend fence of %d", len(vips)))
	return f.mended, f.fail
}

func (f fakeFence) Renew(time.Duration) error { f.note("renew fence"); return nil }

type fakeAddresses struct{ *fakes }

func (f fakeAddresses) Mend(as []vip.Address, _ time.Duration) ([]netip.Addr, error) {
	f.log = append(f.log, fmt.Sprintf("mend %d addresses", len(as)))
	return f.routes, nil
}

func (f fakeAddresses) Configured([]netip.Addr) ([]vip.Configured, error) { return f.configured, nil }

func (f fakeAddresses) Present() (map[netip.Addr]bool, error) {
	return map[netip.Addr]bool{netip.MustParseAddr("10.0.0.9"): true}, f.fail
}

func (f fakeAddresses) Renew([]vip.Address, time.Duration) error {
	f.note("renew addresses")
	return nil
}

package rules

import (
	"errors"
	"fmt"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"sasyncd/kernel/dump"
)

// sinkMTU lets packets of all sizes reach the device: a smaller one would have hosts
// told of it.
const sinkMTU = 65535

// sinkDevice is an interface that has the sink's name.
type sinkDevice struct {
	link      netlink.Link // nil: there is none
	index     uint32
	dummy, up bool
}

func (s *Sink) device() (d sinkDevice, err error) {
	err = dump.Retry(func() (err error) {
		d.link, err = s.nl.LinkByName(SinkDevice)
		return err
	})
	if _, absent := errors.AsType[netlink.LinkNotFoundError](err); absent {
		return sinkDevice{}, nil
	}
	if err != nil {
		return d, fmt.Errorf("find device %s: %w", SinkDevice, err)
	}
	a := d.link.Attrs()
	d.index, d.dummy, d.up = uint32(a.Index), d.link.Type() == "dummy", a.RawFlags&unix.IFF_UP != 0
	return d, nil
}

// ensureDevice makes the device and sets it up, where it is not, and returns its index.
func (s *Sink) ensureDevice() (uint32, error) {
	d, err := s.device()
	if err != nil {
		return 0, err
	}
	if d.link == nil {
		a := netlink.NewLinkAttrs()
		a.Name, a.MTU = SinkDevice, sinkMTU
		err := s.nl.LinkAdd(&netlink.Dummy{LinkAttrs: a})
		switch {
		case errors.Is(err, unix.EOPNOTSUPP):
			return 0, fmt.Errorf("make device %s: this kernel has no dummy devices: load the module dummy, or use a "+
				"kernel with CONFIG_DUMMY: %w", SinkDevice, err)
		case err != nil && !errors.Is(err, unix.EEXIST):
			return 0, fmt.Errorf("make device %s: %w", SinkDevice, err)
		}
		if d, err = s.device(); err != nil {
			return 0, err
		}
	}
	switch {
	case d.link == nil:
		return 0, fmt.Errorf("find device %s: somebody has removed it again", SinkDevice)
	case !d.dummy:
		return 0, fmt.Errorf("use device %s: it is of type %s and not dummy: rename it", SinkDevice, d.link.Type())
	case d.up:
		return d.index, nil
	}
	// Nobody is there to hear of a link-local address. A kernel without IPv6 makes none.
	_ = s.nl.LinkSetIP6AddrGenMode(d.link, nl6None)
	if err := s.nl.LinkSetUp(d.link); err != nil {
		return 0, fmt.Errorf("set device %s up: %w", SinkDevice, err)
	}
	return d.index, nil
}

// nl6None is IN6_ADDR_GEN_MODE_NONE of linux/if_link.h.
const nl6None = 1

func (s *Sink) removeDevice() error {
	d, err := s.device()
	if err != nil || !d.dummy {
		return err
	}
	if err := s.nl.LinkDel(d.link); err != nil && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("remove device %s: %w", SinkDevice, err)
	}
	return nil
}

package sadb

import (
	"errors"
	"math"
)

// ErrNoCPU is what the error of an operation is with which a kernel refuses the SA of a
// CPU that it cannot have.
var ErrNoCPU = errors.New("the kernel does not have this CPU")

// Features is what a kernel knows of what an SA may have. What it does not know it
// ignores without a word, and an SA is then another than the one that was asked for.
type Features struct {
	Direction bool // XFRMA_SA_DIR, mainline 6.10
	Keepalive bool // XFRMA_NAT_KEEPALIVE_INTERVAL, mainline 6.11
	PCPU      bool // XFRMA_SA_PCPU, mainline 6.13
	// CPUs is how many the kernel can have: it refuses SAs of CPUs with this number and above.
	CPUs uint32
}

// AllFeatures are those of a kernel that knows all, with any number of CPUs.
func AllFeatures() Features {
	return Features{Direction: true, Keepalive: true, PCPU: true, CPUs: math.MaxUint32}
}

// Lack is a set of what an SA goes without on a kernel that cannot hold it.
type Lack uint8

// What an SA can go without. Packets are treated the same without its direction: the kernel
// only checks it.
const (
	LackDirection Lack = 1 << iota
	LackKeepalive      // the kernel sends no NAT keepalives for it
	LackPCPU           // all CPUs use it
)

// Names returns the names of what is in the set, as users know them.
func (l Lack) Names() (list []string) {
	for i, name := range [...]string{"direction", "NAT keepalive", "CPU number"} {
		if l&(1<<i) != 0 {
			list = append(list, name)
		}
	}
	return list
}

// unusedWindow is the window of an outbound ESN SA on a kernel that knows no directions: it
// wants one for each ESN SA. Nothing that is sent depends on it.
const unusedWindow = 32

// Fit returns sa as the kernel can hold it, and what it then goes without: sa itself, if
// there is nothing that the kernel does not know. It changes what the SA does to no packet.
func (f Features) Fit(sa *SA) (*SA, Lack) {
	var l Lack
	if sa.KernelDir != DirUnknown && !f.Direction {
		l |= LackDirection
	}
	// A kernel that knows no direction refuses or ignores what needs one.
	if sa.Keepalive != 0 && !(f.Keepalive && f.Direction) {
		l |= LackKeepalive
	}
	if sa.PCPU != nil && !(f.PCPU && f.Direction && *sa.PCPU < f.CPUs) {
		l |= LackPCPU
	}
	if l == 0 {
		return sa, 0
	}
	c := *sa
	if l&LackDirection != 0 {
		if c.KernelDir == DirOut && c.ESN() && c.Window == 0 {
			c.Window, c.BitmapLen, c.Bitmap = unusedWindow, 1, nil
		}
		c.KernelDir = DirUnknown
	}
	if l&LackKeepalive != 0 {
		c.Keepalive = 0
	}
	if l&LackPCPU != 0 {
		c.PCPU = nil
	}
	return &c, l
}

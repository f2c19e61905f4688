package kerneltest

import (
	"slices"

	"golang.org/x/sys/unix"

	"sasyncd/sync/sadb"
)

// ABI is what a kernel knows of what an SA may have.
type ABI struct {
	sadb.Features
	IPTFS IPTFS
}

// IPTFS is what a kernel makes of the mode IP-TFS.
type IPTFS uint8

const (
	IPTFSUnknown IPTFS = iota // refuses it: older than 6.14
	IPTFSAbsent               // takes the SA without its settings: built without CONFIG_XFRM_IPTFS
	IPTFSBuilt
)

// Debian12 is the kernel 6.1, which knows nothing of directions.
func Debian12() ABI { return ABI{} }

// SetABI makes the fake a kernel of another release. It is called before the tables are used.
func (k *Kernel) SetABI(a ABI) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.abi = a
}

// ABI returns what the fake knows, its CPUs included.
func (k *Kernel) ABI() ABI {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.abi
}

// Features returns what the fake knows, as the real one does: without the number of its CPUs.
func (k *Kernel) Features() sadb.Features {
	f := k.ABI().Features
	f.CPUs = sadb.AllFeatures().CPUs
	return f
}

// understood returns the SA of an operation as the kernel reads it: types of attributes above
// its highest are ignored. The error is its refusal.
func (k *Kernel) understood(op sadb.Op) (*sadb.SA, error) {
	c := *op.SA
	if !k.abi.Direction {
		c.KernelDir = sadb.DirUnknown
	}
	if !k.abi.Keepalive {
		c.Keepalive = 0
	}
	if !k.abi.PCPU {
		c.PCPU = nil
	}
	c.Unknown = nil
	for _, a := range op.SA.Unknown {
		if a.Type <= highestOld || k.abi.IPTFS == IPTFSBuilt && a.IPTFS() {
			c.Unknown = append(c.Unknown, a)
		}
	}
	errno, text := checkSA(&c), ""
	if errno == 0 {
		errno, text = k.checkDirection(&c)
	}
	if errno == 0 {
		errno, text = k.checkMode(op.SA)
	}
	if errno != 0 {
		err := refuse(op, errno)
		err.Text = text
		return nil, err
	}
	return &c, nil
}

// highestOld is XFRMA_MTIMER_THRESH, the highest type of the kernel 6.1.
const highestOld = 32

// Flags of XFRMA_SA_EXTRA_FLAGS.
const (
	xflagDontEncapDSCP = 1
	xflagMayWrap       = sadb.ExtraMayWrap
)

// checkDirection is what verify_newsa_info, verify_replay and xfrm_state_construct refuse for
// an SA's direction, with their words.
func (k *Kernel) checkDirection(in *sadb.SA) (unix.Errno, string) {
	out, inbound := in.KernelDir == sadb.DirOut, in.KernelDir == sadb.DirIn
	seen := in.Seq != 0 || slices.ContainsFunc(in.Bitmap, func(w uint32) bool { return w != 0 })
	for _, r := range []struct {
		when bool
		text string
	}{
		{in.KernelDir > sadb.DirOut, "integer out of range"},
		{out && in.Flags&sadb.FlagDecapDSCP != 0, "Flag DECAP_DSCP should not be set for output SA"},
		{out && in.Flags&sadb.FlagICMP != 0, "Flag ICMP should not be set for output SA"},
		{out && in.Flags&sadb.FlagWildRecv != 0, "Flag WILDRECV should not be set for output SA"},
		{out && (in.Window != 0 || in.BitmapLen != 0), "Replay window should be 0 for output SA"},
		{out && seen, "Replay seq and bitmap should be 0 for output SA"},
		{out && in.MappingTimer != 0, "MTIMER_THRESH should not be set on output SA"},
		{inbound && in.Flags&sadb.FlagNoPMTU != 0, "Flag NOPMTUDISC should not be set for input SA"},
		{inbound && in.Extra&xflagDontEncapDSCP != 0, "Flag DONT_ENCAP_DSCP should not be set for input SA"},
		{inbound && in.Extra&xflagMayWrap != 0, "Flag OSEQ_MAY_WRAP should not be set for input SA"},
		{inbound && (in.ESN() || in.BitmapLen > 0) && in.OSeq != 0,
			"Replay oseq and oseq_hi should be 0 for input SA"},
		{in.Keepalive != 0 && !out, "NAT keepalive is only supported for outbound SAs"},
		{in.Keepalive != 0 && in.Encap == nil, "NAT keepalive is only supported for UDP encapsulation"},
		{in.PCPU != nil && in.KernelDir == sadb.DirUnknown, "SA_PCPU only supported with SA_DIR"},
	} {
		if r.when {
			return unix.EINVAL, r.text
		}
	}
	if in.PCPU != nil && *in.PCPU >= k.abi.CPUs {
		return unix.ERANGE, "pCPU number too big"
	}
	return 0, ""
}

// checkMode is what it refuses for an SA's mode.
func (k *Kernel) checkMode(in *sadb.SA) (unix.Errno, string) {
	settings := k.abi.IPTFS != IPTFSUnknown && slices.ContainsFunc(in.Unknown, sadb.Attr.IPTFS)
	switch in.Mode {
	case sadb.ModeTransport, sadb.ModeTunnel, sadb.ModeRO, sadb.ModeBEET:
		if settings {
			return unix.EINVAL, "IP-TFS options can only be used in IP-TFS mode"
		}
		return 0, ""
	case sadb.ModeIPTFS:
		switch {
		case k.abi.IPTFS == IPTFSUnknown:
		case in.KernelDir == sadb.DirUnknown:
			return unix.EINVAL, "IP-TFS mode requires in or out direction attribute"
		default:
			return 0, ""
		}
	}
	return unix.EINVAL, "Unsupported mode"
}

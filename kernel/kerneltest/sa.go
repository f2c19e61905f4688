package kerneltest

import (
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"sasyncd/kernel/xfrm"
	"sasyncd/sync/sadb"
)

// sa is an SA in the table: its configuration and counters, with dates in Unix
// seconds as the real kernel keeps them.
type sa struct {
	sadb.SA
	config      uint64 // another one with each change of the configuration
	added, used int64  // used 0: never
	gone        bool   // no longer in the table
	dying       bool   // its soft limit has been announced
	timer       *time.Timer
}

// view returns a copy as a dump shows it.
func (s *sa) view(now int64) *sadb.SA {
	c := s.SA
	c.Bitmap = slices.Clone(s.Bitmap)
	c.Age, c.Used, c.UseAge = uint64(max(0, now-s.added)), s.used != 0, 0
	if s.used != 0 {
		c.UseAge = uint64(max(0, now-s.used))
	}
	return &c
}

// reading returns what a scan shows.
func (s *sa) reading(now int64) sadb.Reading {
	v := s.view(now)
	return sadb.Reading{Key: v.Key, Config: s.config, Counters: v.Counters, Age: v.Age, Used: v.Used, UseAge: v.UseAge,
		Encap: v.Encap != nil, Tag: v.Tag}
}

// changed gives the SA another fingerprint.
func (t *tables) changed(s *sa) {
	t.configs++
	s.config = t.configs
}

// locate finds an SA as __xfrm_state_lookup does: the marks of the table's SAs
// decide, so that one without a mark answers for every mark.
func (t *tables) locate(key sadb.SAKey) *sa {
	mark := key.Mark.Value & key.Mark.Mask
	for _, s := range t.sas {
		o := s.Key
		if o.Dst == key.Dst && o.SPI == key.SPI && o.Proto == key.Proto && mark&o.Mark.Mask == o.Mark.Value {
			return s
		}
	}
	return nil
}

func (k *Kernel) addSA(op sadb.Op) error {
	in, err := k.understood(op)
	if err != nil {
		return err
	}
	if old := k.locate(in.Key); old != nil {
		if !old.Larval() {
			return refuse(op, unix.EEXIST)
		}
		k.removeSA(old)
	}
	k.insertSA(in)
	return nil
}

// insertSA puts a copy at the head of the table and announces it.
func (k *Kernel) insertSA(in *sadb.SA) {
	now := k.now().Unix()
	s := &sa{SA: *in, added: now - int64(in.Age)}
	s.Bitmap = bitmap(in)
	s.Dir = sadb.DirUnknown // not the kernel's; only KernelDir is
	if in.Used {
		s.used = now - int64(in.UseAge)
	}
	if k.process == first && !xfrm.IsOurs(s.Tag) {
		k.saTag++
		s.Tag = 0xe5000000 | k.saTag&0xffffff
	}
	k.changed(s)
	k.sas = slices.Insert(k.sas, 0, s)
	k.announce(sadb.Event{Kind: sadb.EventPutSA, SA: s.view(now)}, k.process)
	k.schedule(s, time.Second)
}

// checkSA is what verify_newsa_info refuses, as far as tests can get there.
func checkSA(in *sadb.SA) unix.Errno {
	ring := in.BitmapLen > 0 || in.ESN()
	switch {
	case sadb.FamilyOf(in.Src) != in.Key.Family() || in.Key.Family() == sadb.FamilyAny,
		in.Larval(),
		in.Offloaded,
		in.BitmapLen > 128,
		ring && in.Window > 32*in.BitmapLen,
		in.ESN() && in.KernelDir != sadb.DirOut && in.Window == 0,
		in.MappingTimer != 0 && in.Encap == nil,
		in.Bitmap != nil && ring && uint32(len(in.Bitmap)) != in.BitmapLen,
		in.Bitmap != nil && !ring && len(in.Bitmap) != 1:
		return unix.EINVAL
	}
	return 0
}

// bitmap returns the window that writing in makes. Unknown means that
// everything below Seq has been seen.
func bitmap(in *sadb.SA) []uint32 {
	if in.Bitmap != nil {
		return slices.Clone(in.Bitmap)
	}
	words := in.BitmapLen
	if words == 0 && !in.ESN() {
		words = 1
	}
	out := make([]uint32, words)
	if in.Seq == 0 {
		return out
	}
	for i := range min(in.Window, 32*words) {
		out[i/32] |= 1 << (i % 32)
	}
	return out
}

// updateSA changes limits, the ports of an encapsulation of the same type, the
// output mark and the interface id; everything else is silently left alone.
func (k *Kernel) updateSA(op sadb.Op) error {
	s := k.locate(op.SA.Key)
	if s == nil {
		return refuse(op, unix.ESRCH)
	}
	in, err := k.understood(op)
	if err != nil {
		return err
	}
	if k.abi.Direction && in.KernelDir != s.KernelDir {
		return refuse(op, unix.ESRCH)
	}
	if s.Larval() {
		k.removeSA(s)
		k.insertSA(in)
		return nil
	}
	if (s.Encap == nil) != (in.Encap == nil) || s.Encap != nil && s.Encap.Type != in.Encap.Type {
		return refuse(op, unix.EINVAL)
	}
	k.changed(s)
	s.Encap, s.Limits, s.dying = in.Encap, in.Limits, false
	if in.OutputMark != nil || in.IfID != 0 {
		s.OutputMark = in.OutputMark
		if in.IfID != 0 {
			s.IfID = in.IfID
		}
	}
	// The real kernel announces the request, not the SA that came of it.
	ev := *in
	ev.Bitmap = bitmap(in)
	k.announce(sadb.Event{Kind: sadb.EventPutSA, SA: &ev}, k.process)
	k.schedule(s, time.Second)
	return nil
}

func (k *Kernel) deleteSA(key sadb.SAKey) {
	s := k.locate(key)
	if s == nil {
		return
	}
	k.removeSA(s)
	k.announce(sadb.Event{Kind: sadb.EventDeleteSA, SA: s.view(k.now().Unix())}, k.process)
}

func (t *tables) removeSA(s *sa) {
	if i := slices.Index(t.sas, s); i >= 0 {
		t.sas = slices.Delete(t.sas, i, i+1)
		s.gone = true
	}
	if s.timer != nil {
		s.timer.Stop()
	}
}

// setCounters is XFRM_MSG_NEWAE: it never creates, does not look at source or
// reqid, lets counters go down, and ignores replay state of the other kind.
func (k *Kernel) setCounters(op sadb.Op) error {
	s, in := k.locate(op.SA.Key), op.SA
	if s == nil || s.Larval() {
		return refuse(op, unix.ESRCH)
	}
	ring, inRing := s.BitmapLen > 0 || s.ESN(), in.BitmapLen > 0 || in.ESN()
	if !inRing && (in.OSeq>>32 != 0 || in.Seq>>32 != 0) {
		return refuse(op, unix.EINVAL)
	}
	if inRing && ring {
		if in.BitmapLen != s.BitmapLen || in.Window > 32*s.BitmapLen {
			return refuse(op, unix.EINVAL)
		}
		s.Window = in.Window
		k.changed(s)
	}
	if ring == inRing {
		s.OSeq, s.Seq, s.Bitmap = in.OSeq, in.Seq, bitmap(in)
	}
	now := k.now().Unix()
	s.Bytes, s.Packets = in.Bytes, in.Packets
	s.added, s.used = now-int64(in.Age), 0
	if in.Used {
		s.used = now - int64(in.UseAge)
	}
	return nil
}

// FlushSA removes all SAs of a protocol, or with 0 all, and announces it once,
// if there were any.
func (k *Kernel) FlushSA(proto uint8) {
	k.mu.Lock()
	defer k.mu.Unlock()
	n := len(k.sas)
	for _, s := range slices.Clone(k.sas) {
		if proto == 0 || s.Key.Proto == proto {
			k.removeSA(s)
		}
	}
	if len(k.sas) < n {
		k.announce(sadb.Event{Kind: sadb.EventFlushSA, Proto: proto}, k.process)
	}
}

// Allocate makes a larval SA, as ALLOCSPI does; nothing is announced.
func (k *Kernel) Allocate(key sadb.SAKey) {
	k.mu.Lock()
	defer k.mu.Unlock()
	s := &sa{SA: sadb.SA{Key: key}, added: k.now().Unix()}
	k.changed(s)
	k.sas = slices.Insert(k.sas, 0, s)
}

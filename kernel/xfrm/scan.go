package xfrm

import (
	"context"
	"fmt"
	"hash/maphash"

	"golang.org/x/sys/unix"

	"sasyncd/kernel/dump"
	"sasyncd/kernel/netlink"
	"sasyncd/sync/sadb"
)

// scanBuffer is how much of a dump is handed out at once: of 400 bytes for an SA
// about 600. The consumer looks at that many without a break.
const scanBuffer = 256 << 10

// Scan reads all SAs, as Dump does, and hands them to f in the kernel's order,
// some hundred at a time, undecoded but for what a Reading holds. It allocates nothing for an SA unless f asks for the
// whole of it.
//
// f may be slow, and may call any other method: the kernel waits. An error of f ends the scan and is returned.
// What f has seen cannot be taken back, so a scan that was torn is not repeated here: its error is
// dump.ErrInterrupted.
func (k *Kernel) Scan(ctx context.Context, f func(*sadb.Chunk) error) error {
	d, now := newDecoder(k.names.Name), k.now().Unix()
	s := scanner{decoder: d, seed: k.scanSeed, now: now}
	s.chunk.SA = s.sa
	err := k.scan.Datagrams(ctx, msgGetSA, unix.NLM_F_DUMP, func(m netlink.Message) error {
		if m.Type != msgNewSA {
			return nil
		}
		return s.add(m.Payload)
	}, func() error {
		if len(s.chunk.Readings) == 0 {
			return nil
		}
		err := f(&s.chunk)
		s.reset()
		return err
	})
	if err != nil {
		return fmt.Errorf("scan sas: %w", err)
	}
	return nil
}

// ScanPolicies returns all policies and a fingerprint of them all, which leaves out how
// they were used. Policies whose fingerprint is known are not decoded: the list is nil
// then. Two results of one process with the same fingerprint are of the same policies in
// the same order. It is 0 where that cannot be told, and then equals nothing.
func (k *Kernel) ScanPolicies(ctx context.Context, known uint64) (list []*sadb.Policy, print uint64, err error) {
	p := policyPrint{}
	p.h.SetSeed(k.scanSeed)
	if known != 0 {
		err = k.read.Request(ctx, msgGetPolicy, unix.NLM_F_DUMP, nil, p.add)
		if err == nil && p.sum() == known {
			return nil, known, nil
		}
	}
	d, now := newDecoder(k.names.Name), k.now().Unix()
	list, err = dump.List(func() ([]*sadb.Policy, error) {
		all := make([]*sadb.Policy, 0, len(list))
		p.reset()
		err := k.read.Request(ctx, msgGetPolicy, unix.NLM_F_DUMP, nil, func(m netlink.Message) error {
			if m.Type != msgNewPolicy {
				return nil
			}
			one, err := d.policy(m.Payload, now)
			if err == nil {
				all = append(all, one)
				err = p.add(m)
			}
			return err
		})
		return all, err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("scan policies: %w", err)
	}
	return list, p.sum(), nil
}

// policyPrint makes one fingerprint of many policies.
type policyPrint struct {
	h      maphash.Hash
	byName bool // one is of an interface: its index stands for a name, which may come to mean another
}

func (p *policyPrint) reset() {
	p.h.Reset()
	p.byName = false
}

// add takes a message of a dump.
func (p *policyPrint) add(m netlink.Message) error {
	if m.Type != msgNewPolicy {
		return nil
	}
	b := m.Payload
	if len(b) < sizePolicy {
		return errShort("policy", len(b), sizePolicy)
	}
	p.byName = p.byName || native.Uint32(b[selIfindex:]) != 0
	_, _ = p.h.Write(b[:polCurrent])
	_, _ = p.h.Write(b[polPriority:])
	return nil
}

func (p *policyPrint) sum() uint64 {
	if p.byName {
		return 0
	}
	return max(p.h.Sum64(), 1)
}

// scanner fills chunks. It is pure but for its decoder's look at the names of
// interfaces.
type scanner struct {
	decoder *decoder
	seed    maphash.Seed
	now     int64
	chunk   sadb.Chunk
	raw     [][]byte // of each reading
	words   []uint32 // bitmaps of the chunk
}

func (s *scanner) reset() {
	s.chunk.Readings, s.raw, s.words = s.chunk.Readings[:0], s.raw[:0], s.words[:0]
}

func (s *scanner) sa(i int) (*sadb.SA, error) { return s.decoder.sa(s.raw[i], s.now) }

// add reads one NEWSA payload.
func (s *scanner) add(b []byte) error {
	if len(b) < sizeSA {
		return errShort("sa", len(b), sizeSA)
	}
	f := sadb.Family(native.Uint16(b[saFamily:]))
	dst, ok := sadb.Bytes16(b[saID : saID+16]).Addr(f)
	if !ok {
		return fmt.Errorf("decode sa: address family %d, want 2 or 10", f)
	}
	// In place: a Reading is large.
	s.chunk.Readings = append(s.chunk.Readings, sadb.Reading{})
	r := &s.chunk.Readings[len(s.chunk.Readings)-1]
	s.raw = append(s.raw, b)
	r.Key.Dst, r.Key.SPI, r.Key.Proto = dst, network.Uint32(b[saSPI:]), b[saProto]
	u := use(b[saCurrent:], s.now)
	r.Bytes, r.Packets, r.Age, r.Used, r.UseAge = u.Bytes, u.Packets, u.Age, u.Used, u.UseAge
	r.Tag = native.Uint32(b[saSeq:])
	s.attrs(r, b)
	if native.Uint32(b[selIfindex:]) != 0 {
		r.Config = 0 // it stands for a name, which may come to mean another
	}
	return nil
}

// attrs reads identity and counters out of the attributes, and makes the
// fingerprint of everything else.
func (s *scanner) attrs(r *sadb.Reading, b []byte) {
	var h maphash.Hash
	h.SetSeed(s.seed)
	// Between and behind these is what a Reading has itself: curlft, stats, seq.
	_, _ = h.Write(b[:saCurrent])
	_, _ = h.Write(b[saReqid:sizeSA])
	// Attributes that are configuration mostly lie together: hash them so.
	from := sizeSA
	known := func(to, behind int) {
		_, _ = h.Write(b[from:to])
		from = behind
	}
	for rest := netlink.Attrs(b[sizeSA:]); ; {
		at := len(b) - len(rest)
		typ, data, ok := rest.Next()
		if !ok {
			break
		}
		behind := len(b) - len(rest)
		switch typ {
		case attrPad, attrLastUsed, attrLifetime:
			known(at, behind)
		case attrEncap:
			r.Encap = true
		case attrMark:
			r.Key.Mark, _ = mark(data)
		case attrReplay:
			if len(data) >= sizeReplay {
				r.OSeq, r.Seq = uint64(native.Uint32(data)), uint64(native.Uint32(data[4:]))
				r.Bitmap = s.bitmap(data[8:12])
				known(at, behind)
				_ = h.WriteByte(attrReplay)
			}
		case attrReplayESN:
			if n, ok := esnWords(data); ok {
				r.OSeq, r.Seq = esnCounters(data)
				r.Bitmap = s.bitmap(data[sizeReplayESN : sizeReplayESN+4*n])
				known(at, behind)
				_ = h.WriteByte(attrReplayESN)
				_, _ = h.Write(data[:4])    // words of the bitmap
				_, _ = h.Write(data[20:24]) // window
			}
		}
	}
	known(len(b), len(b))
	r.Config = max(h.Sum64(), 1)
}

func (s *scanner) bitmap(b []byte) []uint32 {
	at := len(s.words)
	for ; len(b) >= 4; b = b[4:] {
		s.words = append(s.words, native.Uint32(b))
	}
	return s.words[at:len(s.words):len(s.words)]
}

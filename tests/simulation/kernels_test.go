package simulation

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"sasyncd/kernel/kerneltest"
	"sasyncd/sync/sadb"
)

// directed gives an SA what IKE daemons give it on a kernel with these features: a direction,
// and by the number of its tunnel a CPU of its own or NAT keepalives.
func directed(sa *sadb.SA, id int, f sadb.Features) *sadb.SA {
	sa.KernelDir = sadb.DirIn
	if slices.Contains(vips, sa.Src) {
		sa.KernelDir = sadb.DirOut
		if sa.Window, sa.BitmapLen, sa.Bitmap = 0, 0, []uint32{0}; sa.ESN() {
			sa.Bitmap = nil
		}
	}
	switch id % 3 {
	case 1:
		sa.PCPU = new(uint32)
		*sa.PCPU = uint32(id)
	case 2:
		sa.Encap = &sadb.Encap{Type: 2, SrcPort: 4500, DstPort: 4500}
		if sa.KernelDir == sadb.DirOut {
			sa.Keepalive = 20
		}
	}
	fit, _ := f.Fit(sa)
	return fit
}

// TestTwoKernels plays hand-overs between gateways of which one has a kernel that knows less:
// nothing of directions, or fewer CPUs. It holds all SAs, as far as it knows what they have, and
// does not make them anew at each reading.
func TestTwoKernels(t *testing.T) {
	few := kerneltest.ABI{Features: sadb.AllFeatures(), IPTFS: kerneltest.IPTFSBuilt}
	few.CPUs = 1
	for name, abi := range map[string]kerneltest.ABI{"Debian12": kerneltest.Debian12(), "one CPU": few} {
		for i := range 4 {
			seed := *firstSeed + uint64(i)
			t.Run(fmt.Sprintf("%s/%d", name, seed), func(t *testing.T) {
				runWith(t, seed, 2, func(n *node) {
					if n.i == 1 {
						n.kernel.SetABI(abi)
					}
				}, (*sim).twoKernels)
			})
		}
	}
}

func (s *sim) logged() string {
	s.log.mu.Lock()
	defer s.log.mu.Unlock()
	return s.log.b.String()
}

// newest has the node with the newer kernel become MASTER.
func (s *sim) newest() {
	for range 3 {
		if s.master() == s.nodes[0] {
			return
		}
		if m := s.master(); m != nil {
			m.Resign("", "operator")
		}
		s.pass(10 * time.Second)
	}
	s.t.Error("the node with the newer kernel does not become MASTER")
}

func (s *sim) twoKernels() {
	s.directed = true
	s.pass(12 * time.Second)
	old := s.nodes[1]
	for round := range 3 {
		if s.newest(); s.t.Failed() {
			return
		}
		for range 6 {
			s.add()
		}
		s.rekey()
		s.quiet()
		st := old.status()
		if st.Refused != 0 || st.Reduced == 0 {
			s.t.Errorf("round %d: the older kernel refuses %d SAs and holds %d with less", round, st.Refused, st.Reduced)
		}
		deleted := old.kernel.Applied(sadb.OpDeleteSA)
		s.pass(10 * time.Second)
		if n := old.kernel.Applied(sadb.OpDeleteSA); n != deleted {
			s.t.Errorf("round %d: %d SAs were made anew although nothing changed", round, n-deleted)
		}
		s.note("node 0 hands over to the older kernel")
		s.nodes[0].Resign("", "operator")
		s.pass(10 * time.Second)
		s.quiet()
		if st := s.nodes[0].status(); st.Reduced != 0 || st.Refused != 0 {
			s.t.Errorf("round %d: the newer kernel refuses %d SAs and holds %d with less", round, st.Refused, st.Reduced)
		}
	}
	if n := strings.Count(s.logged(), "SAs are installed without what this kernel does not have"); n > 2 {
		s.t.Errorf("that is logged %d times", n)
	}
}

// TestIPTFS: a standby whose kernel lacks IP-TFS leaves out the SAs in this mode, whether the
// kernel refuses them or takes them and ignores their settings. It says so once, and holds
// everything else.
func TestIPTFS(t *testing.T) {
	for name, support := range map[string]kerneltest.IPTFS{"refused": kerneltest.IPTFSUnknown,
		"ignored": kerneltest.IPTFSAbsent, "built": kerneltest.IPTFSBuilt} {
		t.Run(name, func(t *testing.T) {
			runWith(t, *firstSeed, 2, func(n *node) {
				if n.i == 1 {
					n.kernel.SetABI(kerneltest.ABI{Features: sadb.AllFeatures(), IPTFS: support})
				}
			}, func(s *sim) { s.iptfs(support) })
		})
	}
}

func (s *sim) iptfs(support kerneltest.IPTFS) {
	s.directed = true
	s.pass(12 * time.Second)
	if s.newest(); s.t.Failed() {
		return
	}
	s.add()
	out := directed(kerneltest.SampleSA(vips[0].String(), "203.0.113.7", 0x7001), 0, sadb.AllFeatures())
	out.Mode, out.Unknown = sadb.ModeIPTFS, []sadb.Attr{{Type: 38}, {Type: 40, Data: []byte{0, 0, 16, 0}}}
	in := directed(kerneltest.SampleSA("203.0.113.7", vips[0].String(), 0x7002), 0, sadb.AllFeatures())
	in.Mode, in.Unknown = sadb.ModeIPTFS, []sadb.Attr{{Type: 37, Data: []byte{3, 0}}}
	s.apply(s.nodes[0], sadb.Op{Kind: sadb.OpAddSA, SA: out}, sadb.Op{Kind: sadb.OpAddSA, SA: in})
	s.pass(20 * time.Second)
	snap, err := s.nodes[1].kernel.Dump(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	want, refused := 2, 2
	if support == kerneltest.IPTFSBuilt {
		want, refused = 4, 0
	}
	if st := s.nodes[1].status(); len(snap.SAs) != want || st.Refused != refused || !st.InSync {
		s.t.Errorf("%d SAs and %d refused, in sync %v; want %d and %d", len(snap.SAs), st.Refused, st.InSync, want,
			refused)
	}
	logged := strings.Count(s.logged(), "kernel refused")
	if wantLog := map[kerneltest.IPTFS]int{kerneltest.IPTFSUnknown: 2}[support]; logged != wantLog {
		s.t.Errorf("a refusal is logged %d times, want %d", logged, wantLog)
	}
	if log := s.logged(); support == kerneltest.IPTFSUnknown && !strings.Contains(log, "Unsupported mode") {
		s.t.Error("the log lacks the kernel's words")
	}
	before := s.nodes[1].kernel.Applied(sadb.OpAddSA)
	s.pass(10 * time.Second)
	if n := s.nodes[1].kernel.Applied(sadb.OpAddSA) - before; support == kerneltest.IPTFSAbsent && n != 0 {
		s.t.Errorf("SAs that the kernel ignores are added %d times", n)
	}
}

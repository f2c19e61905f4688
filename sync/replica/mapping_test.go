package replica

import (
	"net/netip"
	"slices"
	"testing"

	"sasyncd/sync/sadb"
)

// nat is a remote end behind a NAT: both SAs of a tunnel, in UDP.
func nat(n int, age uint64) (out, in *sadb.SA) {
	out, in = outbound(n), inboundOf(n)
	in.Key.SPI++
	out.Encap, in.Encap = &sadb.Encap{Type: 2, SrcPort: 4500, DstPort: 1024}, &sadb.Encap{Type: 2, SrcPort: 1024,
		DstPort: 4500}
	out.Age, in.Age, out.OSeq = age, age, 1000
	return out, in
}

// TestFlowOf: both SAs of a tunnel share one flow, as seen from here.
func TestFlowOf(t *testing.T) {
	out, in := nat(2, 0)
	want := Flow{netip.AddrPortFrom(out.Src, 4500), netip.AddrPortFrom(out.Key.Dst, 1024)}
	if FlowOf(out) != want || FlowOf(in) != want {
		t.Errorf("out %v, in %v, want %v", FlowOf(out), FlowOf(in), want)
	}
	tcp, plain := *out, *out
	tcp.Encap, plain.Encap = &sadb.Encap{Type: 7}, nil
	if !Carried(out) || Carried(&tcp) || Carried(&plain) {
		t.Error("what is in UDP is not told from what is not")
	}
}

// TestMoveOps: the SAs and policies of a remote end follow it, to a port in place, to an
// address anew, with an SA to send on at any time; what is of others stays.
func TestMoveOps(t *testing.T) {
	out, in := nat(2, 50)
	flow := FlowOf(out)
	elsewhere := netip.MustParseAddr("203.0.113.7")
	list := policies(2)
	foreign := policies(4)
	for name, tt := range map[string]struct {
		to     netip.AddrPort
		change func(out, in *sadb.SA)
		theirs bool // the IKE daemon has SAs for the tunnel too
		want   []string
		stuck  int
	}{
		"another port": {to: netip.AddrPortFrom(out.Key.Dst, 2048), want: []string{"update-sa", "update-sa"}},
		"another address": {to: netip.AddrPortFrom(elsewhere, 2048), want: []string{"add-sa", "delete-sa", "add-sa",
			"update-policy out", "update-policy in", "update-policy fwd", "delete-sa"}},
		"another address, the IKE daemon has its own SAs": {to: netip.AddrPortFrom(elsewhere, 2048), theirs: true,
			want: []string{"add-sa", "delete-sa", "add-sa", "delete-sa"}},
		"transport mode": {to: netip.AddrPortFrom(elsewhere, 2048), change: func(out, in *sadb.SA) {
			out.Mode, in.Mode = sadb.ModeTransport, sadb.ModeTransport
		}, stuck: 2},
		"transport mode, another port": {to: netip.AddrPortFrom(out.Key.Dst, 2048), change: func(out, in *sadb.SA) {
			out.Mode, in.Mode = sadb.ModeTransport, sadb.ModeTransport
		}, want: []string{"update-sa", "update-sa"}},
		"no numbers left": {to: netip.AddrPortFrom(elsewhere, 2048), change: func(out, _ *sadb.SA) {
			out.Flags &^= sadb.FlagESN
			out.OSeq = sadb.MaxLegacy
		}, stuck: 1, want: []string{"delete-sa", "add-sa", "update-policy out", "update-policy in",
			"update-policy fwd"}},
		"not in UDP": {to: netip.AddrPortFrom(elsewhere, 2048), change: func(out, in *sadb.SA) {
			out.Encap, in.Encap = nil, nil
		}},
	} {
		o, i := *out, *in
		oe, ie := *out.Encap, *in.Encap
		o.Encap, i.Encap = &oe, &ie
		if tt.change != nil {
			tt.change(&o, &i)
		}
		own, _ := nat(6, 0) // the IKE daemon's, of another remote end
		snap := &sadb.Snapshot{SAs: []*sadb.SA{&i, &o, own}, Policies: append(slices.Clone(list), foreign...)}
		if tt.theirs {
			x, y := o, i
			x.Key.SPI, y.Key.SPI = 77, 78
			snap.SAs = append(snap.SAs, &x, &y)
		}
		m := sadb.DefaultMargin()
		ops, gone, stuck := MoveOps(snap, map[Flow]netip.AddrPort{flow: tt.to}, m, func(sa *sadb.SA) bool {
			return sa == &o || sa == &i
		})
		var got []string
		for _, op := range ops {
			got = append(got, kinds([]sadb.Op{op})[0])
		}
		sorted := slices.Sorted(slices.Values(got))
		if want := slices.Sorted(slices.Values(tt.want)); !slices.Equal(sorted, want) || len(stuck) != tt.stuck {
			t.Errorf("%s: %v, %d stuck; want %v, %d", name, got, len(stuck), tt.want, tt.stuck)
			continue
		}
		if len(got) > 3 && got[len(got)-1] == "delete-sa" && (len(gone) != 1 || gone[0] != o.Key) {
			t.Errorf("%s: gone are %v", name, gone)
		}
		sends := map[netip.Addr]bool{o.Key.Dst: true} // where there is an SA to send on
		receives := true
		for _, op := range ops {
			switch {
			case op.Kind == sadb.OpUpdateSA || op.Kind == sadb.OpAddSA:
				far := netip.AddrPortFrom(op.SA.Key.Dst, op.SA.Encap.DstPort)
				if op.SA.Dir == sadb.DirIn {
					far, receives = netip.AddrPortFrom(op.SA.Src, op.SA.Encap.SrcPort), true
				} else if sends[op.SA.Key.Dst] = true; op.Kind == sadb.OpAddSA {
					lead, _ := m.Lead(true, 0, 0)
					if op.SA.OSeq != o.OSeq+lead/mappingJump {
						t.Errorf("%s: the outbound counter goes on at %d from %d", name, op.SA.OSeq, o.OSeq)
					}
				}
				if far != tt.to || op.SA.Encap == &oe || op.SA.Encap == &ie {
					t.Errorf("%s: %v is to %v, want %v", name, op.SA.Key, far, tt.to)
				}
			case op.Kind == sadb.OpDeleteSA && op.SA.Dir == sadb.DirIn:
				receives = false
			case op.Kind == sadb.OpDeleteSA:
				delete(sends, op.SA.Key.Dst)
			case op.Policy.Key.Dir == sadb.DirOut:
				if tmpl := op.Policy.Templates[0]; tmpl.Dst != tt.to.Addr() || tmpl.Src != o.Src ||
					tt.stuck == 0 && !sends[tmpl.Dst] {
					t.Errorf("%s: the policy sends to %v, SAs to %v", name, tmpl, sends)
				}
			default:
				if tmpl := op.Policy.Templates[0]; tmpl.Src != tt.to.Addr() || tmpl.Dst != o.Src {
					t.Errorf("%s: the policy is for %v", name, tmpl)
				}
			}
		}
		if !receives || len(sends) == 0 && tt.stuck == 0 {
			t.Errorf("%s: receives %v, sends to %v", name, receives, sends)
		}
		if list[0].Templates[0].Dst != out.Key.Dst || oe.DstPort != 1024 || ie.SrcPort != 1024 {
			t.Fatalf("%s: what was read is changed", name)
		}
	}
}

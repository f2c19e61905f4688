package show

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"sasyncd/sync/sadb"
)

var (
	near, far       = netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("10.2.0.0/16")
	gateway, remote = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("198.51.100.1")
	none            = netip.IPv4Unspecified()
)

// tmpl is a template as IKE daemons write them, level required.
func tmpl(proto uint8, mode sadb.Mode, src, dst netip.Addr) sadb.Template {
	return sadb.Template{Src: src, Dst: dst, Proto: proto, Family: sadb.FamilyIPv4, Mode: mode, Reqid: 1,
		AuthAlgs: ^uint32(0), EncAlgs: ^uint32(0), CompAl: ^uint32(0)}
}

func use(t sadb.Template) sadb.Template { t.Optional = true; return t }

func policy(dir sadb.Direction, src, dst netip.Prefix, t ...sadb.Template) *sadb.Policy {
	return &sadb.Policy{Key: sadb.PolicyKey{Dir: dir, Selector: sadb.SelectorOf(src, dst)}, Priority: 375423,
		Templates: t}
}

// tunnel is what an IKE daemon installs for a tunnel: out, in and fwd.
func tunnel() []*sadb.Policy {
	return []*sadb.Policy{
		policy(sadb.DirOut, near, far, tmpl(sadb.ProtoESP, sadb.ModeTunnel, gateway, remote)),
		policy(sadb.DirIn, far, near, tmpl(sadb.ProtoESP, sadb.ModeTunnel, remote, gateway)),
		policy(sadb.DirFwd, far, near, tmpl(sadb.ProtoESP, sadb.ModeTunnel, remote, gateway)),
	}
}

// TestFlowsAreTheKernels: the level of each policy, and every fwd policy that does
// not do what its in does, show. Each is a difference that diff(1) then finds.
func TestFlowsAreTheKernels(t *testing.T) {
	const (
		in  = "flow esp in from 10.2.0.0/16 to 10.1.0.0/16 peer 198.51.100.1 type require"
		out = "flow esp out from 10.1.0.0/16 to 10.2.0.0/16 peer 198.51.100.1 type require"
		fwd = "flow esp fwd from 10.2.0.0/16 to 10.1.0.0/16 peer 198.51.100.1 type "
	)
	host := netip.MustParsePrefix("192.0.2.1/32")
	for _, tt := range []struct {
		name   string
		change func([]*sadb.Policy) []*sadb.Policy
		want   []string
	}{
		{"a tunnel", nil, []string{in, out}},
		{"an inbound policy that lets plaintext pass", func(l []*sadb.Policy) []*sadb.Policy {
			l[1].Templates[0].Optional, l[2].Templates[0].Optional = true, true
			return l
		}, []string{"flow esp in from 10.2.0.0/16 to 10.1.0.0/16 peer 198.51.100.1 type use", out}},
		{"only what is forwarded may be plaintext", func(l []*sadb.Policy) []*sadb.Policy {
			l[2].Templates[0].Optional = true
			return l
		}, []string{fwd + "use", in, out}},
		{"fwd of another tunnel end", func(l []*sadb.Policy) []*sadb.Policy {
			l[2].Templates[0].Src = netip.MustParseAddr("198.51.100.9")
			return l
		}, []string{strings.Replace(fwd, "100.1", "100.9", 1) + "require", in, out}},
		{"fwd of another reqid", func(l []*sadb.Policy) []*sadb.Policy { l[2].Templates[0].Reqid = 2; return l },
			[]string{fwd + "require", in, out}},
		{"fwd of another priority", func(l []*sadb.Policy) []*sadb.Policy { l[2].Priority--; return l },
			[]string{fwd + "require", in, out}},
		{"fwd refuses", func(l []*sadb.Policy) []*sadb.Policy { l[2].Action = sadb.ActionBlock; return l },
			[]string{fwd + "deny", in, out}},
		{"fwd missing", func(l []*sadb.Policy) []*sadb.Policy { return l[:2] }, []string{in + " without fwd", out}},
		{"fwd of another interface", func(l []*sadb.Policy) []*sadb.Policy { l[2].Key.IfID = 7; return l },
			[]string{fwd + "require", in + " without fwd", out}},
		{"outbound fwd, strongSwan's policies_fwd_out", func(l []*sadb.Policy) []*sadb.Policy {
			return append(l, policy(sadb.DirFwd, near, far, use(tmpl(sadb.ProtoESP, sadb.ModeTunnel, gateway, remote))))
		}, []string{"flow esp fwd from 10.1.0.0/16 to 10.2.0.0/16 peer 192.0.2.1 type use", in, out}},
		{"transport mode has no fwd", func([]*sadb.Policy) []*sadb.Policy {
			return []*sadb.Policy{policy(sadb.DirIn, netip.PrefixFrom(remote, 32), host,
				tmpl(sadb.ProtoESP, sadb.ModeTransport, none, none))}
		}, []string{"flow esp in from 198.51.100.1 to 192.0.2.1 type require"}},
		{"IPComp is optional on the way in", func([]*sadb.Policy) []*sadb.Policy {
			comp, esp := use(tmpl(sadb.ProtoComp, sadb.ModeTunnel, remote, gateway)),
				tmpl(sadb.ProtoESP, sadb.ModeTransport, none, none)
			return []*sadb.Policy{policy(sadb.DirIn, far, near, comp, esp), policy(sadb.DirFwd, far, near, comp, esp)}
		},
			[]string{"flow ipcomp in from 10.2.0.0/16 to 10.1.0.0/16 peer 198.51.100.1 type require transforms " +
				"ipcomp use, esp require"}},
	} {
		list := tunnel()
		if tt.change != nil {
			list = tt.change(list)
		}
		if got := Flows(list, false); !slices.Equal(got, tt.want) {
			t.Errorf("%s: got\n\t%s\nwant\n\t%s", tt.name, strings.Join(got, "\n\t"), strings.Join(tt.want, "\n\t"))
		}
	}
}

// TestRulesTellOfFwd: what is printed as rules has the difference as a comment,
// so that it still loads.
func TestRulesTellOfFwd(t *testing.T) {
	list := tunnel()[:2]
	for _, want := range []string{" type require # its fwd policy is missing", "# no rule makes this: flow esp fwd"} {
		text := strings.Join(FlowRules(list, true), "\n") + "\n"
		if !strings.Contains(text, want) {
			t.Errorf("want %q in\n%s", want, text)
		}
		sas := "ipcomp from 192.0.2.1 to 198.51.100.1 spi 0x1000:0x1001\n"
		if n := len(load(t, strings.ReplaceAll(text, "flow esp", "flow ipcomp")+sas).Policies); n != 3 {
			t.Errorf("%d policies are read back of\n%s", n, text)
		}
		list = tunnel()
		list[2].Templates[0].Optional = true
	}
}

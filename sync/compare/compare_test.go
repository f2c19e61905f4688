package compare

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"sasyncd/sync/replica"
	"sasyncd/sync/sadb"
	"sasyncd/sync/wire"
)

func addr(s string) netip.Addr { return netip.MustParseAddr(s) }

func selector() sadb.Selector {
	s := sadb.Selector{Family: sadb.FamilyIPv4, SrcLen: 24, DstLen: 16, SrcPort: 1, SrcPortMask: 0xffff, DstPort: 2,
		DstPortMask: 0xfff0, Proto: 17, Interface: "eth0"}
	copy(s.Src[:], []byte{10, 1, 2, 0})
	copy(s.Dst[:], []byte{10, 3, 0, 0})
	return s
}

func algorithm(name, key string) *sadb.Algorithm {
	return &sadb.Algorithm{Name: name, Key: sadb.NewSecret([]byte(key)), TruncBits: 96}
}

// fullSA has a value in each field.
func fullSA() *sadb.SA {
	cpu := uint32(1)
	return &sadb.SA{Key: sadb.SAKey{Dst: addr("203.0.113.1"), SPI: 0x1001, Proto: sadb.ProtoESP},
		Src: addr("198.51.100.1"), Selector: selector(), Reqid: 7, Extra: 1, Mode: sadb.ModeTunnel, Flags: 2,
		KernelDir: sadb.DirIn, Dir: sadb.DirIn, Used: true, Auth: algorithm("hmac(sha1)", "key of auth"),
		Crypt: algorithm("cbc(aes)", "key of enc"), AEAD: algorithm("gcm", "key of aead"),
		Comp:  &sadb.Algorithm{Name: "deflate"},
		Encap: &sadb.Encap{Type: 2, SrcPort: 4500, DstPort: 4501}, OutputMark: &sadb.Mark{Value: 1, Mask: 0xf}, PCPU: &cpu,
		IfID: 3, TFCPad: 4, MappingTimer: 5, Keepalive: 6, Unknown: []sadb.Attr{{Type: 99, Data: []byte("abc")}}, Window: 64,
		BitmapLen: 4, Limits: sadb.Limits{SoftAdd: 8, HardAdd: 9}, Counters: sadb.Counters{OSeq: 10, Seq: 11,
			Bitmap: []uint32{1, 2, 3, 4}, Bytes: 12, Packets: 13}, Age: 14, UseAge: 15, Tag: 16}
}

func fullPolicy() *sadb.Policy {
	return &sadb.Policy{Key: sadb.PolicyKey{Dir: sadb.DirOut, Selector: selector()}, Priority: 1, Action: sadb.ActionAllow,
		Flags: 2, Share: 3, Limits: sadb.Limits{SoftAdd: 4}, Templates: []sadb.Template{{Dst: addr("203.0.113.1"),
			Src: addr("198.51.100.1"), SPI: 5, Proto: 50, Family: sadb.FamilyIPv4, Reqid: 6, Mode: sadb.ModeTunnel, Share: 7,
			AuthAlgs: 8, EncAlgs: 9, CompAl: 10}}, Unknown: []sadb.Attr{{Type: 99, Data: []byte("abc")}},
		Use: sadb.Use{Used: true}, Index: 11}
}

// items are those of all buckets.
func items(snap *sadb.Snapshot) map[wire.Sum]wire.Record {
	var all []uint16
	for i := range replica.SumBuckets {
		all = append(all, uint16(i))
	}
	return Items(snap, wire.NodeID{1, 2, 3}, all)
}

func ofSA(s *sadb.SA) *sadb.Snapshot         { return &sadb.Snapshot{SAs: []*sadb.SA{s}} }
func ofPolicy(p *sadb.Policy) *sadb.Snapshot { return &sadb.Snapshot{Policies: []*sadb.Policy{p}} }

// look compares two kernels by their sums and by their items, and returns the fields.
func look(t *testing.T, name string, here, there *sadb.Snapshot) (out []FieldDifference) {
	t.Helper()
	for _, f := range Records("g", items(here), items(there)) {
		if f.How != "differs" || f.Group != "g" || f.Item == "" {
			t.Errorf("%s: %+v", name, f)
		}
		out = append(out, f.Fields...)
	}
	if same := Sums(here) == Sums(there); same != (len(out) == 0) {
		t.Errorf("%s: sums are equal: %v, fields %v", name, same, out)
	}
	return out
}

// TestFieldsOfSAs: each property of an SA in which two kernels differ is named, alone and
// with the value of either; what a standby changes on purpose is no difference.
func TestFieldsOfSAs(t *testing.T) {
	two := uint32(2)
	for _, tt := range []struct {
		field, here, there string
		change             func(s *sadb.SA)
	}{
		{"src", "198.51.100.1", "198.51.100.2", func(s *sadb.SA) { s.Src = addr("198.51.100.2") }},
		{"mode", "1", "0", func(s *sadb.SA) { s.Mode = sadb.ModeTransport }},
		{"reqid", "7", "8", func(s *sadb.SA) { s.Reqid = 8 }},
		{"selector", "10.1.2.0/24 to 10.3.0.0/16 proto 17 ports 1/ffff 2/fff0 dev eth0", "any",
			func(s *sadb.SA) { s.Selector = sadb.Selector{Family: sadb.FamilyIPv4} }},
		{"selector", "10.1.2.0/24 to 10.3.0.0/16 proto 17 ports 1/ffff 2/fff0 dev eth0",
			"10.1.2.0/24 to 10.3.0.0/16 proto 17 ports 1/ffff 2/fff0", func(s *sadb.SA) { s.Selector.Interface = "" }},
		{"flags", "0x2", "0x80", func(s *sadb.SA) { s.Flags = sadb.FlagESN }},
		{"extra-flags", "0x1", "0x2", func(s *sadb.SA) { s.Extra = 2 }},
		{"replay-window", "64", "32", func(s *sadb.SA) { s.Window = 32 }},
		{"replay-bitmap-words", "4", "2", func(s *sadb.SA) { s.BitmapLen, s.Bitmap = 2, nil }},
		{"auth", "hmac(sha1) icv 96", "hmac(sha1) icv 128", func(s *sadb.SA) { s.Auth.TruncBits = 128 }},
		{"enc", "cbc(aes) icv 96", "cbc(aes)", func(s *sadb.SA) { s.Crypt.TruncBits = 0 }},
		{"comp", "deflate", "none", func(s *sadb.SA) { s.Comp = nil }},
		{"encap", "type 2 sport 4500 dport 4501", "type 7 sport 4500 dport 4501", func(s *sadb.SA) { s.Encap.Type = 7 }},
		{"encap", "type 2 sport 4500 dport 4501", "none", func(s *sadb.SA) { s.Encap = nil }},
		{"output-mark", "0x1/0xf", "0x2/0xf", func(s *sadb.SA) { s.OutputMark.Value = 2 }},
		{"output-mark", "0x1/0xf", "none", func(s *sadb.SA) { s.OutputMark = nil }},
		{"if_id", "3", "4", func(s *sadb.SA) { s.IfID = 4 }},
		{"tfcpad", "4", "5", func(s *sadb.SA) { s.TFCPad = 5 }},
		{"dir", "in", "out", func(s *sadb.SA) { s.KernelDir = sadb.DirOut }},
		{"cpu", "1", "2", func(s *sadb.SA) { s.PCPU = &two }},
		{"cpu", "1", "none", func(s *sadb.SA) { s.PCPU = nil }},
		{"mapping-timer", "5", "6", func(s *sadb.SA) { s.MappingTimer = 6 }},
		{"keepalive", "6", "7", func(s *sadb.SA) { s.Keepalive = 7 }},
		{"attributes", "99 of 3 bytes", "none", func(s *sadb.SA) { s.Unknown = nil }},
		{"attributes", "unknown to this version", "other contents", func(s *sadb.SA) { s.Unknown[0].Data = []byte("abd") }},
		{"", "", "", func(s *sadb.SA) { s.Limits, s.Dir = sadb.Limits{SoftAdd: 80, HardUse: 1}, sadb.DirOut }},
		{"", "", "", func(s *sadb.SA) { s.Counters = sadb.Counters{OSeq: 1000, Bytes: 1} }},
		{"", "", "", func(s *sadb.SA) { s.Counters = sadb.Counters{} }},
		{"", "", "", func(s *sadb.SA) { s.Age, s.Used, s.UseAge = 1, false, 0 }},
		{"", "", "", func(s *sadb.SA) { s.UseAge = 3 }},
		{"", "", "", func(s *sadb.SA) { s.Tag = 0 }},
	} {
		there := fullSA()
		tt.change(there)
		got := look(t, tt.field, ofSA(fullSA()), ofSA(there))
		var want []FieldDifference
		if tt.field != "" {
			want = []FieldDifference{{tt.field, tt.here, tt.there}}
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %q\nwant %q", got, want)
		}
	}
}

// TestKeysAreDigests: that keys differ is told, and no byte of a key.
func TestKeysAreDigests(t *testing.T) {
	for field, change := range map[string]func(s *sadb.SA){
		"auth-key": func(s *sadb.SA) { s.Auth = algorithm("hmac(sha1)", "other") },
		"enc-key":  func(s *sadb.SA) { s.Crypt = algorithm("cbc(aes)", "other") },
		"aead-key": func(s *sadb.SA) { s.AEAD = algorithm("gcm", "other") },
	} {
		there := fullSA()
		change(there)
		got := look(t, field, ofSA(fullSA()), ofSA(there))
		if len(got) != 1 || got[0].Field != field || !strings.HasPrefix(got[0].Here, "digest ") ||
			len(got[0].Here) != len("digest ")+16 || got[0].Here == got[0].There || len(got[0].There) != len(got[0].Here) {
			t.Errorf("%s: %+v", field, got)
		}
	}
	there := fullSA()
	there.AEAD = nil
	got := look(t, "no aead", ofSA(fullSA()), ofSA(there))
	if len(got) != 2 || got[0].There != "none" || got[1].There != "none" {
		t.Errorf("%+v", got)
	}
}

// TestFieldsOfPolicies is TestFieldsOfSAs of policies.
func TestFieldsOfPolicies(t *testing.T) {
	const tmpl = "50 198.51.100.1-203.0.113.1 reqid 6 mode 1 level require spi 0x00000005 share 7 algorithms 8/9/a"
	for _, tt := range []struct {
		field, here, there string
		change             func(p *sadb.Policy)
	}{
		{"priority", "1", "2", func(p *sadb.Policy) { p.Priority = 2 }},
		{"action", "0", "1", func(p *sadb.Policy) { p.Action = sadb.ActionBlock }},
		{"flags", "0x2", "0x1", func(p *sadb.Policy) { p.Flags = 1 }},
		{"share", "3", "4", func(p *sadb.Policy) { p.Share = 4 }},
		{"templates", tmpl, "", func(p *sadb.Policy) { p.Templates = nil }},
		{"templates", tmpl, strings.Replace(tmpl, "require", "use", 1),
			func(p *sadb.Policy) { p.Templates[0].Optional = true }},
		{"templates", tmpl, strings.Replace(tmpl, " spi 0x00000005", "", 1),
			func(p *sadb.Policy) { p.Templates[0].SPI = 0 }},
		{"templates", tmpl, strings.Replace(tmpl, "8/9/a", "8/9/b", 1),
			func(p *sadb.Policy) { p.Templates[0].CompAl = 11 }},
		{"templates", tmpl, tmpl + "; " + tmpl,
			func(p *sadb.Policy) { p.Templates = append(p.Templates, p.Templates[0]) }},
		{"attributes", "99 of 3 bytes", "99 of 3 bytes, 100 of 1 bytes",
			func(p *sadb.Policy) { p.Unknown = append(p.Unknown, sadb.Attr{Type: 100, Data: []byte("x")}) }},
		{"", "", "", func(p *sadb.Policy) { p.Limits = sadb.Limits{HardAdd: 5} }},
		{"", "", "", func(p *sadb.Policy) { p.Use = sadb.Use{} }},
		{"", "", "", func(p *sadb.Policy) { p.Index = 0 }},
	} {
		there := fullPolicy()
		tt.change(there)
		got := look(t, tt.field, ofPolicy(fullPolicy()), ofPolicy(there))
		var want []FieldDifference
		if tt.field != "" {
			want = []FieldDifference{{tt.field, tt.here, tt.there}}
		}
		if !slices.Equal(got, want) {
			t.Errorf("got %q\nwant %q", got, want)
		}
	}
}

// TestBuckets: an item is listed in its own bucket, and in no other.
func TestBuckets(t *testing.T) {
	snap := &sadb.Snapshot{SAs: []*sadb.SA{fullSA()}, Policies: []*sadb.Policy{fullPolicy()}}
	sa, policy := 0, 0
	for i := range replica.SumBuckets {
		for k, r := range Items(snap, wire.NodeID{}, []uint16{uint16(i)}) {
			if k.Bucket(replica.SumBuckets) != i {
				t.Errorf("bucket %d lists an item of bucket %d", i, k.Bucket(replica.SumBuckets))
			}
			switch {
			case r.Kind == wire.PutSA && r.SA != nil && r.SA.Key == snap.SAs[0].Key && r.Policy == nil:
				sa++
			case r.Kind == wire.PutPolicy && r.Policy != nil && r.Policy.Key == snap.Policies[0].Key && r.SA == nil:
				policy++
			default:
				t.Errorf("item %+v", r)
			}
		}
	}
	if sa != 1 || policy != 1 {
		t.Errorf("the SA is listed %d times, the policy %d times", sa, policy)
	}
}

// TestMissingAndExtra: what only one of two kernels has, and under which name.
func TestMissingAndExtra(t *testing.T) {
	s, p := fullSA(), fullPolicy()
	for _, tt := range []struct {
		here, there *sadb.Snapshot
		how, item   string
	}{
		{ofSA(s), &sadb.Snapshot{}, "extra", s.Key.String()}, {&sadb.Snapshot{}, ofSA(s), "missing", s.Key.String()},
		{ofPolicy(p), &sadb.Snapshot{}, "extra", p.Key.String()}, {&sadb.Snapshot{}, ofPolicy(p), "missing", p.Key.String()},
	} {
		got := Records("g", items(tt.here), items(tt.there))
		if len(got) != 1 || got[0].How != tt.how || got[0].Item != tt.item || got[0].Fields != nil ||
			got[0].Key == (wire.Sum{}) || got[0].Group != "g" {
			t.Errorf("%s %s: %+v", tt.how, tt.item, got)
		}
	}
}

// TestKindsAreNotMixedUp: an SA under the number of a policy, which a peer may send, is a
// difference and no crash.
func TestKindsAreNotMixedUp(t *testing.T) {
	a := wire.Record{Kind: wire.PutSA, SA: fullSA()}
	b := wire.Record{Kind: wire.PutPolicy, Policy: fullPolicy()}
	for _, pair := range [][2]wire.Record{{a, b}, {b, a}} {
		if sameRecord(pair[0], pair[1]) {
			t.Error("an SA is the same as a policy")
		}
		got := Records("g", map[wire.Sum]wire.Record{{1}: pair[0]}, map[wire.Sum]wire.Record{{1}: pair[1]})
		if len(got) != 1 || got[0].How != "differs" || len(got[0].Fields) != 1 || got[0].Fields[0].Field != "attributes" {
			t.Errorf("%+v", got)
		}
	}
}

// TestPublished: what a kernel holds beside what was published.
func TestPublished(t *testing.T) {
	published := func() (map[sadb.SAKey]wire.Sum, map[sadb.PolicyKey]wire.Sum) {
		s, p := fullSA(), fullPolicy()
		return map[sadb.SAKey]wire.Sum{s.Key: replica.CoreDigest(s)},
			map[sadb.PolicyKey]wire.Sum{p.Key: replica.PolicyDigest(p)}
	}
	sa, policy := "SA "+fullSA().Key.String(), fullPolicy().Key.String()
	for name, tt := range map[string]struct {
		change func(s *sadb.Snapshot)
		want   []string
	}{
		"the same": {func(*sadb.Snapshot) {}, nil},
		"limits, numbers": {func(s *sadb.Snapshot) {
			s.SAs[0].Limits, s.SAs[0].OSeq, s.Policies[0].Limits = sadb.Limits{}, 0, sadb.Limits{}
		}, nil},
		"both differ": {func(s *sadb.Snapshot) { s.SAs[0].Reqid, s.Policies[0].Priority = 99, 99 },
			[]string{"differs " + sa, "differs " + policy}},
		"both missing": {func(s *sadb.Snapshot) { s.SAs, s.Policies = nil, nil },
			[]string{"missing " + sa, "missing " + policy}},
		"others": {func(s *sadb.Snapshot) { s.SAs[0].Key.SPI, s.Policies[0].Key.IfID = 0x1002, 1 },
			[]string{"extra SA " + fullSA().Key.String()[:len(fullSA().Key.String())-1] + "2", "missing " + sa,
				"extra " + policy, "missing " + policy}},
	} {
		snap := &sadb.Snapshot{SAs: []*sadb.SA{fullSA()}, Policies: []*sadb.Policy{fullPolicy()}}
		tt.change(snap)
		sas, policies := published()
		var got []string
		for _, d := range Published("g", sas, policies, snap) {
			if d.Group != "g" {
				t.Errorf("%s: %+v", name, d)
			}
			if strings.HasPrefix(d.Item, "esp") {
				d.Item = "SA " + d.Item
			}
			got = append(got, d.How+" "+d.Item)
		}
		if !slices.Equal(got, tt.want) {
			t.Errorf("%s:\n got %q\nwant %q", name, got, tt.want)
		}
	}
}

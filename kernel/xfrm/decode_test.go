package xfrm

import (
	"bytes"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"sasyncd/kernel/netlink"
	"sasyncd/sync/sadb"
)

// oneFixture returns the fixture of that name.
func oneFixture(t testing.TB, file, name string) []byte {
	t.Helper()
	for _, f := range fixtures(t, file) {
		if f.name == name {
			return f.raw
		}
	}
	t.Fatalf("no fixture %s", name)
	return nil
}

// TestNewerAttributes has what kernels after that of the fixtures add.
func TestNewerAttributes(t *testing.T) {
	raw := oneFixture(t, "sas.hex", "gcm-32bit-tunnel4")
	now := recordedAt(raw, saCurrent+16)
	raw = netlink.AppendAttr32(raw, attrMappingTimer, 30)
	raw = netlink.AppendAttr32(raw, attrPCPU, 0)
	raw = netlink.AppendAttr(raw, attrDirection, []byte{2})
	raw = netlink.AppendAttr32(raw, attrKeepalive, 20)
	raw = netlink.AppendAttr(raw, 40, []byte("forty"))
	raw = netlink.AppendAttr(raw, attrSecCtx, []byte("context!"))
	raw = netlink.AppendAttr(raw, attrIfID, []byte{1, 2}) // too short for what it is
	sa, err := newDecoder(testName).sa(raw, now)
	if err != nil {
		t.Fatal(err)
	}
	if sa.MappingTimer != 30 || sa.PCPU == nil || *sa.PCPU != 0 || sa.KernelDir != sadb.DirOut || sa.Keepalive != 20 ||
		sa.IfID != 0 {
		t.Errorf("decoded %+v", sa)
	}
	want := []sadb.Attr{{Type: attrSecCtx, Data: []byte("context!")}, {Type: attrIfID, Data: []byte{1, 2}},
		{Type: 40, Data: []byte("forty")}}
	if !reflect.DeepEqual(sa.Unknown, want) {
		t.Errorf("unknown attributes %v, want %v", sa.Unknown, want)
	}
	e := encoder{ifindex: testIndex}
	if _, err := e.appendSA(nil, sa, 0, now); err == nil {
		t.Error("an interface id that is none is written")
	}
	sa.Unknown = slices.Delete(sa.Unknown, 1, 2)
	again, err := e.appendSA(nil, sa, 0, now)
	if err != nil {
		t.Fatal(err)
	}
	back, err := newDecoder(testName).sa(again, now)
	if err != nil {
		t.Fatal(err)
	}
	back.Tag, sa.Tag = 0, 0
	if !reflect.DeepEqual(back.Unknown, sa.Unknown) || back.KernelDir != sa.KernelDir || *back.PCPU != *sa.PCPU {
		t.Errorf("after a round trip %+v, want %+v", back, sa)
	}
}

func TestReadOnlyAttributesAreLeftOut(t *testing.T) {
	raw := oneFixture(t, "sas.hex", "gcm-32bit-tunnel4")
	raw = netlink.AppendAttr(raw, attrPad, nil)
	raw = netlink.AppendAttr(raw, attrLastUsed, make([]byte, 8))
	raw = netlink.AppendAttr(raw, attrOffload, make([]byte, 8))
	sa, err := newDecoder(testName).sa(raw, 0)
	if err != nil {
		t.Fatal(err)
	}
	if !sa.Offloaded || len(sa.Unknown) != 0 {
		t.Errorf("offloaded %v, unknown %v", sa.Offloaded, sa.Unknown)
	}
	e := encoder{ifindex: testIndex}
	if _, err := e.appendSA(nil, sa, 0, 0); err == nil {
		t.Error("an offloaded sa was encoded")
	}
}

func TestAuthWithoutTruncation(t *testing.T) {
	raw := oneFixture(t, "sas.hex", "gcm-32bit-tunnel4")[:sizeSA]
	raw = appendAlgorithm(raw, attrAuth, &sadb.Algorithm{Name: "hmac(sha1)",
		Key: sadb.NewSecret([]byte("12345678901234567890"))}, false)
	sa, err := newDecoder(testName).sa(raw, 0)
	if err != nil {
		t.Fatal(err)
	}
	if sa.Auth == nil || sa.Auth.Name != "hmac(sha1)" || sa.Auth.Key.Len() != 20 || sa.Larval() {
		t.Errorf("auth %+v", sa.Auth)
	}
}

func TestLarvalSA(t *testing.T) {
	sa, err := newDecoder(testName).sa(oneFixture(t, "sas.hex", "gcm-32bit-tunnel4")[:sizeSA], 0)
	if err != nil {
		t.Fatal(err)
	}
	if !sa.Larval() || sa.Replicable() {
		t.Errorf("larval %v, replicable %v; want true and false", sa.Larval(), sa.Replicable())
	}
}

func TestInterfacesThatAreGone(t *testing.T) {
	raw := oneFixture(t, "policies.hex", "dev")
	native.PutUint32(raw[48:], 77)
	p, err := newDecoder(testName).policy(raw, 0)
	if err != nil {
		t.Fatal(err)
	}
	if p.Key.Selector.Interface != "ifindex/77" {
		t.Errorf("interface %q", p.Key.Selector.Interface)
	}
	e := encoder{ifindex: testIndex}
	if _, err := e.appendPolicy(nil, p, 0); err == nil {
		t.Error("a policy for an interface that is gone was encoded for installing")
	}
	b, err := e.appendPolicyID(nil, &p.Key)
	if err != nil {
		t.Fatal(err)
	}
	if native.Uint32(b[48:]) != 77 {
		t.Error("a policy for an interface that is gone cannot be deleted")
	}
}

// TestMasksOfPFKEY: a policy of a daemon that speaks PF_KEY reads as its copy on
// a standby does, which netlink made.
func TestMasksOfPFKEY(t *testing.T) {
	full := sadb.Template{Src: netip.MustParseAddr("192.0.2.1"), Dst: netip.MustParseAddr("192.0.2.2"),
		Proto:  sadb.ProtoESP,
		Family: sadb.FamilyIPv4, Mode: sadb.ModeTunnel, AuthAlgs: ^uint32(0), EncAlgs: ^uint32(0), CompAl: ^uint32(0)}
	b := appendTemplate(nil, &full)
	clear(b[52:64])
	var got sadb.Template
	if template(&got, b); got != full {
		t.Errorf("empty masks read as %+v, want %+v", got, full)
	}
	full.EncAlgs, full.CompAl = 0, 1
	if template(&got, appendTemplate(nil, &full)); got != full {
		t.Errorf("masks of which some are empty read as %+v, want %+v", got, full)
	}
}

func TestSocketPolicies(t *testing.T) {
	raw := oneFixture(t, "policies.hex", "out4")
	if !encrypts(newDecoder(testName), raw, nil) {
		t.Error("a policy with a template has nothing encrypted")
	}
	for dir, want := range map[byte]sadb.Direction{3: sadb.DirIn, 4: sadb.DirOut, 5: sadb.DirFwd} {
		raw[polDir] = dir
		p, err := newDecoder(testName).policy(raw, 0)
		if err != nil {
			t.Fatal(err)
		}
		if !p.Socket || p.Key.Dir != want {
			t.Errorf("dir %d: socket %v, direction %s", dir, p.Socket, p.Key.Dir)
		}
		if encrypts(newDecoder(testName), raw, nil) {
			t.Errorf("dir %d: a socket's policy counts as one of the machine", dir)
		}
		e := encoder{ifindex: testIndex}
		if _, err := e.appendPolicy(nil, p, 0); err == nil {
			t.Error("a socket's policy was encoded")
		}
	}
}

func TestDatesBecomeAges(t *testing.T) {
	for _, c := range []struct {
		date uint64
		now  int64
		age  uint64
	}{{100, 150, 50}, {100, 100, 0}, {150, 100, 0}, {100, -5, 0}} {
		if got := age(c.date, c.now); got != c.age {
			t.Errorf("age of %d at %d: %d, want %d", c.date, c.now, got, c.age)
		}
	}
	for _, c := range []struct {
		age  uint64
		now  int64
		date uint64
	}{{50, 150, 100}, {0, 150, 150}, {150, 150, 1}, {1 << 62, 150, 1}, {0, -5, 1}} {
		if got := date(c.age, c.now); got != c.date {
			t.Errorf("date of age %d at %d: %d, want %d", c.age, c.now, got, c.date)
		}
	}
}

func TestEvents(t *testing.T) {
	const own, other = 0x70000001, 77
	sa := oneFixture(t, "sas.hex", "mark")
	pol := oneFixture(t, "policies.hex", "sub")
	pad := func(b []byte, n int) []byte { return append(bytes.Clone(b), make([]byte, n)...) }

	key := sadb.SAKey{Dst: netip.MustParseAddr("198.51.100.1"), SPI: 0xc100001a, Proto: sadb.ProtoESP,
		Mark: sadb.Mark{Value: 0x2a, Mask: 0xff}}
	delSA := netlink.AppendAttr(appendKey(nil, key), attrSA, sa[:sizeSA])
	delSA = append(delSA, sa[sizeSA:]...)
	bareDelSA := appendMark(appendKey(nil, key), key.Mark)
	expire := append(pad(sa[:sizeSA], 8), sa[sizeSA:]...)
	hardExpire := bytes.Clone(expire)
	hardExpire[sizeSA] = 1
	delPol := pad(pol[:sizeSelector], 8)
	delPol[60] = pol[polDir]
	bareDelPol := append(bytes.Clone(delPol), pol[sizePolicy:]...)
	delPol = append(netlink.AppendAttr(delPol, attrPolicy, pol[:sizePolicy]), pol[sizePolicy:]...)
	polExpire := append(pad(pol[:sizePolicy], 8), pol[sizePolicy:]...)
	polExpire[sizePolicy] = 1
	mapping := pad(appendKey(nil, key), 40)
	copy(mapping[44:], []byte{203, 0, 113, 9, 0xde, 0xad, 0xbe, 0xef}) // as the kernel leaves them
	network.PutUint16(mapping[62:], 61234)

	isSA := func(full bool) func(sadb.Event) bool {
		return func(ev sadb.Event) bool { return ev.SA != nil && ev.SA.Key == key && (ev.SA.AEAD != nil) == full }
	}
	isPolicy := func(full bool) func(sadb.Event) bool {
		return func(ev sadb.Event) bool {
			return ev.Policy != nil && ev.Policy.Key.Sub && ev.Policy.Key.Dir == sadb.DirOut &&
				ev.Policy.Key.Selector.SrcLen == 16 && (ev.Policy.Limits.HardBytes == sadb.NoLimit) == full &&
				len(ev.Policy.Templates) == 1
		}
	}
	for _, c := range []struct {
		name    string
		typ     uint16
		pid     uint32
		payload []byte
		kind    sadb.EventKind
		check   func(sadb.Event) bool
	}{
		{"sa added", msgNewSA, own, sa, sadb.EventPutSA, isSA(true)},
		{"sa updated", msgUpdSA, other, sa, sadb.EventPutSA, isSA(true)},
		{"sa deleted", msgDelSA, own, delSA, sadb.EventDeleteSA, isSA(true)},
		{"sa deleted, identity only", msgDelSA, other, bareDelSA, sadb.EventDeleteSA, isSA(false)},
		{"sa soft", msgExpire, 0, expire, sadb.EventExpireSA, func(ev sadb.Event) bool {
			return isSA(true)(ev) &&
				!ev.Hard
		}},
		{"sa hard", msgExpire, 0, hardExpire, sadb.EventExpireSA, func(ev sadb.Event) bool {
			return isSA(true)(ev) &&
				ev.Hard
		}},
		{"sas flushed", msgFlushSA, 0, []byte{255}, sadb.EventFlushSA,
			func(ev sadb.Event) bool { return ev.Proto == 0 }},
		{"ah flushed", msgFlushSA, 0, []byte{51}, sadb.EventFlushSA,
			func(ev sadb.Event) bool { return ev.Proto == 51 }},
		{"policy added", msgNewPolicy, own, pol, sadb.EventPutPolicy, isPolicy(true)},
		{"policy updated", msgUpdPolicy, own, pol, sadb.EventPutPolicy, isPolicy(true)},
		{"policy deleted", msgDelPolicy, own, delPol, sadb.EventDeletePolicy, isPolicy(true)},
		{"policy deleted, identity only", msgDelPolicy, own, bareDelPol, sadb.EventDeletePolicy, isPolicy(false)},
		{"policy hard", msgPolExpire, 0, polExpire, sadb.EventExpirePolicy,
			func(ev sadb.Event) bool { return isPolicy(true)(ev) && ev.Hard }},
		{"policies flushed", msgFlushPolicy, 0, nil, sadb.EventFlushPolicy,
			func(ev sadb.Event) bool { return !ev.Sub }},
		{"sub policies flushed", msgFlushPolicy, 0, netlink.AppendAttr(nil, attrPolicyType, []byte{1, 0, 0, 0, 0, 0}),
			sadb.EventFlushPolicy, func(ev sadb.Event) bool { return ev.Sub }},
		{"mapping", msgMapping, 0, mapping, sadb.EventMapping, func(ev sadb.Event) bool {
			return ev.SA.Key.SPI == key.SPI && ev.SA.Src == netip.MustParseAddr("203.0.113.9") &&
				ev.Encap.SrcPort == 61234
		}},
		{"migrate", msgMigrate, other, nil, sadb.EventResync,
			func(ev sadb.Event) bool { return ev.Reason == "migrate" }},
	} {
		t.Run(c.name, func(t *testing.T) {
			ev, ok, err := newDecoder(testName).event(netlink.Message{Type: c.typ, PID: c.pid, Payload: c.payload}, own,
				recordedAt(sa, saCurrent+16))
			if err != nil || !ok {
				t.Fatalf("ok %v, error %v", ok, err)
			}
			if ev.Kind != c.kind || ev.Own != (c.pid == own) || !c.check(ev) {
				t.Errorf("event %+v", ev)
			}
			for cut := range c.payload {
				// Whatever is cut off, it decodes to something or fails.
				_, _, _ = newDecoder(testName).event(netlink.Message{Type: c.typ, Payload: c.payload[:cut:cut]}, own, 0)
			}
		})
	}
	if _, ok, err := newDecoder(testName).event(netlink.Message{Type: msgGetDefault, Payload: make([]byte, 3)}, own,
		0); ok || err != nil {
		t.Errorf("a change of the default policy: ok %v, error %v", ok, err)
	}
}

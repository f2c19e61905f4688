package ike

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"debug/elf"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"sasyncd/tests/harness/lab"
	"sasyncd/tests/harness/meter"
	"sasyncd/tests/scenario"
)

// ikev1 is one way of speaking IKEv1 in main mode.
type ikev1 struct {
	libreswan    bool // on the gateways; strongSwan otherwise, and at the remote end
	certificates bool // a pre-shared key otherwise
	natt         bool // ESP in UDP
}

// How quickly the remote of these drills is to notice a dead peer; in the
// example it has more patience.
const (
	dpdDelay   = time.Second
	dpdTimeout = 10 * time.Second
)

// budgetRestart is for how long a charon that has crashed may be away, and how long a
// pluto that has crashed and emptied the tables may keep packets from passing.
const budgetRestart = 1500 * time.Millisecond

// requireRace is requireLost for IKEv1, where packets can be lost to the remote
// as well: the initiator of a quick mode uses the new SA as it sends the last
// message, which the responder has yet to deal with.
func requireRace(t *testing.T, m *meter.Meter, what string, from, to time.Time) {
	t.Helper()
	for _, f := range m.Flows {
		r := f.Between(from, to)
		t.Logf("%s: %v", what, r)
		if may := 1 + int(min(r.Stall, slowest).Seconds()*rate); r.Lost > may || r.Sent == 0 {
			t.Errorf("%s: %s lost %d of %d packets, at most %d may be", what, f.Name, r.Lost, r.Sent, may)
		}
	}
}

// TestIKEv1StrongSwan is the drill of IKEv2 for main
// mode: cold start, a crash of the IKE daemon on the master, power cut, return,
// hand-over, rekeys from either side, with dead peer detection at the remote.
func TestIKEv1StrongSwan(t *testing.T) {
	t.Run("psk", func(t *testing.T) { ikev1{}.drill(t) })
	t.Run("certificates and NAT-T", func(t *testing.T) { ikev1{certificates: true, natt: true}.drill(t) })
}

// TestIKEv1Libreswan is the same with libreswan on the gateways.
func TestIKEv1Libreswan(t *testing.T) {
	t.Run("psk", func(t *testing.T) { ikev1{libreswan: true}.drill(t) })
	t.Run("certificates and NAT-T", func(t *testing.T) {
		ikev1{libreswan: true, certificates: true,
			natt: true}.drill(t)
	})
}

// swanctl is an example with the settings of the variant.
func (v ikev1) swanctl(t *testing.T, end string) string {
	t.Helper()
	s := example(t, "ikev1", end, "swanctl.conf")
	s = regexp.MustCompile(`dpd_delay = \w+`).ReplaceAllString(s, "dpd_delay = "+dpdDelay.String())
	s = regexp.MustCompile(`dpd_timeout = \w+`).ReplaceAllString(s, "dpd_timeout = "+dpdTimeout.String())
	if v.certificates {
		s = withCertificates(s)
	}
	if v.natt {
		s = strings.ReplaceAll(s, "version = 1", "version = 1\n\t\tencap = yes")
	}
	return s
}

// ipsecConf is the same for libreswan.
func (v ikev1) ipsecConf(t *testing.T) string {
	t.Helper()
	s := example(t, "ikev1", "gateway", "ipsec.conf")
	if v.certificates {
		s = strings.ReplaceAll(s, "authby=secret",
			"authby=rsasig\n\tleftcert=own\n\tleftsendcert=always\n\trightca=%same")
	}
	if v.natt {
		s = strings.ReplaceAll(s, "ikev2=no", "ikev2=no\n\tencapsulation=yes")
	}
	return s
}

// daemon is an IKE daemon of a gateway.
type daemon struct {
	*stage
	boot  func()
	crash func()
	rekey func(child string)
	// empties says that its start empties the SAD and the SPD.
	empties bool
}

// gateway makes the daemon of a gateway.
func (v ikev1) gateway(t *testing.T, nd *lab.Node, spis string) daemon {
	t.Helper()
	if !v.libreswan {
		c := newCharon(t, nd, spis, v.swanctl(t, "gateway"))
		return daemon{stage: &stage{Node: nd}, boot: c.supervise, crash: func() { kill(t, c) },
			rekey: func(child string) { c.swanctl("--rekey --child " + child) }}
	}
	p := newPluto(t, nd, "")
	p.conf = v.ipsecConf(t)
	if v.certificates {
		p.p12 = p.pack(t)
	}
	return daemon{stage: &p.stage, empties: p.empties(t), boot: func() { p.boot(t) }, crash: func() { p.crash(t) },
		// pluto refuses --rekey-ipsec ("cannot force rekey of IKEv1 connection"). On
		// the wire a rekey is nothing but another quick mode.
		rekey: func(child string) { p.whack(t, "--initiate --asynchronous --name "+child) }}
}

// pack puts what authority.give gave into one file, as libreswan wants it.
func (p *pluto) pack(t *testing.T) string {
	t.Helper()
	file := filepath.Join(p.Dir(), "own.p12")
	cmd := exec.Command("openssl", "pkcs12", "-export", "-name", "own", "-caname", "CA", "-passout", "pass:", "-out",
		file,
		"-inkey", p.Dir()+"/private/own.pem", "-in", p.Dir()+"/x509/own.pem", "-certfile", p.Dir()+"/x509ca/ca.pem")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("pack certificates: %v\n%s", err, out)
	}
	return file
}

// requireIKEv1 skips a test whose charon is built without IKEv1, as Debian's is from
// strongSwan 6.1 on.
func requireIKEv1(t *testing.T) {
	t.Helper()
	f, err := elf.Open("/usr/lib/ipsec/libcharon.so.0")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	symbols, err := f.DynamicSymbols()
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(symbols, func(s elf.Symbol) bool { return s.Name == "main_mode_create" }) {
		t.Skip("this charon is built without IKEv1")
	}
}

func (v ikev1) drill(t *testing.T) {
	requireIKEv1(t)
	p, gw1, gw2 := bare(t)
	name := "strongswan"
	if v.libreswan {
		name = "libreswan"
	}
	if v.certificates {
		a := newRSAAuthority(t)
		cert, key := a.issue(&x509.Certificate{Subject: pkix.Name{CommonName: "gw"},
			DNSNames: []string{"gw.example.org"}})
		a.give(gw1.Node, cert, key)
		a.give(gw2.Node, cert, key)
		cert, key = a.issue(&x509.Certificate{Subject: pkix.Name{CommonName: "remote"},
			DNSNames: []string{"remote.example.org"}})
		a.give(p.RGW, cert, key)
	}
	d1, d2 := v.gateway(t, gw1.Node, "c1"), v.gateway(t, gw2.Node, "c2")
	r := newCharon(t, p.RGW, "cf", v.swanctl(t, "remote"))
	r.start()
	d1.boot()
	d2.boot()
	startOn(t, p, gw1, d1.stage, name)
	startOn(t, p, gw2, d2.stage, name)
	gw1.Lead()
	waitIKE(t, gw1, "active")
	waitIKE(t, gw2, "passive")
	p.WaitFit(gw1)

	w := watch(t, p)
	m := traffic(t, p)
	flowing(t, m, rate)

	// The IKE daemon dies on the master: nothing is lost, it negotiates again.
	from := time.Now()
	d1.crash()
	lab.Eventually(t, limit, "the daemon's return to be noticed",
		func() bool { return ikeStatus(t, gw1).Restarts == 1 })
	waitIKE(t, gw1, "active")
	flowing(t, m, rate)
	to := time.Now()
	flowing(t, m, rate/10)
	switch {
	case d1.empties:
		requirePutBack(t, m, gw1, from, to)
	case v.natt && !v.libreswan:
		// charon cannot share port 4500, so while it restarts nobody takes ESP
		// out of UDP. Beside pluto the port is held all the time.
		requireOneGap(t, m, "crash of the ike daemon on the master", budgetRestart, from, to)
	default:
		requireRace(t, m, "crash of the ike daemon on the master", from, to)
	}

	// Power cut. Everything is negotiated anew well before a remote without
	// answers would give up.
	from = time.Now()
	gw1.Off()
	gw2.WaitRole("MASTER")
	w.requireNoIKE(t, gw2.WAN, time.Time{}, from, "as a backup")
	waitIKE(t, gw2, "active")
	if took := time.Since(from); took > dpdTimeout {
		t.Errorf("after %v all is negotiated, the remote has patience for %v", took, dpdTimeout)
	} else {
		t.Logf("all is negotiated %v after the power cut", took)
	}
	flowing(t, m, rate)
	to = time.Now()
	flowing(t, m, rate/10)
	requireOneGap(t, m, "power cut", scenario.BudgetPowerCut, from, to)

	// Whatever the remote still holds of the old master runs out now.
	from = to
	flowing(t, m, int((dpdTimeout+2*dpdDelay).Seconds()*rate))
	to = time.Now()
	flowing(t, m, rate/10)
	requireRace(t, m, "the remote's patience with the old master", from, to)
	rekeyEach(t, m, d2, r)

	// Return, hand-over.
	from = time.Now()
	d1.boot()
	startOn(t, p, gw1, d1.stage, name)
	gw1.PowerOn()
	gw1.WaitInSync()
	p.WaitFit(gw2)
	waitIKE(t, gw1, "passive")
	flowing(t, m, rate)
	w.requireNoIKE(t, gw1.WAN, from, time.Now(), "as a backup")
	from = time.Now()
	gw2.Resign()
	gw1.WaitRole("MASTER")
	waitIKE(t, gw1, "active")
	waitIKE(t, gw2, "passive")
	flowing(t, m, rate)
	to = time.Now()
	flowing(t, m, rate/10)
	requireOneGap(t, m, "hand-over", budgetHandOver, from, to)
	requireSilentAfter(t, w, gw2, gw1, from)
	p.WaitFit(gw1)

	m.Stop()
	w.RequireClean()
	requireNoReplays(t, p.RGW, gw1.Node, gw2.Node)
	requireNoDelete(t, r)
	if v.natt {
		for _, g := range p.Members {
			if out := g.Run("ip xfrm state"); !strings.Contains(out, "type espinudp") {
				t.Errorf("%s has no SA in UDP", g.Name)
			}
		}
	}
}

// rekeyEach rekeys every child from either side.
func rekeyEach(t *testing.T, m *meter.Meter, d daemon, r *charon) {
	t.Helper()
	for _, child := range []string{"site4", "site6"} {
		for who, rekey := range map[string]func(string){
			"the remote":  func(child string) { r.swanctl("--rekey --child " + child) },
			"the gateway": d.rekey,
		} {
			from, n := time.Now(), strings.Count(r.log(), "established with SPIs")
			rekey(child)
			lab.Eventually(t, limit, "rekey of "+child+" from "+who, func() bool {
				return strings.Count(r.log(), "established with SPIs") > n
			})
			flowing(t, m, rate/4)
			to := time.Now()
			flowing(t, m, rate/10)
			requireRace(t, m, "rekey of "+child+" from "+who, from, to)
		}
	}
}

package ike

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sasyncd/tests/harness/lab"
	"sasyncd/tests/scenario"
)

// authority issues certificates.
type authority struct {
	t    *testing.T
	cert *x509.Certificate
	key  crypto.Signer
	rsa  bool
}

func newAuthority(t *testing.T) *authority { return (&authority{t: t}).root() }

// newRSAAuthority is for IKEv1, where libreswan has nothing else.
func newRSAAuthority(t *testing.T) *authority { return (&authority{t: t, rsa: true}).root() }

func (a *authority) root() *authority {
	a.cert, a.key = a.issue(&x509.Certificate{Subject: pkix.Name{CommonName: "CA"}, IsCA: true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign})
	return a
}

func (a *authority) issue(c *x509.Certificate) (*x509.Certificate, crypto.Signer) {
	a.t.Helper()
	var key crypto.Signer
	var err error
	if a.rsa {
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	} else {
		key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	}
	if err != nil {
		a.t.Fatal(err)
	}
	c.SerialNumber = big.NewInt(time.Now().UnixNano())
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(time.Hour)
	parent, signer := c, key
	if a.cert != nil {
		parent, signer = a.cert, a.key
	}
	der, err := x509.CreateCertificate(rand.Reader, c, parent, key.Public(), signer)
	if err != nil {
		a.t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		a.t.Fatal(err)
	}
	return cert, key
}

// give puts a certificate for an identity where swanctl looks for it.
func (a *authority) give(nd *lab.Node, cert *x509.Certificate, key crypto.Signer) {
	a.t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		a.t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{
		"x509ca/ca.pem":   {Type: "CERTIFICATE", Bytes: a.cert.Raw},
		"x509/own.pem":    {Type: "CERTIFICATE", Bytes: cert.Raw},
		"private/own.pem": {Type: "PRIVATE KEY", Bytes: der},
	} {
		if err := os.MkdirAll(filepath.Join(nd.Dir(), filepath.Dir(file)), 0o700); err != nil {
			a.t.Fatal(err)
		}
		nd.WriteFile(file, string(pem.EncodeToMemory(block)))
	}
}

// withCertificates turns a configuration with a pre-shared key into one without.
func withCertificates(conf string) string {
	conf, _, _ = strings.Cut(conf, "\nsecrets {")
	conf = strings.ReplaceAll(conf, "auth = psk", "auth = pubkey")
	return strings.ReplaceAll(conf, "local {", "local {\n\t\t\tcerts = own.pem")
}

// TestStrongSwanCertificates is what comes after a power cut, with certificates
// on all ends and dead peer detection at the remote: that sees nothing but the
// new master's negotiation; then the replicated SAs are collected; then both
// gateways lose their power, come back empty, and the tunnels come up again.
func TestStrongSwanCertificates(t *testing.T) {
	p, gw1, gw2 := bare(t)
	a := newAuthority(t)
	// One certificate for the pair: the remote must not see which it speaks with.
	cert, key := a.issue(&x509.Certificate{Subject: pkix.Name{CommonName: "gw"}, DNSNames: []string{"gw.example.org"}})
	charons := make(map[*scenario.Member]*charon)
	for gw, spis := range map[*scenario.Member]string{gw1: "c1", gw2: "c2"} {
		c := newCharon(t, gw.Node, spis, withCertificates(example(t, "strongswan", "gateway", "swanctl.conf")))
		a.give(c.Node, cert, key)
		c.supervise()
		charons[gw] = c
	}
	conf := withCertificates(example(t, "strongswan", "remote", "swanctl.conf"))
	r := newCharon(t, p.RGW, "cf", strings.ReplaceAll(conf, "dpd_delay = 30s", "dpd_delay = 1s"))
	cert, key = a.issue(&x509.Certificate{Subject: pkix.Name{CommonName: "remote"},
		DNSNames: []string{"remote.example.org"}})
	a.give(r.Node, cert, key)
	r.start()
	boot := func(gws ...*scenario.Member) {
		for _, gw := range gws {
			startOn(t, p, gw, &stage{Node: gw.Node}, "strongswan")
		}
	}
	boot(gw1, gw2)
	gw1.Lead()
	waitIKE(t, gw1, "active")
	p.WaitFit(gw1)
	w := watch(t, p)
	m := traffic(t, p)
	flowing(t, m, rate)

	// Power cut.
	from := time.Now()
	before := strings.Count(r.log(), "established between")
	gw1.Off()
	gw2.WaitRole("MASTER")
	waitIKE(t, gw2, "active")
	flowing(t, m, 2*rate)
	to := time.Now()
	requireOneGap(t, m, "power cut", scenario.BudgetPowerCut, from, to)
	if n := strings.Count(r.log(), "established between") - before; n != 2 {
		t.Errorf("%d IKE SAs were negotiated after the power cut, want the new master's 2", n)
	}
	for _, bad := range []string{"giving up", "> initiating IKE_SA"} { // the peer's begins with "is"
		if strings.Contains(r.log(), bad) {
			t.Errorf("the remote's log has %q", bad)
		}
	}
	if msgs := w.ike(p.RGWPort, from, to); len(msgs) > 0 {
		for _, msg := range msgs {
			if first := w.ike(gw2.WAN, from, to); msg.request && len(first) > 0 &&
				msg.at.After(from.Add(scenario.BudgetPowerCut)) && msg.at.Before(first[0].at) {
				t.Errorf("before the new master spoke, the remote asked: %v", msg)
			}
		}
	}

	// The replicated SAs go, once they are not used any more.
	from = to
	if list := states(t, gw2.Node); len(list) != 8 {
		t.Errorf("%d SAs after the negotiation of 2 tunnels, want both generations, 8:\n%s", len(list),
			strings.Join(list, "\n"))
	}
	lab.Eventually(t, 2*time.Minute, "the replicated SAs to be collected",
		func() bool { return len(states(t, gw2.Node)) == 4 })
	flowing(t, m, rate)
	to = time.Now()
	flowing(t, m, rate/10)
	requireNone(t, m, "collection", from, to)
	m.Stop()
	w.RequireClean()

	// Both lose their power and their memory; this is a cold start, at whose
	// remote end the old SAs still are.
	gw2.Off()
	for _, gw := range []*scenario.Member{gw1, gw2} {
		gw.Forget()
		charons[gw].supervise()
	}
	gw1.PowerOn()
	gw2.PowerOn()
	boot(gw2, gw1)
	var master *scenario.Member
	lab.Eventually(t, limit, "a master after the cold start", func() bool {
		if ms := p.Masters(); len(ms) == 1 {
			master = ms[0]
		}
		return master != nil
	})
	waitIKE(t, master, "active")
	p.WaitFit(master)
	m = traffic(t, p)
	flowing(t, m, rate)
	m.Stop()
	requireNoReplays(t, p.RGW, gw1.Node, gw2.Node)
	requireNoDelete(t, r)
}

// states returns a node's SAs, each by its ends, SPI and reqid.
func states(t *testing.T, nd *lab.Node) (list []string) {
	t.Helper()
	tables, err := scenario.ReadTables(nd)
	if err != nil {
		t.Error(err)
	}
	for _, s := range tables.States {
		lines := strings.SplitN(s, "\n", 3)
		list = append(list, strings.Join(lines[:min(len(lines), 2)], " "))
	}
	return list
}

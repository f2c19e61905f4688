package drills

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sasyncd/kernel/xfrm"
	"sasyncd/keying/ipsecconf"
	"sasyncd/sync/sadb"
	"sasyncd/tests/harness"
	"sasyncd/tests/harness/lab"
	"sasyncd/tests/scenario"
)

// staticExample reads a file of the example with static keys, with the lab's
// addresses in place of its own.
func staticExample(t *testing.T, side string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "..", "deploy", "examples", "static", side, "ipsec.conf"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.NewReplacer(
		"203.0.113.1", lab.VIPOut.String(), "2001:db8:1::1", lab.VIPOut6.String(),
		"198.51.100.1", lab.RGWOut.String(), "2001:db8:2::1", lab.RGWOut6.String(),
	).Replace(string(b))
}

func loadStatic(t *testing.T, text string) ipsecconf.Set {
	t.Helper()
	r, err := ipsecconf.Load("ipsec.conf", func(string) ([]byte, error) { return []byte(text), nil })
	if err != nil {
		t.Fatal(err)
	}
	return r.Set
}

// installStatic gives the remote gateway its side, as a box does that looks at
// sequence numbers.
func installStatic(t *testing.T, nd *lab.Node, set ipsecconf.Set) {
	t.Helper()
	var k *xfrm.Kernel
	if err := nd.Do(func() (err error) { k, err = xfrm.New(xfrm.Options{}); return err }); err != nil {
		t.Fatal(err)
	}
	defer k.Close()
	var ops []sadb.Op
	for _, e := range set.SAs {
		e.SA.Window = 32
		ops = append(ops, sadb.Op{Kind: sadb.OpAddSA, SA: e.SA})
	}
	for _, f := range set.Flows {
		for _, p := range f.Policies {
			ops = append(ops, sadb.Op{Kind: sadb.OpAddPolicy, Policy: p})
		}
	}
	if err := errors.Join(k.Apply(t.Context(), ops)...); err != nil {
		t.Fatal(err)
	}
}

// shownStatic asks sasyncctl for the kernel's tables as a file, and returns the
// rules that are read from it.
func shownStatic(t *testing.T, m *scenario.Member) []string {
	t.Helper()
	bin, err := harness.Binary("sasyncctl")
	if err != nil {
		t.Fatal(err)
	}
	return rulesOf(loadStatic(t, m.Run(bin+" -s "+m.Socket()+" show all -v -k")))
}

func rulesOf(set ipsecconf.Set) (list []string) {
	for line := range strings.SplitSeq(strings.ReplaceAll(ipsecconf.Print(set), " \\\n\t", " "), "\n") {
		if line != "" {
			list = append(list, line)
		}
	}
	slices.Sort(list)
	return list
}

// TestStaticKeys is a pair without an IKE daemon, with the files of the example,
// under traffic that never stops: it loads them, follows a change of the file,
// fails over, and is started again after both gateways were without power. No
// number is sent twice, though no key ever changes.
func TestStaticKeys(t *testing.T) {
	p := scenario.NewPair(t)
	gw1, gw2 := p.Members[0], p.Members[1]
	gw1.Forget()
	p.RGW.Run("ip xfrm state flush")
	p.RGW.Run("ip xfrm policy flush")
	installStatic(t, p.RGW, loadStatic(t, staticExample(t, "remote")))
	text := staticExample(t, "gateway")
	write := func(text string) {
		for _, m := range p.Members {
			m.WriteFile("ipsec.conf", text)
		}
	}
	// counts waits until both gateways hold that many of each, the same ones.
	counts := func(sas, policies int) {
		t.Helper()
		lab.Eventually(t, limit, fmt.Sprintf("both gateways to hold %d SAs and %d policies", sas, policies),
			func() bool {
				for _, m := range p.Members {
					tb, err := scenario.ReadTables(m.Node)
					if err != nil || len(tb.States) != sas || len(tb.Policies) != policies {
						return false
					}
				}
				return true
			})
		requireEqual(t, tables(t, gw1), tables(t, gw2), "gw1", "gw2")
	}
	write(text)
	p.Control = `static "DIR/ipsec.conf"`
	p.Start()
	counts(4, 6)
	want := rulesOf(loadStatic(t, text))
	for _, m := range p.Members {
		if got := shownStatic(t, m); !slices.Equal(got, want) {
			t.Errorf("%s shows\n%s\nwant\n%s", m.Name, strings.Join(got, "\n"), strings.Join(want, "\n"))
		}
	}
	m, c := traffic(t, p)
	flowing(t, m, rate/5)

	// A rule more, and one less again; nothing of the others is lost.
	began := time.Now()
	write(text + "esp from " + lab.VIPOut.String() + " to 192.0.2.101 spi 0x30c1:0x30c2 auth hmac-sha1 " +
		"authkey 0x00112233445566778899aabbccddeeff00112233:0x33221100ffeeddccbbaa99887766554433221100 " +
		"enckey 0x00112233445566778899aabbccddeeff:0xffeeddccbbaa99887766554433221100\n" +
		"flow from 10.1.0.0/24 to 10.3.0.0/24 peer 192.0.2.101\n")
	reload := func() {
		t.Helper()
		for _, m := range p.Members {
			if err := scenario.Ask(m.Socket(), "reload", nil); err != nil {
				t.Fatal(err)
			}
		}
	}
	reload()
	counts(6, 9)
	write(text)
	reload()
	counts(4, 6)
	flowing(t, m, rate/5)
	for _, f := range m.Flows { // the last packets may be under way
		if lost := f.Sent() - f.Received(); lost > 5 {
			t.Errorf("changes of the file: %s lost %d packets: %v", f.Name, lost, f.Between(began, time.Now()))
		}
	}

	// A takeover makes nothing anew.
	cut := time.Now()
	gw1.Off()
	gw2.WaitRole("MASTER")
	flowing(t, m, rate)
	if r := m.Between(cut, time.Now()); r.Gap > scenario.BudgetPowerCut {
		t.Errorf("power cut: %v", r)
	}
	if out := gw2.Sasyncd.Output(); strings.Contains(out, "static SAs loaded") {
		t.Errorf("gw2 has changed SAs at its promotion:\n%s", out)
	}

	// Both were without power: the same keys again, beyond the disk's numbers.
	gw2.Off()
	gw1.Forget()
	gw2.Forget()
	gw2.StartDaemons()
	gw2.PowerOn()
	gw2.WaitRole("MASTER")
	flowing(t, m, rate/5)
	gw1.Return()
	p.WaitFit(gw2)
	counts(4, 6)
	m.Stop()
	c.RequireClean()
	requireNothingRefused(t, p)
}

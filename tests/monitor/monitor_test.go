// Package monitor has a real Prometheus server watch a pair of gateways with
// the rules that are shipped. It takes longer than the other drills and has a
// target of its own, make drill-prometheus. As root it runs natively: nothing
// in it needs ESP.
package monitor

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"sasyncd/tests/harness"
	"sasyncd/tests/harness/lab"
)

const envBinary = "MONITOR_BIN"

func programs() []string { return []string{"./cmd/carpd", "./cmd/sasyncd", "./cmd/carpctl"} }

func TestMain(m *testing.M) {
	if os.Geteuid() != 0 || harness.Guest() {
		harness.Main(m, harness.Build(programs()...), harness.Memory(1<<30))
	}
	dir, err := os.MkdirTemp("", "monitor")
	if err == nil {
		cmd := exec.Command("go", append([]string{"build", "-o", dir}, programs()...)...)
		cmd.Dir = "../.."
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		var out []byte
		if out, err = cmd.CombinedOutput(); err != nil {
			err = fmt.Errorf("build: %w\n%s", err, out)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Setenv(envBinary, dir)
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

func program(t *testing.T, name string) string {
	t.Helper()
	if dir := os.Getenv(envBinary); dir != "" {
		return filepath.Join(dir, name)
	}
	p, err := harness.Binary(name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// limit of what is waited for: that it happens at all.
const limit = 60 * time.Second

type gateway struct {
	*lab.Node
	port           *lab.Port
	addr           string // among the gateways
	watched        string // where metrics are
	carpd, sasyncd *lab.Daemon
}

// start runs both daemons of a gateway, with metrics for everybody.
func (g *gateway) start(t *testing.T, priority int, peer, key string) {
	t.Helper()
	carpdConf := g.WriteFile("carpd.conf", fmt.Sprintf(`group ipsec { require sasyncd; start-hold 300ms }
vrrp outside { carpdev eth0; vrid 10; priority %d; interval 250ms; address 10.1.0.1/32; group ipsec }
socket "%[2]s/carpd.sock"
statedir "%[2]s/carpd"
metrics listen on %[3]s
`, priority, g.Dir(), g.watched))
	g.WriteFile("key", key+"\n")
	sasyncdConf := g.WriteFile("sasyncd.conf", fmt.Sprintf(`interface outside
peer %[1]s
listen on %[2]s
sharedkey file "%[3]s/key"
control none
socket "%[3]s/sasyncd.sock"
carpd socket "%[3]s/carpd.sock"
statedir "%[3]s/sasyncd"
metrics listen on %[4]s
`, peer, g.addr, g.Dir(), g.watched))
	g.carpd = g.Exec("carpd", exec.Command(program(t, "carpd"), "-c", carpdConf))
	g.sasyncd = g.Exec("sasyncd", exec.Command(program(t, "sasyncd"), "-c", sasyncdConf))
}

// server is a Prometheus that asks both every second.
type server struct {
	*lab.Node
	t *testing.T
}

// query returns the lines of an instant query's answer.
func (s *server) query(expr string) []string {
	s.t.Helper()
	dir := s.Dir()
	if err := os.WriteFile(filepath.Join(dir, "query.sh"), []byte("exec promtool query instant http://127.0.0.1:9090 '"+expr+"'\n"), 0o700); err != nil {
		s.t.Fatal(err)
	}
	out, err := s.Try("sh " + dir + "/query.sh")
	if err != nil {
		return nil // not there yet
	}
	return slices.DeleteFunc(strings.Split(out, "\n"), func(l string) bool { return strings.TrimSpace(l) == "" })
}

// get fetches a page by a connection from the server's network.
func (s *server) get(addr, path string) string {
	s.t.Helper()
	var conn net.Conn
	if err := s.Do(func() (err error) {
		conn, err = net.Dial("tcp", addr)
		return err
	}); err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	req, err := http.NewRequest("GET", "http://"+addr+path, nil)
	if err != nil {
		s.t.Fatal(err)
	}
	req.Close = true
	if err := req.Write(conn); err != nil {
		s.t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		s.t.Fatal(err)
	}
	return string(body)
}

// firing returns the names of the alerts that fire.
func (s *server) firing() (out []string) {
	s.t.Helper()
	name := regexp.MustCompile(`alertname="(\w+)"`)
	for _, line := range s.query(`ALERTS{alertstate="firing"}`) {
		if m := name.FindStringSubmatch(line); m != nil {
			out = append(out, m[1])
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (s *server) waitFiring(name string, want bool) {
	s.t.Helper()
	lab.Eventually(s.t, limit, fmt.Sprintf("%s to fire: %t", name, want), func() bool {
		time.Sleep(300 * time.Millisecond) // a query is a process
		return slices.Contains(s.firing(), name) == want
	})
}

// serve starts Prometheus with the shipped rules, which wait less before they
// fire, and the shipped configuration with other addresses.
func serve(t *testing.T, nd *lab.Node) *server {
	t.Helper()
	rules, err := os.ReadFile("../../deploy/prometheus/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	nd.WriteFile("alerts.yml", regexp.MustCompile(`for: \w+`).ReplaceAllString(string(rules), "for: 3s"))
	config, err := os.ReadFile("../../deploy/prometheus/prometheus.yml")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("10.9.0.", "10.2.0.1", "scrape_interval: 5s", "scrape_interval: 1s\n    scrape_timeout: 1s").Replace(string(config))
	path := nd.WriteFile("prometheus.yml", "global: {evaluation_interval: 1s}\n"+text)
	prometheus, err := exec.LookPath("prometheus")
	if err != nil {
		t.Fatal("prometheus is needed: apt-get install prometheus")
	}
	nd.Exec("prometheus", exec.Command(prometheus, "--config.file="+path, "--storage.tsdb.path="+nd.Dir()+"/data", "--web.listen-address=127.0.0.1:9090"))
	return &server{nd, t}
}

// TestPrometheusThroughAFailover: nothing fires on a healthy pair; the lag alert
// fires while replication stands still and clears when it goes on; so do those
// of a demotion and of a split; a power cut fires what it should, and the
// takeover and its gap are on record.
func TestPrometheusThroughAFailover(t *testing.T) {
	world := lab.New(t)
	lan, mgmt := world.Switch("lan"), world.Switch("mgmt")
	var gws []*gateway
	for i := 1; i <= 2; i++ {
		g := &gateway{Node: world.Node(fmt.Sprintf("gw%d", i)), addr: fmt.Sprintf("10.1.0.1%d", i), watched: fmt.Sprintf("10.2.0.1%d", i)}
		g.port = g.Plug(lan, "eth0", g.addr+"/24")
		g.Plug(mgmt, "eth1", g.watched+"/24")
		gws = append(gws, g)
	}
	mon := world.Node("mon")
	mon.Plug(mgmt, "eth0", "10.2.0.100/24")
	const key = "0x0123456789abcdeffedcba98765432100f1e2d3c4b5a69788796a5b4c3d2e1f0"
	gws[0].start(t, 200, gws[1].addr, key)
	gws[1].start(t, 150, gws[0].addr, key)
	s := serve(t, mon)

	has := func(what, expr string) {
		t.Helper()
		lab.Eventually(t, limit, what, func() bool {
			time.Sleep(300 * time.Millisecond)
			return len(s.query(expr)) > 0
		})
	}
	has("all four listeners to be scraped", "sum(up) == 4")
	has("gw1 to be MASTER", `carpd_state{instance="10.2.0.11:9751",state="master"} == 1`)
	has("gw2 to be in sync", `sasyncd_in_sync{instance="10.2.0.12:9750"} == 1 and sasyncd_counter_age_seconds > 0`)
	for _, g := range gws {
		for port, group := range map[string]string{"9750": "outside", "9751": "ipsec"} {
			role := map[*gateway]string{gws[0]: "MASTER", gws[1]: "BACKUP"}[g]
			page := s.get(g.watched+":"+port, "/status.json")
			for _, want := range []string{`"` + group + `":"` + role + `"`, `"vips":["10.1.0.1"]`, `"events":[{`} {
				if !strings.Contains(page, want) {
					t.Errorf("status.json of %s:%s lacks %s: %s", g.Name, port, want, page)
				}
			}
			if strings.Contains(page, key[2:10]) {
				t.Errorf("status.json of %s:%s has the key", g.Name, port)
			}
			for path, want := range map[string]string{"/healthz": "ok", "/readyz": "ok", "/": "<!doctype html>"} {
				if body := s.get(g.watched+":"+port, path); !strings.Contains(body, want) {
					t.Errorf("%s of %s:%s is %q", path, g.Name, port, body)
				}
			}
		}
	}
	for range 10 { // while nothing is wrong
		time.Sleep(500 * time.Millisecond)
		if f := slices.DeleteFunc(s.firing(), func(n string) bool { return n == "CarpdNoMaster" || n == "SasyncdNotInSync" }); len(f) > 0 {
			t.Errorf("%v fire on a healthy pair", f)
			break
		}
	}

	// The master's sasyncd stands still, so counters on the standby grow old.
	gws[0].sasyncd.Signal(syscall.SIGSTOP)
	s.waitFiring("SasyncdSyncLagHigh", true)
	gws[0].sasyncd.Signal(syscall.SIGCONT)
	s.waitFiring("SasyncdSyncLagHigh", false)
	has("contact again", `sum(sasyncd_peer_connected) == 2`)
	s.waitFiring("SasyncdPeerDown", false)
	has("gw2 to be in sync again", `sasyncd_in_sync{instance="10.2.0.12:9750"} == 1`)

	// A demotion, and its end.
	carpctl := program(t, "carpctl") + " -s " + gws[1].Dir() + "/carpd.sock "
	gws[1].Run(carpctl + "demote ipsec 20 drill")
	s.waitFiring("CarpdDemoted", true)
	gws[1].Run(carpctl + "undemote ipsec")
	s.waitFiring("CarpdDemoted", false)

	// The switch carries nothing between the gateways, whose cables look well.
	isolate := func(how string) {
		for _, g := range gws {
			world.Fabric().Run("ip link set dev " + g.port.Outer + " type bridge_slave isolated " + how)
		}
	}
	isolate("on")
	s.waitFiring("SasyncdTwoMasters", true)
	isolate("off")
	s.waitFiring("SasyncdTwoMasters", false)
	s.waitFiring("SasyncdSplitSeen", true)
	has("contact after the split", `sum(sasyncd_peer_connected) == 2`)
	has("one to be in sync with the other after the split", `sum(sasyncd_in_sync) == 2`)

	// The power of whoever is master is cut.
	dead, alive := gws[0], gws[1]
	if len(s.query(`carpd_state{instance="10.2.0.12:9751",state="master"} == 1`)) > 0 {
		dead, alive = alive, dead
	}
	for _, d := range []*lab.Daemon{dead.carpd, dead.sasyncd} {
		d.Signal(syscall.SIGSTOP)
	}
	dead.port.Pull()
	dead.KillDaemons()
	has("the takeover", fmt.Sprintf(`carpd_state{instance="%s:9751",state="master"} == 1`, alive.watched))
	has("its gap", fmt.Sprintf(`carpd_last_takeover_gap_seconds{instance="%s:9751"} < 5`, alive.watched))
	has("its count", fmt.Sprintf(`carpd_transitions_total{instance="%s:9751",from="backup",to="master"} >= 1`, alive.watched))
	for _, name := range []string{"SasyncdDown", "CarpdDown", "SasyncdPeerDown"} {
		s.waitFiring(name, true)
	}
	s.waitFiring("CarpdNoMaster", false)
	if f := s.firing(); slices.Contains(f, "SasyncdTwoMasters") {
		t.Errorf("%v fire after a power cut", f)
	}
}

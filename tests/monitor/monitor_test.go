// Package monitor has a real Prometheus server watch a pair of gateways with
// the rules that are shipped, and causes every one of their alerts. It takes
// longer than the other drills and has a target of its own, make
// drill-prometheus.
package monitor

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"sasyncd/tests/harness"
	"sasyncd/tests/harness/lab"
)

// forgetful is a sasyncd that loses what its master tells it about deletions.
const forgetful = "sasyncd-forgetful"

func TestMain(m *testing.M) {
	harness.Main(m, harness.Memory(1<<30), harness.Build("./cmd/carpd", "./cmd/sasyncd", "./cmd/carpctl"),
		harness.Defect(forgetful, "./cmd/sasyncd", "sync/replica/receiver.go",
			"case wire.DelSA:\n\t\tr.forgetSA(rec.SAKey)\n", "case wire.DelSA:\n"+"\t\treturn nil\n"))
}

func program(t *testing.T, name string) string {
	t.Helper()
	p, err := harness.Binary(name)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// limit of what is waited for: that it happens at all.
const limit = 90 * time.Second

// Addresses of the tunnels, which end on the virtual one.
const (
	vip    = "10.1.0.1"
	remote = "10.1.0.50"
	behind = "10.4.0.1" // on the remote gateway, behind the tunnel
)

// group and router are names in the configurations.
const (
	group  = "ipsec"
	router = "outside"
)

type gateway struct {
	*lab.Node
	t              *testing.T
	port           *lab.Port
	priority       int
	addr           string // among the gateways
	watched        string // where metrics are
	peer, key      string
	carpd, sasyncd *lab.Daemon
}

// startCarpd starts the elector, with metrics for everybody.
func (g *gateway) startCarpd() {
	g.t.Helper()
	g.carpd = g.Exec("carpd", exec.Command(program(g.t, "carpd"), "-c", g.WriteFile("carpd.conf", fmt.Sprintf(
		`group %[1]s { require sasyncd; start-hold 300ms; alone after 5s }
vrrp %[2]s { carpdev eth0; vrid 10; priority %[3]d; interval 250ms; address %[4]s/32; group %[1]s }
socket "%[5]s/carpd.sock"
statedir "%[5]s/carpd"
metrics listen on %[6]s
`, group, router, g.priority, vip, g.Dir(), g.watched))))
}

// startSasyncd starts the program, which is sasyncd but for its mistake, under
// a command that sets its stage, if there is one.
func (g *gateway) startSasyncd(name, control string, stage ...string) {
	g.t.Helper()
	g.WriteFile("key", g.key+"\n")
	args := append(stage, program(g.t, name), "-c", g.WriteFile("sasyncd.conf", fmt.Sprintf(`interface %[6]s
peer %[1]s
listen on %[2]s
sharedkey file "%[3]s/key"
control %[5]s
socket "%[3]s/sasyncd.sock"
carpd socket "%[3]s/carpd.sock"
statedir "%[3]s/sasyncd"
metrics listen on %[4]s
`, g.peer, g.addr, g.Dir(), g.watched, control, router)))
	g.sasyncd = g.Exec("sasyncd", exec.Command(args[0], args[1:]...))
}

func (g *gateway) stopSasyncd() {
	g.t.Helper()
	if code := g.sasyncd.Term(limit); code != 0 {
		g.t.Fatalf("sasyncd of %s ended with %d", g.Name, code)
	}
}

func (g *gateway) carpctl(args string) error {
	_, err := g.Try(program(g.t, "carpctl") + " -s " + g.Dir() + "/carpd.sock " + args)
	return err
}

// server is a Prometheus.
type server struct {
	*lab.Node
	t *testing.T
}

// sample is one of the answers to a query.
type sample struct {
	labels map[string]string
	value  float64
}

// query returns the answers to an instant query, none while the server does not answer.
func (s *server) query(expr string) (out []sample) {
	s.t.Helper()
	body, err := s.get("127.0.0.1:9090", "/api/v1/query?query="+url.QueryEscape(expr))
	if err != nil {
		return nil // not there yet
	}
	var answer struct {
		Status, Error string
		Data          struct {
			Result []struct {
				Metric map[string]string
				Value  [2]any
			}
		}
	}
	if err := json.Unmarshal([]byte(body), &answer); err != nil || answer.Status != "success" {
		if strings.Contains(body, "bad_data") {
			s.t.Fatalf("query %s: %s", expr, body)
		}
		return nil
	}
	for _, r := range answer.Data.Result {
		text, _ := r.Value[1].(string)
		v, err := strconv.ParseFloat(text, 64)
		if err != nil {
			s.t.Fatalf("query %s: %v", expr, err)
		}
		out = append(out, sample{r.Metric, v})
	}
	return out
}

// get fetches a page by a connection from the server's network.
func (s *server) get(addr, path string) (string, error) {
	var conn net.Conn
	if err := s.Do(func() (err error) {
		conn, err = net.Dial("tcp", addr)
		return err
	}); err != nil {
		return "", err
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(limit))
	req, err := http.NewRequest("GET", "http://"+addr+path, nil)
	if err != nil {
		return "", err
	}
	req.Close = true
	if err := req.Write(conn); err != nil {
		return "", err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

// has waits for an expression to have an answer.
func (s *server) has(what, expr string) {
	s.t.Helper()
	lab.Eventually(s.t, limit, what, func() bool {
		time.Sleep(200 * time.Millisecond) // not without a pause: the guest has one processor
		return len(s.query(expr)) > 0
	})
}

// firing returns the alerts that fire: name and instance, if it has one.
func (s *server) firing() (out []string) {
	s.t.Helper()
	for _, x := range s.query(`ALERTS{alertstate="firing"}`) {
		out = append(out, x.labels["alertname"])
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (s *server) waitFiring(name string, want bool) {
	s.t.Helper()
	lab.Eventually(s.t, limit, fmt.Sprintf("%s to fire: %t", name, want), func() bool {
		time.Sleep(200 * time.Millisecond)
		return slices.Contains(s.firing(), name) == want
	})
}

// hurry is by how much all durations in the rules of the drill are shorter
// than in the shipped ones, "for" as well as the ranges of rates and increases;
// none becomes shorter than a second, and ranges not shorter than what holds
// samples. Nothing else is changed: this is the one place.
const hurry = 20

func hurried(t *testing.T, rules string) string {
	t.Helper()
	return regexp.MustCompile(`(for: |\[)(\d+[smh])`).ReplaceAllStringFunc(rules, func(s string) string {
		at := strings.IndexAny(s, "0123456789")
		d, err := time.ParseDuration(s[at:])
		if err != nil {
			t.Fatal(err)
		}
		least := time.Second
		if s[0] == '[' {
			least = 15 * time.Second
		}
		return fmt.Sprintf("%s%ds", s[:at], int(max(d/hurry, least).Seconds()))
	})
}

func shippedRules(t *testing.T) string {
	t.Helper()
	rules, err := os.ReadFile("../../deploy/prometheus/alerts.yml")
	if err != nil {
		t.Fatal(err)
	}
	return string(rules)
}

// serve starts Prometheus with the shipped rules, hurried, and the shipped
// configuration with other addresses.
func serve(t *testing.T, nd *lab.Node) *server {
	t.Helper()
	nd.WriteFile("alerts.yml", hurried(t, shippedRules(t)))
	config, err := os.ReadFile("../../deploy/prometheus/prometheus.yml")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.NewReplacer("10.9.0.", "10.2.0.1", "scrape_interval: 5s",
		"scrape_interval: 1s\n    scrape_timeout: 1s").Replace(string(config))
	path := nd.WriteFile("prometheus.yml", "global: {evaluation_interval: 1s}\n"+text)
	prometheus, err := exec.LookPath("prometheus")
	if err != nil {
		t.Fatal("prometheus is needed: apt-get install prometheus")
	}
	nd.Exec("prometheus", exec.Command(prometheus, "--config.file="+path, "--storage.tsdb.path="+nd.Dir()+"/data",
		"--web.listen-address=127.0.0.1:9090"))
	return &server{nd, t}
}

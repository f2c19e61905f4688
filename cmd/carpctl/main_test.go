package main

import (
	"bytes"
	"context"
	"log/slog"
	"net/netip"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"unicode/utf8"

	"sasyncd/carp/api"
	"sasyncd/cmd/internal/daemon"
	"sasyncd/cmd/internal/doctor"
	"sasyncd/kernel/trusted/trustedtest"
	"sasyncd/tests/jsondoc"
)

// fake is a carpd that notes what it is asked.
type fake struct {
	server *api.Server
	refuse string // what it answers to every request,
	only   string // or to this verb only
	groups []api.GroupState
	clock  *api.Clock

	mu    sync.Mutex
	asked []api.Request
}

// Request implements api.Handler.
func (f *fake) Request(p api.Peer, r api.Request) {
	f.mu.Lock()
	f.asked = append(f.asked, r)
	f.mu.Unlock()
	m := api.Message{ID: r.ID}
	switch {
	case f.refuse != "" && (f.only == "" || f.only == r.Verb):
		m.Error = f.refuse
	case r.Verb == api.VerbStatus:
		m.Groups, m.Clock = f.groups, f.clock
	}
	f.server.Send(p.ID, m)
}

// Gone implements api.Handler.
func (f *fake) Gone(api.Peer) {}

// last returns the latest request, without its number.
func (f *fake) last() api.Request {
	f.mu.Lock()
	defer f.mu.Unlock()
	r := f.asked[len(f.asked)-1]
	r.ID = 0
	return r
}

// start runs the fake on a socket.
func (f *fake) start(t *testing.T) (socket string) {
	t.Helper()
	socket = filepath.Join(trustedtest.Dir(t), "s")
	ln, err := api.Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ln.Release)
	f.server = api.NewServer(f, nil, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.server.Serve(ctx, ln.UnixListener) }()
	t.Cleanup(func() {
		cancel()
		<-done
	})
	return socket
}

func ctl(socket string, args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = run(append([]string{"-s", socket}, args...), &out, &errs)
	return code, out.String(), errs.String()
}

// full is a state in which every field has a value.
func full() []api.GroupState {
	a := netip.MustParseAddr
	return []api.GroupState{{
		Group: "ipsec", State: api.StateMaster, Reason: "master timed out", AgeMS: 61000, Term: 7, Seen: 8,
		Fenced: true, Blocked: "waiting for sasyncd",
		Demotion: 11, Demotions: []api.Demotion{{ID: "operator", By: 11,
			Reason: "maintenance of the line card in slot three, see ticket 4711", Hold: api.HoldPersistent,
			TTLMS: 5000}},
		BFD: []api.BFDSession{
			{Neighbor: a("fe80::fe"), Interface: "eth0", State: "Down", AgeMS: 3000,
				Diagnostic: "Neighbor Signaled Session Down", NeighborState: "Down",
				NeighborDiagnostic: "Control Detection Time Expired", TransmitMS: 1000, DetectionMS: 3000},
			{Neighbor: a("192.0.2.254"), State: "Init", AgeMS: 1}},
		Clients: []string{"sasyncd"},
		Instances: []api.InstanceState{{Name: "outside", Interface: "eth0", Virtual: true, Protocol: "vrrp3", ID: 10,
			State: api.StateMaster,
			Routers: []api.RouterState{{Family: "ipv6", State: api.StateBackup, Expired: true, Priority: 200,
				AdvBase: 1, AdvSkew: 100, DownMS: 900, Source: a("fe80::1"),
				Peer: a("fe80::2"), HeardMS: 100, Sent: 1, Received: 2, Dropped: 3,
				Trailers: map[string]uint64{"good": 4}, BadDigests: 5, Repaired: 6,
				Refusals: []api.Refusal{{Kind: api.RefusedAuth, Peer: a("fe80::3"), Count: 7, AgeMS: 8,
					Text: "wrong password"}}}}}},
		Repairs:    []api.Repair{{Kind: api.RepairedGate, Count: 9, AgeMS: 10, Error: "no netlink"}},
		Configured: []api.Configured{{Address: netip.MustParsePrefix("192.0.2.1/24"), Interface: "eth0"}},
		VIPs: []api.VIP{{Address: a("192.0.2.1"), Interface: "eth0", Instance: "outside"},
			{Address: a("2001:db8:1234:5678:9abc:def0:1234:5678"), Interface: "eth0", Instance: "outside"}},
	}}
}

// Each command line is the request that the manual promises.
func TestCommands(t *testing.T) {
	f := &fake{groups: full()}
	socket := f.start(t)
	for line, want := range map[string]api.Request{
		"show":             {Verb: api.VerbStatus},
		"resign ipsec":     {Verb: api.VerbResign, Group: "ipsec", Reason: "operator"},
		"announce":         {Verb: api.VerbAnnounce},
		"reload":           {Verb: api.VerbReload},
		"freeze":           {Verb: api.VerbFreeze, HoldMS: 10000},
		"freeze 120":       {Verb: api.VerbFreeze, HoldMS: 120000},
		"undemote ipsec":   {Verb: api.VerbUndemote, Group: "ipsec"},
		"resign outside":   {Verb: api.VerbResign, Group: "ipsec", Reason: "operator"},
		"undemote outside": {Verb: api.VerbUndemote, Group: "ipsec"},
		"demote ipsec 30 for a reason": {Verb: api.VerbDemote,
			Group: "ipsec", Demotion: &api.Demotion{ID: "operator", By: 30, Reason: "for a reason",
				Hold: api.HoldPersistent}},
	} {
		code, out, errs := ctl(socket, strings.Fields(line)...)
		if got := f.last(); code != 0 || errs != "" || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: code %d, asked %+v, want %+v: %s%s", line, code, got, want, out, errs)
		}
	}
	asked := len(f.asked)
	for _, line := range []string{"show all", "resign", "resign a b", "undemote", "demote ipsec", "demote ipsec 0",
		"demote ipsec 256", "demote ipsec x", "freeze 0", "freeze 121", "freeze 1 2", "announce x", "reload x",
		"doctor x", "explode", "-x"} {
		if code, out, errs := ctl(socket, strings.Fields(line)...); code != daemon.ExitUsage || out != "" ||
			!strings.HasPrefix(errs, "carpctl: ") {
			t.Errorf("%s: code %d: %s%s", line, code, out, errs)
		}
	}
	if len(f.asked) != asked {
		t.Error("carpd was asked for what is no command")
	}
}

func TestExitCodes(t *testing.T) {
	f := &fake{refuse: "group is not master"}
	socket := f.start(t)
	if code, _, errs := ctl(socket, "resign", "ipsec"); code != daemon.ExitFailure || !strings.Contains(errs,
		"not master") {
		t.Errorf("refused: %d %s", code, errs)
	}
	f.refuse = "permission denied: resign is for root"
	if code, _, _ := ctl(socket, "resign", "ipsec"); code != daemon.ExitPrivilege {
		t.Errorf("not allowed: %d", code)
	}
	if code, _, _ := ctl(socket+"-not", "show"); code != daemon.ExitUnknown {
		t.Errorf("no daemon: %d", code)
	}
	if code, out, _ := ctl(socket, "-V"); code != 0 || !strings.HasPrefix(out, "carpctl ") {
		t.Errorf("version: %d %s", code, out)
	}
}

func TestShow(t *testing.T) {
	f := &fake{groups: full()}
	code, out, errs := ctl(f.start(t), "-v", "show")
	if code != 0 || errs != "" {
		t.Fatalf("code %d: %s", code, errs)
	}
	for l := range strings.Lines(out) {
		if n := utf8.RuneCountInString(strings.TrimSuffix(l, "\n")); n > 80 {
			t.Errorf("%d columns: %s", n, l)
		}
	}
	flat := strings.Join(strings.Fields(out), " ")
	for _, want := range []string{
		"group ipsec (outside): MASTER for 1m1s (master timed out), term 7, highest 8",
		"would not take over: waiting for sasyncd",
		"demoted by 11: operator (maintenance of", "clients: sasyncd",
		"BFD with fe80::fe on eth0: Down for 3s (Neighbor Signaled Session Down), neighbor says Down " +
			"(Control Detection Time Expired), sends every 1000 ms, down after 3000 ms",
		"BFD with 192.0.2.254: Init for ", ", neighbor is not heard",
		"outside on eth0: MASTER, vrrp3 id 10, 192.0.2.1 2001:db8:", "ipv6 priority 200",
		"hears no master", "sent 1, received 2, dropped 3",
	} {
		if !strings.Contains(flat, want) {
			t.Errorf("lacks %q:\n%s", want, out)
		}
	}
}

// What is printed with -j is what docs/json.md says, field by field.
func TestJSONIsDocumented(t *testing.T) {
	doc, err := jsondoc.Read()
	if err != nil {
		t.Fatal(err)
	}
	bad := full()
	f := &fake{groups: bad, clock: &api.Clock{Jumps: 1, LastMS: -5000, AgeMS: 10}}
	socket := f.start(t)
	refusing := (&fake{refuse: "no such group: x"}).start(t)
	empty := (&fake{groups: []api.GroupState{}}).start(t)
	for _, tt := range []struct {
		socket, line, section string
		code                  int
	}{
		{socket, "show", "carp", 0},
		{empty, "show", "carp", 0},
		{empty, "doctor", "doctor", 0},
		{socket, "doctor", "doctor", 1},
		{socket, "announce", "done", 0},
		{socket, "demote ipsec 5", "done", 0},
		{refusing, "undemote x", "error", 1},
		{"/nowhere", "show", "error", 3},
		{socket, "explode", "error", 2},
	} {
		code, out, _ := ctl(tt.socket, append([]string{"-j"}, strings.Fields(tt.line)...)...)
		if code != tt.code || strings.Count(out, "\n") != 1 {
			t.Errorf("%s: code %d, want %d: %s", tt.line, code, tt.code, out)
		}
		if err := doc.Check(tt.section, []byte(out)); err != nil {
			t.Errorf("%s: %v", tt.line, err)
		}
	}
}

func TestDoctorTellsProblemsFromNotes(t *testing.T) {
	var out bytes.Buffer
	if err := tell(&out, []doctor.Finding{{Where: "eth0", What: "a note", Remedy: "nothing"}}, false,
		false); err != nil ||
		out.String() != "note: eth0: a note\n    nothing\nno problem found\n" {
		t.Errorf("%v: %s", err, out.String())
	}
	out.Reset()
	if err := tell(&out, []doctor.Finding{{Problem: true, Where: "eth0", What: "is down", Remedy: "plug it in"}},
		false, false); err != errSick || out.String() != "PROBLEM: eth0: is down\n    plug it in\n" {
		t.Errorf("%v: %s", err, out.String())
	}
}

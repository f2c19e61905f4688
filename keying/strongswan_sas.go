package keying

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"sasyncd/keying/vici"
)

// connection is what charon tells about a configured connection.
type connection struct {
	name          string
	local, remote []string // addresses, ranges, names or %any
	unique        string
	children      []string
}

// ikeSA is what charon tells about an IKE SA of its own.
type ikeSA struct {
	conn     string
	state    string // CONNECTING, ESTABLISHED, PASSIVE, ...
	working  bool   // an exchange that this node began is under way
	children []childSA
}

type childSA struct{ name, state string }

func listConns(ctx context.Context, c *vici.Client) ([]connection, error) {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	var out []connection
	err := c.Stream(ctx, "list-conns", "list-conn", func(m vici.Message) {
		for _, e := range m.Sections() {
			conn := connection{name: e.Name, local: e.Section.Strings("local_addrs"),
				remote: e.Section.Strings("remote_addrs"),
				unique: e.Section.Get("unique")}
			for _, ch := range e.Section.Section("children").Sections() {
				conn.children = append(conn.children, ch.Name)
			}
			out = append(out, conn)
		}
	})
	return out, err
}

func listSAs(ctx context.Context, c *vici.Client) ([]ikeSA, error) {
	ctx, cancel := context.WithTimeout(ctx, answerLimit)
	defer cancel()
	var out []ikeSA
	err := c.Stream(ctx, "list-sas", "list-sa", func(m vici.Message) {
		for _, e := range m.Sections() {
			sa := ikeSA{conn: e.Name, state: e.Section.Get("state"),
				working: len(e.Section.Strings("tasks-active"))+len(e.Section.Strings("tasks-queued")) > 0}
			for _, ch := range e.Section.Section("child-sas").Sections() {
				sa.children = append(sa.children, childSA{ch.Section.Get("name"), ch.Section.Get("state")})
			}
			out = append(out, sa)
		}
	})
	return out, err
}

// concrete returns the first address or name that packets can be sent to.
func concrete(remote []string) string {
	for _, r := range remote {
		if strings.HasPrefix(r, "%") || strings.Contains(r, "/") {
			continue
		}
		if from, _, ok := strings.Cut(r, "-"); ok {
			if _, err := netip.ParseAddr(from); err == nil {
				continue // a range
			}
		}
		if a, err := netip.ParseAddr(r); err == nil && a.IsUnspecified() {
			continue
		}
		return r
	}
	return ""
}

// onVIP reports whether one of the addresses is a virtual IP.
func onVIP(local []string, vips []netip.Addr) bool {
	return slices.ContainsFunc(local, func(s string) bool {
		a, err := netip.ParseAddr(s)
		return err == nil && slices.Contains(vips, a.Unmap())
	})
}

// wantedTunnels picks the children that a plan is about: those of connections
// from a VIP to a remote that can be initiated to.
func wantedTunnels(conns []connection, p Plan) []tunnel {
	var out []tunnel
	for _, c := range conns {
		remote := concrete(c.remote)
		if remote == "" || !onVIP(c.local, p.VIPs) {
			continue
		}
		for _, ch := range c.children {
			out = append(out, tunnel{conn: c.name, child: ch, remote: remote})
		}
	}
	return out
}

// progressOf tells which of the wanted tunnels have an SA of charon's own, and
// on which it still works.
func progressOf(own []ikeSA, wanted []tunnel) (up, busy map[tunnelID]bool) {
	up, busy = make(map[tunnelID]bool), make(map[tunnelID]bool)
	working := make(map[string]bool)
	for _, sa := range own {
		working[sa.conn] = working[sa.conn] || sa.working || sa.state == "CONNECTING"
		for _, ch := range sa.children {
			switch ch.state {
			case "INSTALLED", "REKEYING", "REKEYED", "UPDATING":
				up[tunnelID{sa.conn, ch.name}] = true
			}
		}
	}
	for _, t := range wanted {
		busy[t.id()] = working[t.conn]
	}
	return up, busy
}

// lintConns looks for what would make a failover lose packets. mobike and
// reqid do not show in VICI.
func lintConns(conns []connection, vips []netip.Addr) []Lint {
	var out []Lint
	for _, c := range conns {
		if len(vips) > 0 && concrete(c.remote) != "" && (len(c.local) == 0 || slices.Contains(c.local, "%any")) {
			out = append(out, Lint{"strongswan: connection " + c.name + " may leave from any address of this node",
				"local_addrs = the VIP in swanctl.conf"})
		}
		if !onVIP(c.local, vips) {
			continue // a tunnel of this node alone
		}
		if c.unique != "" && c.unique != "UNIQUE_NEVER" {
			out = append(out, Lint{"strongswan: connection " + c.name +
				" sends INITIAL_CONTACT, on which the remote drops the SAs in use before the new ones are there",
				"unique = never in swanctl.conf"})
		}
	}
	return out
}

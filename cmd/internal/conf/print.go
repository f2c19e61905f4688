package conf

import (
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"sasyncd/sync/sadb"
)

// printer writes statements. With reveal, which only tests set, it writes
// secrets as they are, so that what it prints can be read back.
type printer struct {
	w      strings.Builder
	indent string
	reveal bool
}

// line writes one statement: words joined by blanks.
func (p *printer) line(words ...any) {
	p.w.WriteString(p.indent)
	p.w.WriteString(strings.TrimSuffix(fmt.Sprintln(words...), "\n"))
	p.w.WriteByte('\n')
}

// bare returns s as a word, in quotes where it is not made of harmless
// characters or where it is one of keywords.
func bare(s string, keywords ...string) string {
	for _, c := range []byte(s) {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("._-:%@",
			c) >= 0) {
			return quote(s)
		}
	}
	if slices.Contains(keywords, s) {
		return quote(s)
	}
	return s
}

func (p *printer) secret(s sadb.Secret, text bool) string {
	switch {
	case !p.reveal:
		return placeholder(s)
	case text:
		return quote(string(s.Bytes()))
	}
	return fmt.Sprintf("0x%x", s.Bytes())
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

func (p *printer) metrics(a netip.AddrPort, config string) {
	words := []any{"metrics listen on", a.Addr(), "port", a.Port()}
	if config != "" {
		words = append(words, "config", quote(config))
	}
	if a.IsValid() {
		p.line(words...)
	}
}

func (p *printer) block(head string, body func()) {
	p.line(head, "{")
	p.indent = "\t"
	body()
	p.indent = ""
	p.line("}")
}

// Print writes the configuration in normal form: every statement once, defaults
// included, secrets as their length.
func (s *Sasyncd) Print(w io.Writer) error {
	_, err := io.WriteString(w, s.text(false))
	return err
}

func (s *Sasyncd) text(reveal bool) string {
	p := &printer{reveal: reveal}
	for _, g := range s.Groups {
		if g.Interface != "" {
			p.line("interface", bare(g.Interface))
		}
		for _, v := range g.VIPs {
			p.line("vip", v)
		}
		if g.DemoteGroup != "" {
			p.line("group", bare(g.DemoteGroup))
		}
		p.line(g.Control.text())
	}
	for _, l := range s.Listen {
		where := bare(l.Interface)
		if l.Addr.IsValid() {
			where = l.Addr.String()
		}
		if l.Family != FamilyAny {
			where += " " + l.Family.String()
		}
		p.line("listen on", where, "port", l.Port)
	}
	stops := append(below(sasyncdKeywords, ""), "port", "discover")
	for _, pr := range s.Peers {
		hosts := make([]string, len(pr.Hosts))
		for i, h := range pr.Hosts {
			hosts[i] = bare(h.String(), stops...)
		}
		words := []any{"peer", strings.Join(hosts, " "), "port", pr.Port}
		if pr.Discover {
			words = slices.Insert(words, 1, any("discover"))
		}
		p.line(words...)
	}
	for _, k := range s.Keys {
		switch {
		case k.File != "" && k.Secret.Len() > 0 && !reveal:
			p.line("sharedkey file", quote(k.File), "#", k.Secret.Len(), "bytes")
		case k.File != "":
			p.line("sharedkey file", quote(k.File))
		default:
			p.line("sharedkey", p.secret(k.Secret, k.Text))
		}
	}
	p.line("flushmode", s.FlushMode)
	if s.Lock != LockNone {
		p.line("mode", s.Lock)
	}
	if s.SkipSlave {
		p.line("mode skipslave")
	}
	p.path("tracker "+string(s.Tracker.Kind), s.Tracker.Path)
	if s.Tracker.Kind != TrackCarpd {
		p.line("fence", yesNo(s.Fence))
	}
	p.line("guard", s.Guard)
	p.line("replay interval", durationText(s.ReplayInterval))
	p.line("replay margin", s.MarginESN, s.Margin32)
	p.line("replay inbound", map[bool]string{false: "accept", true: "advance"}[s.InboundAdvance])
	p.line("socket", quote(s.Socket))
	p.line("carpd socket", quote(s.CarpdSocket))
	p.line("statedir", quote(s.StateDir))
	p.metrics(s.Metrics, s.MetricsConfig)
	return p.w.String()
}

// text is the statement.
func (c Control) text() string {
	words := "control " + string(c.Kind)
	for _, o := range []struct{ name, path string }{{"", c.Path}, {" at", c.At}, {" fifo", c.FIFO},
		{" settings", c.Settings}} {
		if o.path != "" {
			words += o.name + " " + quote(o.path)
		}
	}
	return words
}

// path writes a statement that ends with a path if it has one.
func (p *printer) path(words, path string) {
	if path != "" {
		words += " " + quote(path)
	}
	p.line(words)
}

// Print writes the configuration in normal form: every statement once, defaults
// included, secrets as their length.
func (c *Carpd) Print(w io.Writer) error {
	_, err := io.WriteString(w, c.text(false))
	return err
}

func (c *Carpd) text(reveal bool) string {
	p := &printer{reveal: reveal}
	for _, g := range c.Groups {
		p.group(g)
	}
	for _, in := range c.Instances {
		kind := "vrrp "
		if in.CARP != nil {
			kind = "carp "
		}
		p.block(kind+bare(in.Name), func() { p.instance(in) })
	}
	for _, t := range c.Tracks {
		p.track(t)
	}
	p.line("socket", quote(c.Socket))
	p.line("statedir", quote(c.StateDir))
	p.metrics(c.Metrics, c.MetricsConfig)
	return p.w.String()
}

func (p *printer) group(g Group) {
	p.block("group "+bare(g.Name), func() {
		p.line("preempt", g.Preempt)
		if g.PreemptDelay > 0 {
			p.line("preempt-delay", durationText(g.PreemptDelay))
		}
		p.line("demote-at-start", g.DemoteAtStart)
		p.line("start-hold", durationText(g.StartHold))
		switch {
		case g.RequireSasyncd && g.RequireFence:
			p.line("require sasyncd fence")
		case g.RequireSasyncd:
			p.line("require sasyncd")
		case g.RequireFence:
			p.line("require fence")
		}
		if g.AloneAfter == Never {
			p.line("alone after never")
		} else {
			p.line("alone after", durationText(g.AloneAfter))
		}
		p.line("prepare-timeout", durationText(g.PrepareTimeout))
		words := []any{"when-split", g.WhenSplit}
		for _, a := range g.Witness {
			words = append(words, a)
		}
		p.line(words...)
	})
}

func (p *printer) peers(keyword string, as []netip.Addr, hops uint8) {
	if len(as) == 0 {
		return
	}
	words := []any{keyword, "{"}
	for _, a := range as {
		words = append(words, a)
	}
	p.line(append(words, "}")...)
	p.line("hops", hops)
}

func (p *printer) instance(in Instance) {
	p.line("carpdev", bare(in.Device))
	if cp := in.CARP; cp != nil {
		p.line("vhid", cp.VHID)
		p.line("pass", p.secret(cp.Pass, true))
		p.line("advbase", cp.AdvBase)
		p.line("advskew", cp.AdvSkew)
		p.peers("carppeer", cp.Peers, in.Hops)
		p.line("carp-dialect", cp.Dialect)
	}
	if v := in.VRRP; v != nil {
		p.line("version", v.Version)
		p.line("vrid", v.VRID)
		p.line("priority", v.Priority)
		p.line("interval", durationText(v.Interval))
		p.peers("unicast", v.Unicast, in.Hops)
		if v.Pass.Len() > 0 {
			p.line("pass", p.secret(v.Pass, true))
		}
		p.line("checksum", v.Checksum)
		p.line("accept", yesNo(v.Accept))
	}
	for _, a := range in.Addresses {
		p.line("address", a)
	}
	p.line("group", bare(in.Group))
	p.line("mac", map[bool]string{false: "plain", true: "virtual"}[in.VirtualMAC])
	p.line("lease", in.Lease)
	if in.Preempt != PreemptDefault {
		p.line("preempt", in.Preempt)
	}
	for _, k := range in.Keys {
		switch {
		case k.File != "" && k.Secret.Len() > 0 && !p.reveal:
			p.line("key", k.ID, "file", quote(k.File), "#", k.Secret.Len(), "bytes")
		case k.File != "":
			p.line("key", k.ID, "file", quote(k.File))
		default:
			p.line("key", k.ID, p.secret(k.Secret, false))
		}
	}
	if in.Auth != AuthNone {
		p.line("auth", in.Auth)
	}
}

func (p *printer) track(t Track) {
	target := quote(t.Target)
	switch t.Kind {
	case TrackIfLink:
		target = bare(t.Target)
	case TrackAddr, TrackBFD:
		target = t.Addr.String()
	}
	words := []any{"track", t.Kind, target, "group", bare(t.Group), "demote", t.Demote}
	for _, o := range []struct {
		name string
		d    time.Duration
	}{{"interval", t.Interval}, {"timeout", t.Timeout}} {
		if o.d > 0 {
			words = append(words, o.name, durationText(o.d))
		}
	}
	if t.Fail > 0 {
		words = append(words, "fail", t.Fail)
	}
	if t.Multiplier > 0 {
		words = append(words, "multiplier", t.Multiplier)
	}
	if t.Interface != "" {
		words = append(words, "interface", bare(t.Interface))
	}
	if t.Source.IsValid() {
		words = append(words, "source", t.Source)
	}
	p.line(words...)
}

package conf

import (
	"slices"
	"time"
)

// ParseSasyncd parses sasyncd.conf. file is its name for messages. It opens no
// other file: a `sharedkey file` is returned as a Key with its File only, which
// LoadSasyncd reads. The error is of type Errors and holds everything wrong.
func ParseSasyncd(file string, src []byte) (*Sasyncd, error) {
	return parseSasyncd(newParser(file, src, false, sasyncdKeywords), file)
}

func parseSasyncd(p *parser, file string) (*Sasyncd, error) {
	s := &sasyncdParser{
		parser: p,
		c: &Sasyncd{
			File: file, FlushMode: FlushStartup, Tracker: Tracker{Kind: TrackCarpd},
			ReplayInterval: DefaultReplayInterval, MarginESN: DefaultMarginESN, Margin32: DefaultMargin32,
			Fence: true, Guard: GuardAuto, Socket: DefaultSasyncdSocket,
			CarpdSocket: DefaultCarpdSocket, StateDir: DefaultSasyncdState,
		},
		control: Control{Kind: ControlAuto},
	}
	for p.cur().kind != tokEOF {
		t := p.next()
		switch {
		case !p.keyword(t):
			p.unknown(t)
			p.skip()
		default:
			end := p.begin(t.pos, t.text)
			if !s.statement(t) {
				p.skip()
			}
			end()
		}
	}
	s.resolve(p.cur().pos)
	s.check()
	s.c.Warnings = sorted(p.warns)
	if err := p.err(); err != nil {
		return nil, err
	}
	return s.c, nil
}

type sasyncdParser struct {
	*parser
	c *Sasyncd
	// control and demote are what stands before the first interface.
	control Control
	demote  string
	// controls and demotes are where each of c.Groups has a control or group of
	// its own, zero if it has none.
	controls, demotes []Pos
	fence             Pos
	keySeen           bool
	ifaceSeen         bool
}

// statement reads the rest of the statement that begins with the keyword t.
func (s *sasyncdParser) statement(t token) bool {
	switch t.text {
	case "interface":
		return s.iface(t)
	case "peer":
		return s.peer(t)
	case "listen":
		return s.listen(t)
	case "sharedkey":
		s.keySeen = true
		return s.sharedkey(t)
	case "flushmode":
		v, ok := s.oneOf("flushmode", "startup", "sync", "never")
		if ok {
			s.c.FlushMode = FlushMode(v)
		}
		return ok
	case "mode":
		return s.mode()
	case "group":
		return s.demoteGroup()
	case "control":
		return s.controlKind(t)
	case "tracker":
		return s.tracker(t)
	case "vip":
		return s.vips(t)
	case "replay":
		return s.replay()
	case "guard":
		v, ok := s.oneOf("guard", "auto", "yes", "no", "routes", "nftables")
		if ok {
			s.c.Guard = Guard(v)
		}
		return ok
	case "fence":
		s.fence = t.pos
		v, ok := s.yesNo("fence")
		s.c.Fence = v
		return ok
	case "socket":
		return s.setPath("socket", &s.c.Socket)
	case "carpd":
		s.use(t.pos, "carpd socket")
		return s.phrase("carpd", "socket") && s.setPath("carpd socket", &s.c.CarpdSocket)
	case "statedir":
		return s.setPath("statedir", &s.c.StateDir)
	case "metrics":
		a, web, ok := s.metrics(DefaultSasyncdMetrics)
		if ok {
			s.c.Metrics, s.c.MetricsConfig = a, web
		}
		return ok
	}
	panic("conf: keyword " + t.text + " is in the table and has no parser")
}

func (p *parser) setPath(keyword string, to *string) bool {
	v, ok := p.path(keyword)
	if ok {
		*to = v
	}
	return ok
}

func (s *sasyncdParser) iface(t token) bool {
	s.ifaceSeen = true
	v, ok := s.device("interface", "the name of an interface or of an instance of carpd")
	if !ok {
		return false
	}
	for _, g := range s.c.Groups {
		if g.Interface == v.text {
			s.errorf(v.pos, "name each interface once", "interface %s is already at line %d", v.text, g.Pos.Line)
		}
	}
	s.c.Groups = append(s.c.Groups, SyncGroup{Pos: t.pos, Interface: v.text})
	s.controls, s.demotes = append(s.controls, Pos{}), append(s.demotes, Pos{})
	return true
}

func (s *sasyncdParser) mode() bool {
	v, ok := s.oneOf("mode", "master", "slave", "skipslave")
	switch {
	case !ok:
	case v == "skipslave":
		s.c.SkipSlave = true
	default:
		s.c.Lock = Lock(v)
	}
	return ok
}

func (s *sasyncdParser) demoteGroup() bool {
	t, ok := s.groupName("group")
	switch n := len(s.c.Groups); {
	case !ok:
	case n == 0:
		s.demote = t.text
	default:
		s.c.Groups[n-1].DemoteGroup, s.demotes[n-1] = t.text, t.pos
	}
	return ok
}

func (s *sasyncdParser) controlKind(t token) bool {
	v, ok := s.oneOf("control", "auto", "none", "isakmpd", "iked", "all", "strongswan", "strongswan-ha",
		"libreswan", "exec", "static")
	c := Control{Pos: t.pos, Kind: ControlKind(v)}
	if ok && (c.Kind == ControlExec || c.Kind == ControlStatic) {
		c.Path, ok = s.path("control " + v)
	}
	for ok && s.cur().kind == tokWord && !s.cur().first && slices.Contains(below(s.table, "control "+v), s.cur().text) {
		o := s.next()
		s.use(o.pos, "control "+v+" "+o.text)
		to := map[string]*string{"at": &c.At, "fifo": &c.FIFO, "settings": &c.Settings}[o.text]
		if *to != "" {
			s.errorf(o.pos, "remove it", "%s is there twice", o.text)
		}
		*to, ok = s.path("control " + v + " " + o.text)
	}
	switch n := len(s.c.Groups); {
	case !ok:
	case n == 0:
		s.control = c
	default:
		s.c.Groups[n-1].Control, s.controls[n-1] = c, t.pos
	}
	return ok
}

func (s *sasyncdParser) tracker(t token) bool {
	v, ok := s.oneOf("tracker", "carpd", "link", "address", "keepalived")
	tr := Tracker{Pos: t.pos, Kind: TrackerKind(v)}
	if ok && tr.Kind == TrackKeepalived {
		tr.Path, ok = s.path("tracker keepalived")
	}
	if ok {
		s.c.Tracker = tr
	}
	return ok
}

// vips reads: vip ADDR [ADDR ...], all on one line.
func (s *sasyncdParser) vips(t token) bool {
	w, ok := s.word("vip", "an address")
	if !ok {
		return false
	}
	if len(s.c.Groups) == 0 && !s.ifaceSeen {
		s.errorf(t.pos, "put it behind the interface it belongs to", "vip stands before the first interface")
	}
	for {
		a, addrOK := s.addr(w, "vip")
		if !addrOK || !s.vip(w, a) {
			ok = false
		} else if n := len(s.c.Groups); n > 0 {
			s.addVIP(n-1, w, a)
		}
		w = s.cur()
		if w.kind != tokWord || w.first || s.keyword(w) {
			return ok
		}
		s.i++
	}
}

func (s *sasyncdParser) replay() bool {
	v, ok := s.oneOf("replay", "interval", "margin", "inbound")
	if !ok {
		return false
	}
	switch v {
	case "interval":
		d, ok := s.duration("replay interval", 50*time.Millisecond, time.Minute, time.Millisecond)
		if ok {
			s.c.ReplayInterval = d
		}
		return ok
	case "margin":
		esn, ok := s.number("replay margin", 1, 1<<31-1)
		if !ok {
			return false
		}
		short, ok := s.number("replay margin", 1, 1<<31-1)
		if ok {
			s.c.MarginESN, s.c.Margin32 = esn, short
		}
		return ok
	}
	v, ok = s.oneOf("replay inbound", "accept", "advance")
	s.c.InboundAdvance = v == "advance"
	return ok
}

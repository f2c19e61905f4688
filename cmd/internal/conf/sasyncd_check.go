package conf

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// looksLikeAddr reports whether s is an address or meant to be one.
func looksLikeAddr(s string) bool {
	if strings.Contains(s, ":") {
		return true
	}
	return strings.Contains(s, ".") && strings.Trim(s, "0123456789.") == ""
}

func (s *sasyncdParser) listenAddr(t token) (netip.Addr, bool) {
	a, err := netip.ParseAddr(t.text)
	if err == nil && a.Zone() != "" && a.Is6() && deviceName(a.Zone()) {
		return a, true
	}
	a, ok := s.addr(t, "listen on")
	if ok && a.IsMulticast() {
		s.errorf(t.pos, "write an address of this machine", "%s cannot be listened on", t)
		return a, false
	}
	return a, ok
}

func (s *sasyncdParser) addVIP(group int, t token, a netip.Addr) {
	for i, g := range s.c.Groups {
		if !slices.Contains(g.VIPs, a) {
			continue
		}
		if i == group {
			s.errorf(t.pos, "name it once", "vip %s is given twice for interface %s", a, g.Interface)
		} else {
			s.errorf(t.pos, "give it to one of them", "vip %s already belongs to interface %s", a, g.Interface)
		}
		return
	}
	s.c.Groups[group].VIPs = append(s.c.Groups[group].VIPs, a)
}

// resolve fills in what depends on the whole file. end is its last position.
func (s *sasyncdParser) resolve(end Pos) {
	c := s.c
	if len(c.Groups) == 0 && !s.ifaceSeen {
		if c.Lock == LockNone {
			s.errorf(end, "write interface and the instance of carpd to follow", "there is no interface")
		}
		c.Groups = []SyncGroup{{}}
		s.controls, s.demotes = make([]Pos, 1), make([]Pos, 1)
	}
	for i := range c.Groups {
		g := &c.Groups[i]
		if s.controls[i].IsZero() {
			g.Control = s.control
		}
		if s.demotes[i].IsZero() {
			g.DemoteGroup = s.demote
		}
	}
	if !s.keySeen {
		s.errorf(end, `write sharedkey file "/etc/sasyncd.key"`, "there is no sharedkey")
	}
	port := DefaultSyncPort
	if len(c.Listen) > 0 {
		port = c.Listen[0].Port // OpenBSD has no port of a peer: all members use the same
	}
	for i := range c.Peers {
		if c.Peers[i].Port == 0 {
			c.Peers[i].Port = port
		}
	}
}

// check compares statements with each other.
func (s *sasyncdParser) check() {
	s.checkOwn("control", s.controls, !s.control.Pos.IsZero())
	s.checkOwn("group", s.demotes, s.demote != "")
	s.checkControls()
	s.checkPeers()
	for _, p := range s.c.Peers {
		if p.Discover && s.c.SkipSlave {
			s.errorf(p.Pos, "name all gateways by peer",
				"peer discover does not go with mode skipslave, which has to know their addresses")
		}
	}
	s.checkListen()
	c := s.c
	if c.Tracker.Kind == TrackCarpd && !s.fence.IsZero() {
		s.warnf(s.fence, "remove it", "fence has no effect with tracker carpd, which keeps the fence itself")
	}
	if c.Tracker.Kind != TrackCarpd && c.Lock == LockNone {
		for _, g := range c.Groups {
			if len(g.VIPs) == 0 && g.Interface != "" {
				s.errorf(g.Pos, "write vip and its virtual addresses behind it",
					"interface %s has no vip, which tracker %s cannot tell", g.Interface, c.Tracker.Kind)
			}
		}
	}
	if len(c.Keys) > MaxKeys {
		s.errorf(c.Keys[MaxKeys].Pos, "remove the oldest", "there are more than %d keys", MaxKeys)
	}
	if len(c.Peers) == 0 {
		s.warnf(Pos{File: c.File}, "write peer and the address of the other gateway", "there is no peer")
	}
}

// checkOwn refuses a keyword that is given behind some interfaces and not
// behind others: whether it was meant for all of them cannot be seen.
func (s *sasyncdParser) checkOwn(keyword string, own []Pos, common bool) {
	if common {
		return
	}
	var at Pos
	for _, p := range own {
		if !p.IsZero() {
			at = p
			break
		}
	}
	if at.IsZero() {
		return
	}
	for i, p := range own {
		if p.IsZero() {
			s.errorf(at, "write one behind each interface, or one for all before the first",
				"%s stands behind one interface but not behind interface %s", keyword, s.c.Groups[i].Interface)
		}
	}
}

func (s *sasyncdParser) checkControls() {
	for i, g := range s.c.Groups {
		for _, o := range s.c.Groups[:i] {
			if !g.Control.overlaps(o.Control) {
				continue
			}
			pos := g.Control.Pos
			if pos.IsZero() {
				pos = g.Pos
			}
			what := fmt.Sprintf("control %s", g.Control.Kind)
			if o.Control.Kind != g.Control.Kind {
				what += fmt.Sprintf(" and control %s", o.Control.Kind)
			}
			s.errorf(pos, "write control none or control exec for all of them but one",
				"%s would switch one IKE daemon for interfaces %s and %s, which may have different masters",
				what, o.Interface, g.Interface)
			return
		}
	}
}

func (s *sasyncdParser) checkPeers() {
	seen := map[string]Pos{}
	for _, p := range s.c.Peers {
		own := map[string]bool{}
		for _, h := range p.Hosts {
			name := h.String()
			first, dup := seen[name]
			switch {
			case own[name]:
				s.errorf(p.Pos, "name it once", "peer %s is given twice on one line", name)
			case dup:
				s.errorf(p.Pos, "name each address once", "peer %s is already at line %d", name, first.Line)
			default:
				seen[name] = p.Pos
			}
			own[name] = true
			for _, l := range s.c.Listen {
				// one file may serve all that discover
				if h.Addr.IsValid() && h.Addr == l.Addr && p.Port == l.Port && !p.Discover {
					s.errorf(p.Pos, "write the address of the other gateway",
						"peer %s is this gateway itself (listen on, line %d)", name, l.Pos.Line)
				}
			}
		}
	}
}

func (s *sasyncdParser) checkListen() {
	for i, l := range s.c.Listen {
		for _, o := range s.c.Listen[:i] {
			if l.Addr == o.Addr && l.Interface == o.Interface && l.Port == o.Port &&
				(l.Family == o.Family || l.Family == FamilyAny || o.Family == FamilyAny) {
				s.errorf(l.Pos, "name each once", "listen on the same address and port is already at line %d",
					o.Pos.Line)
			}
		}
	}
}

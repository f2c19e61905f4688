package conf

import (
	"net/netip"
	"time"
)

// track reads: track KIND TARGET [group G] [demote N] [interval T] [timeout T]
// [fail N], or track bfd ADDR [group G] [demote N] [interval T] [multiplier N]
// [interface I] [source ADDR]; all words after the target in any order. `ping` is
// another word for `address`.
func (c *carpdParser) track(t token) bool {
	kind, ok := c.oneOf("track", "link", "file", "exec", "address", "ping", "bfd")
	if !ok {
		return false
	}
	if kind == "ping" {
		kind = string(TrackAddr)
	}
	tr := Track{Pos: t.pos, Kind: TrackKind(kind), Group: DefaultGroup}
	switch tr.Kind {
	case TrackIfLink:
		d, deviceOK := c.device("track link", "the name of an interface")
		tr.Target, ok = d.text, deviceOK
	case TrackFile, TrackExec:
		tr.Target, ok = c.path("track " + kind)
	case TrackAddr, TrackBFD:
		w, wordOK := c.word("track "+kind, "an address")
		if ok = wordOK; ok {
			tr.Addr, ok = c.addr(w, "track "+kind)
		}
	}
	switch tr.Kind {
	case TrackExec, TrackAddr:
		tr.Interval = DefaultTrackInterval
	case TrackBFD:
		tr.Interval, tr.Multiplier = DefaultBFDInterval, DefaultBFDMultiplier
	}
	if !ok {
		return false
	}
	if !c.trackOptions(&tr) {
		return false
	}
	if tr.Demote == 0 {
		tr.Demote = 1
	}
	if tr.Timeout == 0 && tr.Interval != 0 && tr.Kind != TrackBFD {
		tr.Timeout = DefaultTrackTimeout
		if tr.Kind == TrackAddr { // so that failures are as far apart as they were asked for
			tr.Timeout = min(tr.Timeout, tr.Interval)
		}
	}
	if tr.Fail == 0 && tr.Kind == TrackAddr {
		tr.Fail = DefaultTrackFail
	}
	if tr.Kind == TrackBFD {
		c.checkBFD(&tr)
	}
	for _, o := range c.c.Tracks {
		same := o.Kind == tr.Kind && o.Target == tr.Target && o.Addr == tr.Addr
		switch {
		case !same || tr.Kind == TrackBFD && tr.Addr.IsLinkLocalUnicast() && o.Interface != tr.Interface:
		case o.Group == tr.Group:
			c.errorf(t.pos, "remove one of them", "the same is already tracked at line %d", o.Pos.Line)
		case o.Interval != tr.Interval || o.Multiplier != tr.Multiplier || o.Interface != tr.Interface ||
			o.Source != tr.Source:
			if tr.Kind == TrackBFD {
				c.errorf(t.pos, "write the same interval, multiplier, interface and source for both groups",
					"the BFD session with %s is already at line %d, with other settings", tr.Addr, o.Pos.Line)
			}
		}
	}
	c.c.Tracks = append(c.c.Tracks, tr)
	return true
}

func (c *carpdParser) trackOptions(tr *Track) bool {
	ref := groupRef{DefaultGroup, tr.Pos}
	defer func() { c.groupRefs = append(c.groupRefs, ref) }()
	given := map[string]bool{}
	for ok := true; ok; {
		t := c.cur()
		timed, session := tr.Interval != 0, tr.Kind == TrackBFD
		switch {
		case t.kind != tokWord || t.quoted || t.first:
			return true
		case t.text == "group":
			c.i++
			var g token
			g, ok = c.groupName("group")
			if ok {
				tr.Group, ref = g.text, groupRef{g.text, g.pos}
			}
		case t.text == "demote":
			c.i++
			tr.Demote, ok = c.byte("demote", 1, 255)
		case t.text == "interval" && session:
			c.i++
			tr.Interval, ok = c.duration("interval", 10*time.Millisecond, time.Minute, time.Millisecond)
		case t.text == "multiplier" && session:
			c.i++
			tr.Multiplier, ok = c.byte("multiplier", 1, 255)
		case t.text == "interface" && session:
			c.i++
			var d token
			d, ok = c.device("interface", "the name of an interface")
			tr.Interface = d.text
		case t.text == "source" && session:
			c.i++
			var w token
			if w, ok = c.word("source", "an address of this gateway"); ok {
				tr.Source, ok = c.addr(w, "source")
			}
		case t.text == "interval" && timed:
			c.i++
			tr.Interval, ok = c.duration("interval", 100*time.Millisecond, time.Hour, time.Millisecond)
		case t.text == "timeout" && timed && !session:
			c.i++
			tr.Timeout, ok = c.duration("timeout", 10*time.Millisecond, time.Minute, time.Millisecond)
		case t.text == "fail" && tr.Kind == TrackAddr:
			c.i++
			tr.Fail, ok = c.byte("fail", 1, 255)
		default:
			return true
		}
		if given[t.text] {
			c.errorf(t.pos, "remove one of them", "%s is given twice", t.text)
		}
		given[t.text] = true
	}
	return false
}

// checkBFD refuses addresses between which there can be no session.
func (c *carpdParser) checkBFD(tr *Track) {
	for _, a := range []netip.Addr{tr.Addr, tr.Source} {
		if a.IsValid() && (a.IsUnspecified() || a.IsMulticast()) {
			c.errorf(tr.Pos, "write the address of one machine", "%s cannot be used for track bfd", a)
		}
	}
	if tr.Addr.Is6() && tr.Addr.IsLinkLocalUnicast() && tr.Interface == "" {
		c.errorf(tr.Pos, "add interface and the name of the one it is on", "track bfd %s is link-local and lacks its "+
			"interface", tr.Addr)
	}
	if tr.Source.IsValid() && tr.Source.Is4() != tr.Addr.Is4() {
		c.errorf(tr.Pos, "write addresses of one family", "track bfd %s has the source %s", tr.Addr, tr.Source)
	}
}

// checkTracks compares tracks with the rest of the file.
func (c *carpdParser) checkTracks() {
	for _, tr := range c.c.Tracks {
		for _, in := range c.c.Instances {
			if (tr.Kind == TrackAddr || tr.Kind == TrackBFD) && containsAddr(in.Addresses, tr.Addr) {
				c.errorf(tr.Pos, "write the address of another machine",
					"track %s %s is a virtual address of instance %s", tr.Kind, tr.Addr, in.Name)
			}
			if tr.Source.IsValid() && containsAddr(in.Addresses, tr.Source) {
				c.errorf(tr.Pos, "write an address that this gateway always has",
					"source %s of track bfd %s is a virtual address of instance %s", tr.Source, tr.Addr, in.Name)
			}
		}
	}
}

func containsAddr(ps []netip.Prefix, a netip.Addr) bool {
	for _, p := range ps {
		if p.Addr() == a {
			return true
		}
	}
	return false
}

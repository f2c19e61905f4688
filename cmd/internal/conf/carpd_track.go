package conf

import (
	"net/netip"
	"time"
)

// track reads: track KIND TARGET [group G] [demote N] [interval T] [timeout T]
// [fail N], all words after the target in any order. `ping` is another word for
// `address`.
func (c *carpdParser) track(t token) bool {
	kind, ok := c.oneOf("track", "link", "file", "exec", "address", "ping")
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
	case TrackAddr:
		w, wordOK := c.word("track address", "an address")
		if ok = wordOK; ok {
			tr.Addr, ok = c.addr(w, "track address")
		}
	}
	if tr.Kind == TrackExec || tr.Kind == TrackAddr {
		tr.Interval = DefaultTrackInterval
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
	if tr.Timeout == 0 && tr.Interval != 0 {
		tr.Timeout = DefaultTrackTimeout
		if tr.Kind == TrackAddr { // so that failures are as far apart as they were asked for
			tr.Timeout = min(tr.Timeout, tr.Interval)
		}
	}
	if tr.Fail == 0 && tr.Kind == TrackAddr {
		tr.Fail = DefaultTrackFail
	}
	for _, o := range c.c.Tracks {
		if o.Kind == tr.Kind && o.Target == tr.Target && o.Addr == tr.Addr && o.Group == tr.Group {
			c.errorf(t.pos, "remove one of them", "the same is already tracked at line %d", o.Pos.Line)
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
		timed := tr.Interval != 0
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
		case t.text == "interval" && timed:
			c.i++
			tr.Interval, ok = c.duration("interval", 100*time.Millisecond, time.Hour, time.Millisecond)
		case t.text == "timeout" && timed:
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

// checkTracks compares tracks with the rest of the file.
func (c *carpdParser) checkTracks() {
	for _, tr := range c.c.Tracks {
		for _, in := range c.c.Instances {
			if tr.Kind == TrackAddr && containsAddr(in.Addresses, tr.Addr) {
				c.errorf(tr.Pos, "write the address of another machine",
					"track address %s is a virtual address of instance %s", tr.Addr, in.Name)
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

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"slices"
	"sort"
	"unicode/utf8"

	"sasyncd/cmd/internal/judge"
	"sasyncd/sync/wire"
)

// What a report that is too long keeps of each.
const (
	shortText = 160 // bytes
	shortList = 4   // refused advertisements of a router, hints about an IKE daemon
)

// once logs the beginning and the end of what would be true each second. The zero
// value is ready for use; not for concurrent use.
type once struct{ on bool }

// log logs begins where on has become true, and ends where it has ceased to be.
func (o *once) log(log *slog.Logger, on bool, begins, ends string, args ...any) {
	switch {
	case on && !o.on:
		log.Warn(begins, args...)
	case !on && o.on:
		log.Info(ends)
	}
	o.on = on
}

// encode returns a report of at most wire.MaxReport bytes, which says itself what it
// leaves out. A peer cannot tell whether what it leaves out would work.
func (f *facts) encode(x *judge.Facts) ([]byte, error) {
	b, lacks, err := encodeWithin(x, wire.MaxReport)
	if err == nil {
		f.cut.log(f.log, len(lacks) > 0, "the report to the peers would be too long, they cannot tell whether all "+
			"groups would fail over",
			"the report to the peers is complete again", "left_out", lacks, "limit", wire.MaxReport)
	}
	return b, err
}

func encodeWithin(x *judge.Facts, limit int) (b []byte, lacks []string, err error) {
	if b, err = json.Marshal(x); err != nil || len(b) <= limit {
		return b, nil, err
	}
	short := *x
	short.Groups = make([]judge.Group, len(x.Groups))
	for i := range x.Groups {
		short.Groups[i] = shortGroup(x.Groups[i])
	}
	whole, texts := short.Groups, "the ends of long texts and lists"
	without := func(n int) ([]byte, error) { // n groups fewer
		short.Groups, short.LeftOut = whole[:len(whole)-n], []string{texts}
		if n > 0 {
			short.LeftOut = append(short.LeftOut, fmt.Sprintf("the last %d of %d groups", n, len(whole)))
		}
		return json.Marshal(&short)
	}
	n := sort.Search(len(whole), func(n int) bool {
		b, merr := without(n)
		if merr != nil {
			err = merr
		}
		return merr == nil && len(b) <= limit
	})
	if err != nil {
		return nil, nil, err
	}
	if b, err = without(n); err == nil && len(b) > limit {
		err = fmt.Errorf("the report has %d bytes of at most %d without any group", len(b), limit)
	}
	return b, short.LeftOut, err
}

// shortGroup returns a copy of a group with its beginnings of long texts and lists only.
func shortGroup(g judge.Group) judge.Group {
	for _, s := range []*string{&g.Elector, &g.Reason, &g.Why, &g.Keying.Error} {
		*s = shortened(*s)
	}
	g.Keying.Lint = slices.Clone(g.Keying.Lint[:min(len(g.Keying.Lint), shortList)])
	for i, l := range g.Keying.Lint {
		g.Keying.Lint[i] = [2]string{shortened(l[0]), shortened(l[1])}
	}
	if g.Carp == nil {
		return g
	}
	c := *g.Carp
	g.Carp = &c
	c.Blocked, c.Held = shortened(c.Blocked), shortened(c.Held)
	c.Instances = slices.Clone(c.Instances)
	for i := range c.Instances {
		in := &c.Instances[i]
		in.Routers = slices.Clone(in.Routers)
		for j := range in.Routers {
			r := &in.Routers[j]
			r.Refusals = slices.Clone(r.Refusals[:min(len(r.Refusals), shortList)])
			for k := range r.Refusals {
				r.Refusals[k].Text = shortened(r.Refusals[k].Text)
			}
		}
	}
	*g.Carp = c
	return g
}

// shortened cuts a text, and not in the middle of a character.
func shortened(s string) string {
	if len(s) <= shortText {
		return s
	}
	n := shortText
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "..."
}

// failing logs that reports cannot be sent, once until they can.
func (f *facts) failing(ctx context.Context, err error) {
	if ctx.Err() == nil {
		f.silent.log(f.log, err != nil, "cannot report to the peers what a failover needs",
			"the peers are told again what a failover needs", "err", err)
	}
}

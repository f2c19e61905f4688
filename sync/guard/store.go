package guard

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"
)

// storeVersion is the version of the format of Encode.
const storeVersion = 1

// file is a stored Book.
type file struct {
	Version int `json:"version"`
	// Routes says that the second wall is wanted.
	Routes  bool              `json:"routes,omitempty"`
	Entries []json.RawMessage `json:"entries"`
}

// record is a stored rule: a remembered one where it has Seen.
type record struct {
	Src         string  `json:"src"`
	Dst         string  `json:"dst"`
	Proto       uint8   `json:"proto,omitempty"`
	SrcPort     uint16  `json:"sport,omitempty"`
	SrcPortMask uint16  `json:"sport_mask,omitempty"`
	DstPort     uint16  `json:"dport,omitempty"`
	DstPortMask uint16  `json:"dport_mask,omitempty"`
	Mark        uint32  `json:"mark,omitempty"`
	MarkMask    uint32  `json:"mark_mask,omitempty"`
	Priority    *uint32 `json:"priority"`
	Action      string  `json:"action"`
	NoRoute     bool    `json:"no_route,omitempty"`
	Seen        string  `json:"seen,omitempty"`
}

// Actions of a record.
const (
	actionRequire = "require"
	actionPass    = "pass"
)

// Encode returns a Book as JSON, one rule a line. It has selectors, verdicts and times, and
// nothing of SAs. Of more than MaxEntries rules it has the first in order, current ones
// before remembered ones: what a rule decides does not depend on those after it. With
// routes, who reads it is to have the second wall as well.
func Encode(b Book, routes bool) []byte {
	list := make([]record, 0, len(b.current)+len(b.gone))
	for _, r := range b.current {
		list = append(list, recordOf(r))
	}
	for _, e := range b.gone {
		r := recordOf(e.Rule)
		r.Seen = e.Seen.UTC().Format(time.RFC3339Nano)
		list = append(list, r)
	}
	list = list[:min(len(list), MaxEntries)]
	wanted := ""
	if routes {
		wanted = `"routes":true,`
	}
	out := fmt.Appendf(nil, "{\"version\":%d,%s\"entries\":[", storeVersion, wanted)
	for i, r := range list {
		if i > 0 {
			out = append(out, ',')
		}
		// Numbers, flags and text always have an encoding.
		line, _ := json.Marshal(r)
		out = append(append(out, '\n'), line...)
	}
	return append(out, "\n]}\n"...)
}

func recordOf(r Rule) record {
	action := actionPass
	if r.Require {
		action = actionRequire
	}
	return record{
		Src: r.Src.String(), Dst: r.Dst.String(), Proto: r.Proto,
		SrcPort: r.SrcPort, SrcPortMask: r.SrcPortMask, DstPort: r.DstPort, DstPortMask: r.DstPortMask,
		Mark: r.Mark, MarkMask: r.MarkMask, Priority: &r.Priority, Action: action, NoRoute: r.NoRoute,
	}
}

// Decode reads what Encode wrote. Rules that were current then are current in the Book, so
// that the first Learn remembers those which are gone: what an IKE daemon has not installed
// yet when a machine boots is protected for Keep, however long the machine was off.
//
// Decode is strict. An error names the number of the entry, from 1, and its field.
func Decode(data []byte) (b Book, routes bool, err error) {
	var f file
	if err := strictly(data, &f); err != nil {
		return Book{}, false, fmt.Errorf("the stored book is not readable: %w", err)
	}
	if f.Version != storeVersion {
		return Book{}, false, fmt.Errorf("field version: version %d of the stored book is not %d", f.Version, storeVersion)
	}
	if len(f.Entries) > MaxEntries {
		return Book{}, false, fmt.Errorf("entry %d: a stored book has at most %d entries", MaxEntries+1, MaxEntries)
	}
	var gone []Entry
	for i, raw := range f.Entries {
		e, current, err := entryOf(raw)
		switch {
		case err != nil:
			return Book{}, false, fmt.Errorf("entry %d: %w", i+1, err)
		case current:
			b.current = append(b.current, e.Rule)
		default:
			gone = append(gone, e)
		}
	}
	b.current = inOrder(b.current)
	b.remember(gone)
	return b, f.Routes, nil
}

// strictly decodes one JSON value without unknown fields.
func strictly(data []byte, to any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(to); err != nil {
		return err
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("data follow its end")
	}
	return nil
}

// entryOf reads an entry and reports whether its rule was current.
func entryOf(raw []byte) (e Entry, current bool, err error) {
	var r record
	if err := strictly(raw, &r); err != nil {
		return e, false, err
	}
	if e.Selector, err = r.selector(); err != nil {
		return e, false, err
	}
	if r.Priority == nil {
		return e, false, errors.New("field priority: the priority is missing")
	}
	e.Priority, e.NoRoute = *r.Priority, r.NoRoute
	switch r.Action {
	case actionRequire:
		e.Require = true
	case actionPass:
	default:
		return e, false, fmt.Errorf("field action: %q is neither %s nor %s", r.Action, actionRequire, actionPass)
	}
	if r.Seen == "" {
		return e, true, nil
	}
	if e.Seen, err = time.Parse(time.RFC3339, r.Seen); err != nil {
		return e, false, fmt.Errorf("field seen: %q is no time", r.Seen)
	}
	return e, false, nil
}

func (r record) selector() (s Selector, err error) {
	if s.Src, err = maskedPrefix("src", r.Src); err != nil {
		return s, err
	}
	if s.Dst, err = maskedPrefix("dst", r.Dst); err != nil {
		return s, err
	}
	if s.Src.Addr().BitLen() != s.Dst.Addr().BitLen() {
		return s, fmt.Errorf("field dst: the family of %s is not that of %s", s.Dst, s.Src)
	}
	for _, v := range []struct {
		field       string
		value, mask uint32
	}{
		{"sport", uint32(r.SrcPort), uint32(r.SrcPortMask)},
		{"dport", uint32(r.DstPort), uint32(r.DstPortMask)},
		{"mark", r.Mark, r.MarkMask},
	} {
		if v.value&^v.mask != 0 {
			return s, fmt.Errorf("field %s: %d has bits that the mask %#x does not have", v.field, v.value, v.mask)
		}
	}
	s.Proto = r.Proto
	s.SrcPort, s.SrcPortMask, s.DstPort, s.DstPortMask = r.SrcPort, r.SrcPortMask, r.DstPort, r.DstPortMask
	s.Mark, s.MarkMask = r.Mark, r.MarkMask
	return s, nil
}

func maskedPrefix(field, text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		return p, fmt.Errorf("field %s: %q is no prefix", field, text)
	case p != p.Masked():
		return p, fmt.Errorf("field %s: the prefix %s has bits beyond its length", field, p)
	}
	return p, nil
}

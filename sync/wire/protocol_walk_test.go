package wire

import (
	"encoding/binary"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// walker reads a vector by the page's notation alone.
type walker struct {
	t     *testing.T
	where string
	b     []byte
	at    int
	lines []line
	parts map[string]string
	seen  int // lines that fields accounted for
}

// field expects a line of the vector here that is called name.
func (w *walker) field(name string) {
	w.t.Helper()
	i := slices.IndexFunc(w.lines, func(l line) bool { return l.at == w.at })
	if i < 0 {
		w.t.Errorf("%s: byte %d is %q by the page, no field of the vector begins there", w.where, w.at, name)
		return
	}
	w.seen++
	if c := w.lines[i].comment; !strings.HasPrefix(c, name) {
		w.t.Errorf("%s: byte %d is %q by the page, %q by the vector", w.where, w.at, name, c)
	}
}

func (w *walker) number(n int) (v uint64) {
	if w.at+n > len(w.b) {
		w.t.Fatalf("%s: the vector is too short for the page's fields", w.where)
	}
	for _, c := range w.b[w.at : w.at+n] {
		v = v<<8 | uint64(c)
	}
	w.at += n
	return v
}

func (w *walker) uvarint() uint64 {
	v, n := binary.Uvarint(w.b[w.at:])
	if n <= 0 {
		w.t.Fatalf("%s: byte %d: no uvarint", w.where, w.at)
	}
	w.at += n
	return v
}

var (
	commas = regexp.MustCompile(`, `)
	listOf = regexp.MustCompile(`^(list|list16)\((.+)\) (.+)$`)
)

// fields reads one after the other: "u16 lowest version, stream".
func (w *walker) fields(text string) {
	w.t.Helper()
	for _, f := range commas.Split(text, -1) {
		w.one(f)
	}
}

func (w *walker) one(f string) {
	w.t.Helper()
	if m := listOf.FindStringSubmatch(f); m != nil {
		w.field("number of " + m[3])
		n := uint64(0)
		if m[1] == "list16" {
			n = w.number(2)
		} else {
			n = w.uvarint()
		}
		for range n {
			w.one(m[2])
		}
		return
	}
	kind, name, named := strings.Cut(f, " ")
	if !named {
		w.part(kind)
		return
	}
	w.field(name)
	switch size := map[string]int{"u8": 1, "bool": 1, "u16": 2, "u32": 4, "u64": 8, "id": 16}[kind]; {
	case size > 0:
		w.number(size)
	case kind == "uvarint":
		w.uvarint()
	case kind == "name", kind == "addr":
		w.at += int(w.number(1))
	case kind == "text":
		w.at += int(w.number(2))
	case kind == "rest":
		w.at = len(w.b)
	default:
		w.t.Fatalf("%s: %q is in no notation of the page", w.where, f)
	}
}

// part reads what the page defines elsewhere.
func (w *walker) part(name string) {
	w.t.Helper()
	switch name {
	case "record": // its contents have tables of their own
		w.field("record")
		w.number(1)
		w.at++
		w.field("length of the rest")
		end := int(w.number(2))
		end += w.at
		w.field("age in µs")
		w.at = end
	case "identity":
		_, n, err := parseIdentity(w.b[w.at:])
		if err != nil {
			w.t.Fatalf("%s: %v", w.where, err)
		}
		w.at += n
	case "counter":
		w.field("handle")
		bits := w.uvarint()
		w.field("packets")
		w.uvarint()
		w.field("bytes")
		w.uvarint()
		for _, bit := range []uint64{1, 2} {
			if bits&bit != 0 {
				w.field("sequence")
				w.uvarint()
			}
		}
	default:
		fields, ok := w.parts[name]
		if !ok {
			w.t.Fatalf("%s: the page does not say what %q is", w.where, name)
		}
		w.fields(fields)
	}
}

// parseIdentity finds the end of an identity of an SA: fields 1 and 2.
func parseIdentity(b []byte) (fields, n int, err error) {
	for n+tlvHeader <= len(b) && b[n] == byte(fields+1) && fields < 2 {
		n += tlvHeader + int(binary.BigEndian.Uint16(b[n+1:]))
		fields++
	}
	if fields == 0 || n > len(b) {
		return 0, 0, fmt.Errorf("no identity")
	}
	return fields, n, nil
}

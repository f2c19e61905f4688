// Package vici speaks strongSwan's Versatile IKE Control Interface: framed
// packets on a unix socket, each a type, a name where the type has one, and a
// message of key-values, lists and nested sections (strongSwan source,
// src/libcharon/plugins/vici/README.md).
package vici

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// MaxPacket is the largest packet that charon accepts or sends, in bytes.
const MaxPacket = 512 << 10

// maxDepth limits nested sections. charon nests four deep.
const maxDepth = 16

// Elements of an encoded message.
const (
	sectionStart = 1
	sectionEnd   = 2
	keyValue     = 3
	listStart    = 4
	listItem     = 5
	listEnd      = 6
)

// Kind is what an Entry holds.
type Kind uint8

// Kinds of entries.
const (
	KindValue Kind = iota
	KindList
	KindSection
)

// Entry is one named part of a message. Names have 1 to 255 bytes, values up
// to 65535. Values may be binary, keys among them: they are not for logs.
type Entry struct {
	Name    string
	Kind    Kind
	Value   string
	List    []string
	Section Message
}

// Message is an ordered list of entries. Names need not be unique.
type Message []Entry

// Value returns an entry that is a key with a value.
func Value(name, value string) Entry { return Entry{Name: name, Value: value} }

// List returns an entry that is a list of values.
func List(name string, items ...string) Entry {
	return Entry{Name: name, Kind: KindList, List: items}
}

// Section returns an entry that is a section.
func Section(name string, entries ...Entry) Entry {
	return Entry{Name: name, Kind: KindSection, Section: entries}
}

// Get returns the value of a key, "" if there is none.
func (m Message) Get(name string) string {
	for _, e := range m {
		if e.Kind == KindValue && e.Name == name {
			return e.Value
		}
	}
	return ""
}

// Strings returns the items of a list, nil if there is none.
func (m Message) Strings(name string) []string {
	for _, e := range m {
		if e.Kind == KindList && e.Name == name {
			return e.List
		}
	}
	return nil
}

// Section returns the entries of a section, nil if there is none.
func (m Message) Section(name string) Message {
	for _, e := range m {
		if e.Kind == KindSection && e.Name == name {
			return e.Section
		}
	}
	return nil
}

// Sections returns all entries that are sections.
func (m Message) Sections() []Entry {
	var out []Entry
	for _, e := range m {
		if e.Kind == KindSection {
			out = append(out, e)
		}
	}
	return out
}

// Append encodes the message at the end of b.
func (m Message) Append(b []byte) ([]byte, error) { return m.append(b, 0) }

func (m Message) append(b []byte, depth int) ([]byte, error) {
	if depth > maxDepth {
		return b, fmt.Errorf("encode message: sections nested deeper than %d", maxDepth)
	}
	var err error
	for _, e := range m {
		kind, ok := map[Kind]byte{KindValue: keyValue, KindList: listStart, KindSection: sectionStart}[e.Kind]
		if !ok || e.Name == "" || len(e.Name) > 255 {
			return b, fmt.Errorf("encode message: entry %.40q: kind %d, name of %d bytes; want 1 to 255", e.Name,
				e.Kind, len(e.Name))
		}
		b = append(b, kind, byte(len(e.Name)))
		b = append(b, e.Name...)
		switch e.Kind {
		case KindValue:
			b, err = appendValue(b, e.Name, e.Value)
		case KindList:
			for _, item := range e.List {
				if b, err = appendValue(append(b, listItem), e.Name, item); err != nil {
					return b, err
				}
			}
			b = append(b, listEnd)
		case KindSection:
			b, err = e.Section.append(b, depth+1)
			b = append(b, sectionEnd)
		}
		if err != nil {
			return b, err
		}
	}
	return b, nil
}

func appendValue(b []byte, name, v string) ([]byte, error) {
	if len(v) > 0xffff {
		return b, fmt.Errorf("encode message: value of %.40q has %d bytes, at most 65535 are possible", name, len(v))
	}
	return append(binary.BigEndian.AppendUint16(b, uint16(len(v))), v...), nil
}

var errShort = errors.New("cut short")

// Parse decodes a message. Anything but a complete message is an error that
// says at which byte.
func Parse(b []byte) (Message, error) {
	d := decoder{b: b}
	m, err := d.message(0)
	if err != nil {
		return nil, fmt.Errorf("decode message at byte %d: %w", d.at, err)
	}
	return m, nil
}

type decoder struct {
	b  []byte
	at int
}

func (d *decoder) byte() (byte, error) {
	if d.at >= len(d.b) {
		return 0, errShort
	}
	d.at++
	return d.b[d.at-1], nil
}

func (d *decoder) bytes(n int) (string, error) {
	if len(d.b)-d.at < n {
		return "", errShort
	}
	d.at += n
	return string(d.b[d.at-n : d.at]), nil
}

func (d *decoder) name() (string, error) {
	n, err := d.byte()
	if err == nil && n == 0 {
		err = errors.New("empty name")
	}
	if err != nil {
		return "", err
	}
	return d.bytes(int(n))
}

func (d *decoder) value() (string, error) {
	s, err := d.bytes(2)
	if err != nil {
		return "", err
	}
	return d.bytes(int(s[0])<<8 | int(s[1]))
}

func (d *decoder) message(depth int) (Message, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("sections nested deeper than %d", maxDepth)
	}
	var m Message
	for {
		if d.at == len(d.b) && depth == 0 {
			return m, nil
		}
		kind, err := d.byte()
		if err != nil {
			return nil, err
		}
		if kind == sectionEnd && depth > 0 {
			return m, nil
		}
		if kind != keyValue && kind != listStart && kind != sectionStart {
			return nil, fmt.Errorf("element %d where a key, a list or a section may begin", kind)
		}
		e := Entry{}
		if e.Name, err = d.name(); err != nil {
			return nil, err
		}
		switch kind {
		case keyValue:
			e.Value, err = d.value()
		case listStart:
			e.Kind = KindList
			e.List, err = d.list()
		case sectionStart:
			e.Kind = KindSection
			e.Section, err = d.message(depth + 1)
		}
		if err != nil {
			return nil, err
		}
		m = append(m, e)
	}
}

func (d *decoder) list() ([]string, error) {
	var l []string
	for {
		kind, err := d.byte()
		switch {
		case err != nil:
			return nil, err
		case kind == listEnd:
			return l, nil
		case kind != listItem:
			return nil, fmt.Errorf("element %d inside a list", kind)
		}
		v, err := d.value()
		if err != nil {
			return nil, err
		}
		l = append(l, v)
	}
}

// String prints the message as swanctl --raw does, for tests and debugging.
func (m Message) String() string {
	var parts []string
	for _, e := range m {
		switch e.Kind {
		case KindValue:
			parts = append(parts, e.Name+"="+e.Value)
		case KindList:
			parts = append(parts, e.Name+"=["+strings.Join(e.List, " ")+"]")
		case KindSection:
			parts = append(parts, e.Name+" {"+e.Section.String()+"}")
		}
	}
	return strings.Join(parts, " ")
}

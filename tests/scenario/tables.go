package scenario

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"sasyncd/tests/harness/lab"
)

// Tables is what "ip xfrm" says about a node.
type Tables struct {
	States   []string // one per SA, without what counts packets, sorted
	Policies []string // all but the bypasses
	// Bypasses are policies without a template: traffic that needs no tunnel. A
	// backup has some for its own addresses inside.
	Bypasses []string
	// Sent are the outbound sequence numbers by SPI, 64 bits with ESN.
	Sent map[uint32]uint64
}

// ReadTables runs "ip xfrm state" and "ip xfrm policy" on a node.
func ReadTables(nd *lab.Node) (Tables, error) {
	states, err := nd.Try("ip xfrm state")
	if err != nil {
		return Tables{}, err
	}
	policies, err := nd.Try("ip xfrm policy")
	if err != nil {
		return Tables{}, err
	}
	t := Tables{Sent: map[uint32]uint64{}}
	for _, p := range paragraphs(policies) {
		if strings.Contains(p, "tmpl") {
			t.Policies = append(t.Policies, p)
		} else {
			t.Bypasses = append(t.Bypasses, p)
		}
	}
	for _, s := range paragraphs(states) {
		text, spi, sent, err := parseState(s)
		if err != nil {
			return Tables{}, fmt.Errorf("%s: read ip xfrm state: %w", nd.Name, err)
		}
		t.States = append(t.States, text)
		t.Sent[spi] = sent
	}
	slices.Sort(t.States)
	slices.Sort(t.Policies)
	slices.Sort(t.Bypasses)
	return t, nil
}

// paragraphs splits at lines that are not indented.
func paragraphs(text string) []string {
	var list []string
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "\t") && len(list) > 0 {
			list[len(list)-1] += line
		} else {
			list = append(list, line)
		}
	}
	return list
}

// parseState separates what an SA is from what it has counted. Of
//
//	src 192.0.2.1 dst 192.0.2.100
//		proto esp spi 0x00002001 reqid 6 mode tunnel
//		replay-window 0 flag esn
//		aead rfc4106(gcm(aes)) 0x... 128
//		anti-replay esn context:
//		 seq-hi 0x0, seq 0x0, oseq-hi 0x0, oseq 0x17
//		 replay_window 128, bitmap-length 4
//		 00000000 00000000 00000000 00000000
//
// the numbers and the bitmap go.
func parseState(s string) (text string, spi uint32, sent uint64, err error) {
	var kept strings.Builder
	for line := range strings.Lines(s) {
		fields := strings.FieldsFunc(line, func(r rune) bool { return strings.ContainsRune(" \t\n,:", r) })
		number := func(name string) uint64 {
			i := slices.Index(fields, name)
			if i < 0 || i+1 == len(fields) {
				return 0
			}
			n, e := strconv.ParseUint(strings.TrimPrefix(fields[i+1], "0x"), 16, 64)
			if e != nil {
				err = fmt.Errorf("%s in line %q: %w", name, line, e)
			}
			return n
		}
		switch {
		case slices.Contains(fields, "oseq"):
			sent = number("oseq-hi")<<32 | number("oseq")
			continue
		case isBitmap(fields), slices.Contains(fields, "lastused"):
			continue
		case slices.Contains(fields, "spi"):
			spi = uint32(number("spi"))
		}
		kept.WriteString(line)
	}
	if spi == 0 {
		return "", 0, 0, fmt.Errorf("no spi in %q", s)
	}
	return kept.String(), spi, sent, err
}

// isBitmap recognises a line of 32-bit words in hexadecimal.
func isBitmap(fields []string) bool {
	for _, f := range fields {
		if len(f) != 8 || strings.Trim(f, "0123456789abcdef") != "" {
			return false
		}
	}
	return len(fields) > 0
}

// Differences says what one of two tables has and the other has not, counters
// aside. It is empty when they are equal.
func Differences(a, b Tables, nameA, nameB string) []string {
	return append(missing(a.States, b.States, nameA, nameB, "SA"), missing(a.Policies, b.Policies, nameA, nameB,
		"policy")...)
}

func missing(a, b []string, nameA, nameB, what string) []string {
	var list []string
	only := func(x, y []string, name string) {
		for _, s := range x {
			if !slices.Contains(y, s) {
				list = append(list, fmt.Sprintf("%s only on %s:\n%s", what, name, redact(s)))
			}
		}
	}
	only(a, b, nameA)
	only(b, a, nameB)
	if len(list) == 0 && len(a) != len(b) {
		list = append(list, fmt.Sprintf("%s has %d, %s has %d of kind %s", nameA, len(a), nameB, len(b), what))
	}
	return list
}

// redact leaves of each key its first digits, enough to see that two differ.
func redact(s string) string {
	words := strings.Split(s, " ")
	for i, w := range words {
		if strings.HasPrefix(w, "0x") && len(w) > 20 {
			words[i] = w[:8] + "..."
		}
	}
	return strings.Join(words, " ")
}

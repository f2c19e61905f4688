package conf

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// number reads a decimal number between lo and hi.
func (p *parser) number(keyword string, lo, hi uint64) (uint64, bool) {
	what := fmt.Sprintf("a number from %d to %d", lo, hi)
	t, ok := p.word(keyword, what)
	if !ok {
		return 0, false
	}
	n, err := strconv.ParseUint(t.text, 10, 64)
	switch {
	case err != nil && !digits(t.text):
		p.errorf(t.pos, "write "+what, "%s is not a number", t)
	case err != nil || n < lo || n > hi:
		p.errorf(t.pos, "write "+what, "%s %s is out of range", keyword, t.text)
	default:
		p.normal[t.pos] = strconv.FormatUint(n, 10)
		return n, true
	}
	return 0, false
}

func digits(s string) bool { return s != "" && strings.Trim(s, "0123456789") == "" }

// duration reads a time with its unit, between lo and hi and a multiple of step.
func (p *parser) duration(keyword string, lo, hi, step time.Duration) (time.Duration, bool) {
	what := fmt.Sprintf("a time from %s to %s", durationText(lo), durationText(hi))
	t, ok := p.word(keyword, what)
	if !ok {
		return 0, false
	}
	d, err := time.ParseDuration(t.text)
	switch {
	case digits(t.text) && t.text != "0":
		p.errorf(t.pos, fmt.Sprintf("write %ss or %sms", t.text, t.text), "%s %s lacks a unit", keyword, t.text)
	case err != nil:
		p.errorf(t.pos, "write "+what+", such as 250ms or 10s", "%s is not a time", t)
	case d < lo || d > hi:
		p.errorf(t.pos, "write "+what, "%s %s is out of range", keyword, t.text)
	case d%step != 0:
		p.errorf(t.pos, "write a multiple of "+durationText(step), "%s %s is too fine", keyword, t.text)
	default:
		p.normal[t.pos] = durationText(d)
		return d, true
	}
	return 0, false
}

// durationText writes d as it is written in a file: 250ms, 10s, 1m30s, 2m.
func durationText(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// addr parses an address without a zone.
func (p *parser) addr(t token, keyword string) (netip.Addr, bool) {
	a, err := netip.ParseAddr(t.text)
	switch {
	case err != nil && strings.Contains(t.text, "/"):
		p.errorf(t.pos, "write it without a prefix length", "%s is a prefix and %s needs an address", t, keyword)
	case err != nil:
		p.errorf(t.pos, "write an IPv4 or IPv6 address", "%s is not an address", t)
	case a.Is4In6():
		p.errorf(t.pos, "write "+a.Unmap().String(), "%s is an IPv4 address in IPv6 form", t)
	case a.Zone() != "":
		p.errorf(t.pos, "write it without a zone", "%s has a zone, which %s does not take", t, keyword)
	default:
		p.normal[t.pos] = a.String()
		return a, true
	}
	return netip.Addr{}, false
}

// vip parses an address that can be a virtual one.
func (p *parser) vip(t token, a netip.Addr) bool {
	if a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255}) {
		p.errorf(t.pos, "write a unicast address", "%s cannot be a virtual address", t)
		return false
	}
	return true
}

// device reads the name of a network interface or of an instance, which
// follows the same rules (dev_valid_name in net/core/dev.c of the kernel).
func (p *parser) device(keyword, what string) (token, bool) {
	t, ok := p.word(keyword, what)
	if !ok {
		return t, false
	}
	if !deviceName(t.text) {
		p.errorf(t.pos, "write at most 15 characters without blanks, : and /", "%s is not %s", t, what)
		return t, false
	}
	p.normalName(t)
	return t, true
}

func deviceName(s string) bool {
	return s != "" && len(s) <= 15 && s != "." && s != ".." && !strings.ContainsAny(s, "/: \t\v\f\r\n")
}

// groupName reads the name of a carpd group.
func (p *parser) groupName(keyword string) (token, bool) {
	const what = "the name of a group"
	t, ok := p.word(keyword, what)
	if !ok {
		return t, false
	}
	for _, c := range []byte(t.text) {
		if c <= ' ' || c >= 0x7f || strings.IndexByte(`"\{};#/`, c) >= 0 {
			p.errorf(t.pos, `write letters, digits, - and _`, "%s is not %s", t, what)
			return t, false
		}
	}
	if len(t.text) > 31 {
		p.errorf(t.pos, "write at most 31 characters", "%s is too long for a name", t)
		return t, false
	}
	p.normalName(t)
	return t, true
}

// path reads an absolute path.
func (p *parser) path(keyword string) (string, bool) {
	t, ok := p.word(keyword, "a path")
	if !ok {
		return "", false
	}
	if !filepath.IsAbs(t.text) {
		p.errorf(t.pos, "write an absolute path", "%s is not an absolute path", t)
		return "", false
	}
	p.normal[t.pos] = quote(t.text)
	return t.text, true
}

// port reads a TCP port.
func (p *parser) port() (uint16, bool) {
	n, ok := p.number("port", 1, 65535)
	return uint16(n), ok
}

// Host is where a peer is reached: an address, or a name that is resolved when
// it is dialled.
type Host struct {
	Addr netip.Addr // valid, or
	Name string     // a DNS name
}

// String returns the address or the name.
func (h Host) String() string {
	if h.Addr.IsValid() {
		return h.Addr.String()
	}
	return h.Name
}

// host parses an address, with a zone if it is link-local, or a DNS name.
func (p *parser) host(t token) (Host, bool) {
	a, err := netip.ParseAddr(t.text)
	switch {
	case err == nil && a.Is4In6():
		p.errorf(t.pos, "write "+a.Unmap().String(), "%s is an IPv4 address in IPv6 form", t)
	case err == nil && (a.IsUnspecified() || a.IsMulticast()):
		p.errorf(t.pos, "write the address of one gateway", "%s cannot be a peer", t)
	case err == nil && a.IsLinkLocalUnicast() && a.Is6() && a.Zone() == "":
		p.errorf(t.pos, fmt.Sprintf("write %s%%eth0 with the interface it is on", a),
			"%s is link-local and lacks its interface", t)
	case err == nil && (a.Zone() == "" || deviceName(a.Zone())):
		p.normal[t.pos] = bare(a.String())
		return Host{Addr: a}, true
	case err != nil && hostName(t.text):
		return Host{Name: strings.ToLower(t.text)}, true
	default:
		p.errorf(t.pos, "write one, for example 192.0.2.1, 2001:db8::1 or gw2.example.org",
			"%s is neither an address nor a host name", t)
	}
	return Host{}, false
}

// hostName reports whether s has the form of a DNS name that cannot be taken
// for a mistyped address (RFC 1123 2.1: the last label is not all digits).
func hostName(s string) bool {
	s = strings.TrimSuffix(s, ".")
	if s == "" || len(s) > 253 {
		return false
	}
	labels := strings.Split(s, ".")
	for _, l := range labels {
		if l == "" || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' {
			return false
		}
		for _, c := range []byte(l) {
			if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
				return false
			}
		}
	}
	return !digits(labels[len(labels)-1])
}

// metrics reads the rest of: metrics listen on ADDR [port N] [config PATH].
func (p *parser) metrics(port uint16) (on netip.AddrPort, config string, ok bool) {
	if !p.phrase("metrics", "listen", "on") {
		return netip.AddrPort{}, "", false
	}
	t, ok := p.word("metrics listen on", "an address")
	if !ok {
		return netip.AddrPort{}, "", false
	}
	a, ok := p.addr(t, "metrics listen on")
	if p.accept("port") {
		n, portOK := p.port()
		port, ok = n, ok && portOK
	}
	if p.accept("config") {
		path, pathOK := p.path("config")
		config, ok = path, ok && pathOK
	}
	return netip.AddrPortFrom(a, port), config, ok
}

// phrase consumes the words that must follow keyword.
func (p *parser) phrase(keyword string, words ...string) bool {
	for i, w := range words {
		if !p.accept(w) {
			p.errorf(p.cur().pos, fmt.Sprintf("write %s %s", keyword, strings.Join(words, " ")),
				"%s needs %q here but %s follows", strings.Join(append([]string{keyword}, words[:i]...), " "), w,
				p.cur())
			return false
		}
	}
	return true
}

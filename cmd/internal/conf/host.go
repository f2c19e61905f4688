package conf

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"sasyncd/cmd/internal/spell"
)

// What is right in a file by itself may still not fit the machine, or the other
// daemon's file. Both are warnings, as an interface may come later, and as the daemons
// may be configured one after the other.

// Names of the two configurations, which usually lie in one directory.
const (
	carpdName   = "carpd.conf"
	sasyncdName = "sasyncd.conf"
)

// CarpdBeside returns the carpd.conf in the directory of the file at path, nil if
// there is none that can be read and is right. It is for comparing names only: nobody
// has looked at who owns the file, and keys that stand in other files are not read.
func CarpdBeside(path string) *Carpd {
	name := filepath.Join(filepath.Dir(path), carpdName)
	src, ok := plainFile(name)
	if !ok {
		return nil
	}
	c, err := ParseCarpd(name, src)
	if err != nil {
		return nil
	}
	return c
}

// SasyncdBeside returns the sasyncd.conf in the directory of the file at path, as
// CarpdBeside does.
func SasyncdBeside(path string) *Sasyncd {
	name := filepath.Join(filepath.Dir(path), sasyncdName)
	src, ok := plainFile(name)
	if !ok {
		return nil
	}
	s, err := ParseSasyncd(name, src)
	if err != nil {
		return nil
	}
	return s
}

// plainFile reads a regular file, whoever owns it.
func plainFile(path string) ([]byte, bool) {
	st, err := os.Stat(path)
	if err != nil || !st.Mode().IsRegular() || st.Size() > maxFile {
		return nil, false
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, false
	}
	defer f.Close()
	src, err := io.ReadAll(io.LimitReader(f, maxFile))
	return src, err == nil
}

// Interfaces returns the names of the network interfaces of this machine, none if
// they cannot be read.
func Interfaces() []string {
	list, err := net.Interfaces()
	if err != nil {
		return nil
	}
	var names []string
	for _, i := range list {
		names = append(names, i.Name)
	}
	return names
}

// Absent warns of interfaces that the file names and that are not among here, the
// interfaces of the machine. If here is empty they are not known, and it says nothing.
func (c *Carpd) Absent(here []string) []Error {
	var out []Error
	for i := range c.Instances {
		in := &c.Instances[i]
		out = append(out, absent(in.Pos, "instance "+in.Name, in.Device, here)...)
	}
	for _, t := range c.Tracks {
		if t.Kind == TrackIfLink {
			out = append(out, absent(t.Pos, "track link", t.Target, here)...)
		}
	}
	return out
}

// Absent is as that of Carpd.
func (s *Sasyncd) Absent(here []string) []Error {
	var out []Error
	for _, l := range s.Listen {
		if l.Interface != "" {
			out = append(out, absent(l.Pos, "listen on", l.Interface, here)...)
		}
	}
	for _, g := range s.Groups {
		if s.Tracker.Kind == TrackLink && g.Interface != "" {
			out = append(out, absent(g.Pos, "tracker link", g.Interface, here)...)
		}
	}
	return out
}

func absent(at Pos, what, device string, here []string) []Error {
	if len(here) == 0 || slices.Contains(here, device) {
		return nil
	}
	return []Error{{at, fmt.Sprintf("%s: there is no interface %s on this machine", what, device),
		meant(device, here, "ip link shows those that there are")}}
}

// Unmatched warns of names in sasyncd.conf that carpd.conf does not have. Where carpd
// does not elect, it says nothing.
func (s *Sasyncd) Unmatched(c *Carpd) []Error {
	if s.Tracker.Kind != TrackCarpd || s.Lock != LockNone {
		return nil
	}
	var instances, groups []string
	for i := range c.Instances {
		instances = append(instances, c.Instances[i].Name)
	}
	for _, g := range c.Groups {
		groups = append(groups, g.Name)
	}
	var out []Error
	for _, g := range s.Groups {
		switch {
		case slices.Contains(instances, g.Interface):
		case slices.Contains(groups, g.Interface):
			out = append(out, Error{g.Pos, fmt.Sprintf("interface %s is a group of %s", g.Interface, c.File),
				"write one of its instances: " + strings.Join(c.members(g.Interface), ", ")})
		default:
			out = append(out, Error{g.Pos, fmt.Sprintf("interface %s is no instance of %s", g.Interface, c.File),
				meant(g.Interface, instances, "write a carp or vrrp block of that name there")})
		}
		if d := g.DemoteGroup; d != "" && !slices.Contains(groups, d) {
			out = append(out, Error{g.Pos, fmt.Sprintf("group %s of interface %s is no group of %s", d, g.Interface,
				c.File), meant(d, groups, "declare it there, or remove it here")})
		}
	}
	if s.CarpdSocket != c.Socket {
		out = append(out, Error{Pos{File: s.File}, fmt.Sprintf("carpd is looked for at %s, and %s has the socket %s",
			s.CarpdSocket, c.File, c.Socket), fmt.Sprintf("write carpd socket %q", c.Socket)})
	}
	return out
}

// members returns the instances of a group.
func (c *Carpd) members(group string) []string {
	var out []string
	for i := range c.Instances {
		if c.Instances[i].Group == group {
			out = append(out, c.Instances[i].Name)
		}
	}
	return out
}

// meant is the remedy for a word that is none of words: the nearest of them, or else.
func meant(word string, words []string, otherwise string) string {
	if n := spell.Nearest(word, words); n != "" {
		return "did you mean " + n + "?"
	}
	return otherwise
}

// WebProblem returns what check says of the web configuration at path, nothing for "".
func WebProblem(path string, check func(path string) error) []Error {
	if path == "" {
		return nil
	}
	if err := check(path); err != nil {
		return []Error{{Pos{File: path}, "metrics cannot be served with it: " + err.Error(),
			"see metrics in carpd.conf(5) or sasyncd.conf(5)"}}
	}
	return nil
}

package keying

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// swanConn is what VICI does not tell of a connection, but swanctl.conf does.
// Nothing else of that file, which has secrets in it, leaves the privileged process.
type swanConn struct {
	Name     string      `json:"name"`
	Mobike   string      `json:"mobike,omitempty"` // as written; "" is the default, yes
	Children []swanChild `json:"children,omitempty"`
}

type swanChild struct {
	Name        string `json:"name"`
	StartAction string `json:"start_action,omitempty"`
	Reqid       string `json:"reqid,omitempty"`
}

// Limits of a configuration, against one that includes itself.
const (
	maxSwanBytes = 4 << 20
	maxSwanDepth = 16
	maxSwanSteps = 100_000
)

// swanSection is a section of a file in strongSwan's format (strongswan.conf(5)).
type swanSection struct {
	values   map[string]string
	names    []string // of sections, in the order of the file
	sections map[string]*swanSection
	from     []string // sections whose content this one has, too
}

func newSwanSection() *swanSection {
	return &swanSection{values: make(map[string]string), sections: make(map[string]*swanSection)}
}

func (s *swanSection) section(name string) *swanSection {
	sub := s.sections[name]
	if sub == nil {
		sub = newSwanSection()
		s.sections[name] = sub
		s.names = append(s.names, name)
	}
	return sub
}

// swanParser reads such files. read returns those that a pattern names.
type swanParser struct {
	read func(pattern string) ([]swanFile, error)
	size int
}

type swanFile struct{ path, text string }

// parse adds the content of a file to a section.
func (p *swanParser) parse(root *swanSection, f swanFile, depth int) error {
	if p.size += len(f.text); p.size > maxSwanBytes || depth > maxSwanDepth {
		return fmt.Errorf("read %s: too large, or it includes itself", f.path)
	}
	stack := []*swanSection{root}
	text := f.text
	for {
		text = strings.TrimLeft(text, " \t\r\n")
		cur := stack[len(stack)-1]
		switch {
		case text == "":
			if len(stack) > 1 {
				return fmt.Errorf("read %s: a section is not closed", f.path)
			}
			return nil
		case text[0] == '#':
			_, text, _ = strings.Cut(text, "\n")
		case text[0] == '}':
			if len(stack) == 1 {
				return fmt.Errorf("read %s: } without a section", f.path)
			}
			stack, text = stack[:len(stack)-1], text[1:]
		case strings.HasPrefix(text, "include ") || strings.HasPrefix(text, "include\t"):
			var pattern string
			pattern, text = swanValue(text[len("include "):])
			if !filepath.IsAbs(pattern) {
				pattern = filepath.Join(filepath.Dir(f.path), pattern)
			}
			files, err := p.read(pattern)
			if err != nil {
				return err
			}
			for _, inc := range files {
				if err := p.parse(cur, inc, depth+1); err != nil {
					return err
				}
			}
		default:
			end := strings.IndexAny(text, "={:#}\n")
			if end < 0 {
				return fmt.Errorf("read %s: a word without a value", f.path)
			}
			// An opening brace may stand on a line of its own.
			if text[end] == '\n' {
				rest := strings.TrimLeft(text[end:], " \t\r\n")
				if rest == "" || rest[0] != '{' {
					return fmt.Errorf("read %s: a word without a value", f.path)
				}
				text = text[:end] + rest
			}
			name, sign := strings.TrimSpace(text[:end]), text[end]
			text = text[end+1:]
			switch sign {
			case '=':
				cur.values[name], text = swanValue(text)
			case '{':
				stack = append(stack, cur.section(name))
			case ':':
				refs, rest, ok := strings.Cut(text, "{")
				if !ok {
					return fmt.Errorf("read %s: section %q does not begin", f.path, name)
				}
				sub := cur.section(name)
				for r := range strings.SplitSeq(refs, ",") {
					sub.from = append(sub.from, strings.TrimSpace(r))
				}
				stack, text = append(stack, sub), rest
			default:
				return fmt.Errorf("read %s: a word without a value", f.path)
			}
		}
	}
}

// swanValue takes a value, which ends with its line, a comment or a section
// unless it is quoted.
func swanValue(text string) (value, rest string) {
	text = strings.TrimLeft(text, " \t")
	if q, ok := strings.CutPrefix(text, `"`); ok {
		var b strings.Builder
		for i := 0; i < len(q); i++ {
			switch {
			case q[i] == '\\' && i+1 < len(q):
				i++
				b.WriteByte(q[i])
			case q[i] == '"':
				return b.String(), q[i+1:]
			default:
				b.WriteByte(q[i])
			}
		}
		return b.String(), ""
	}
	end := strings.IndexAny(text, "#}\n")
	if end < 0 {
		end = len(text)
	}
	return strings.TrimSpace(text[:end]), text[end:]
}

// resolve returns a section with what it has from others, whose names are
// paths from the root. Own values go before. It takes at most *steps sections.
func (s *swanSection) resolve(root *swanSection, depth int, steps *int) *swanSection {
	if *steps--; depth > maxSwanDepth || *steps < 0 {
		return s
	}
	out := newSwanSection()
	merge := func(from *swanSection) {
		maps.Copy(out.values, from.values)
		for _, n := range from.names {
			sub := out.section(n)
			over := from.sections[n].resolve(root, depth+1, steps)
			both := newSwanSection()
			for _, part := range []*swanSection{sub, over} {
				maps.Copy(both.values, part.values)
				for _, m := range part.names {
					both.section(m)
					both.sections[m] = part.sections[m]
				}
			}
			out.sections[n] = both
		}
	}
	for _, ref := range s.from {
		at := root
		for name := range strings.SplitSeq(ref, ".") {
			if at = at.sections[name]; at == nil {
				break
			}
		}
		if at != nil {
			merge(at.resolve(root, depth+1, steps))
		}
	}
	merge(s)
	return out
}

// readSwanctl reads swanctl.conf and what it includes, and keeps what swanConn has.
func readSwanctl(file swanFile, read func(pattern string) ([]swanFile, error)) ([]swanConn, error) {
	root := newSwanSection()
	p := &swanParser{read: read}
	if err := p.parse(root, file, 0); err != nil {
		return nil, err
	}
	conns := root.sections["connections"]
	if conns == nil {
		return nil, nil
	}
	var out []swanConn
	steps := maxSwanSteps
	conns = conns.resolve(root, 0, &steps)
	for _, name := range conns.names {
		c := conns.sections[name]
		conn := swanConn{Name: name, Mobike: c.values["mobike"]}
		if ch := c.sections["children"]; ch != nil {
			for _, n := range ch.names {
				v := ch.sections[n].values
				conn.Children = append(conn.Children, swanChild{Name: n, StartAction: v["start_action"],
					Reqid: v["reqid"]})
			}
		}
		out = append(out, conn)
	}
	return out, nil
}

// swanFiles reads the files that a pattern names, in their order.
func swanFiles(pattern string) ([]swanFile, error) {
	paths, err := filepath.Glob(pattern)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", pattern, err)
	}
	slices.Sort(paths)
	var out []swanFile
	for _, path := range paths {
		b, err := os.ReadFile(path)
		if err != nil {
			return nil, fmt.Errorf("read configuration: %w", err)
		}
		out = append(out, swanFile{path, string(b)})
	}
	return out, nil
}

// swanSettings is the control verb of strongSwan: its configuration, as far as
// it matters to a failover, as JSON.
func swanSettings(path string) (string, error) {
	b, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return "[]", nil
	}
	if err != nil {
		return "", fmt.Errorf("read configuration: %w", err)
	}
	conns, err := readSwanctl(swanFile{path, string(b)}, swanFiles)
	if err != nil {
		return "", err
	}
	j, err := json.Marshal(conns)
	return string(j), err
}

// lintSwanctl looks in the file for what VICI does not show, in connections that
// charon has loaded and that end on a VIP.
func lintSwanctl(file []swanConn, loaded []connection, onVIP func(connection) bool) []Lint {
	var out []Lint
	for _, c := range loaded {
		i := slices.IndexFunc(file, func(s swanConn) bool { return s.Name == c.name })
		if i < 0 || !onVIP(c) {
			continue // loaded from elsewhere, or a tunnel of this node alone
		}
		s := file[i]
		if !off(s.Mobike) {
			out = append(out, Lint{"strongswan: connection " + s.Name +
				" has MOBIKE, which moves the tunnel to an address of this node when the VIP goes",
				"mobike = no in swanctl.conf"})
		}
		for _, ch := range s.Children {
			if strings.Contains(ch.StartAction, "start") {
				out = append(out, Lint{"strongswan: " + s.Name + "/" + ch.Name +
					" is initiated when it is loaded, on a backup too",
					"start_action = none in swanctl.conf"})
			}
			if ch.Reqid == "" || ch.Reqid == "0" || ch.Reqid == "dynamic" {
				out = append(out, Lint{"strongswan: " + s.Name + "/" + ch.Name +
					" has no reqid of its own, so that packets on their way are refused after a failover if the " +
					"gateways count differently",
					"reqid = NUMBER in swanctl.conf, the same on all gateways"})
			}
		}
	}
	return out
}

// off reports whether a value means no.
func off(v string) bool {
	return slices.Contains([]string{"no", "false", "0", "disabled"}, strings.ToLower(v))
}

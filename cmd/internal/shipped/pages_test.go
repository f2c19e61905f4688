package shipped

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sasyncd/cmd/internal/conf"
	"sasyncd/keying/ipsecconf"
)

const root = "../../.."

func readPage(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(root, path))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// pages returns the documents that people read, by their paths in the source tree.
func pages(t *testing.T) []string {
	t.Helper()
	list := []string{"README.md", "CHANGELOG.md", "tests/README.md", "deploy/container/README.md"}
	docs, err := filepath.Glob(filepath.Join(root, "docs/*.md"))
	if err != nil || len(docs) < 20 {
		t.Fatalf("%d pages, error %v", len(docs), err)
	}
	for _, path := range docs {
		list = append(list, "docs/"+filepath.Base(path))
	}
	return list
}

// block is a piece of code of a page. What it is stands behind the fence; an indented
// block has none.
type block struct {
	line int // of its first line
	what string
	text string
}

// blocks returns the blocks of code of a page, and the rest of it.
func blocks(page string) (code []block, prose string) {
	var cur *block
	fenced := false
	var rest strings.Builder
	n := 0
	for line := range strings.Lines(page) {
		n++
		switch what, fence := strings.CutPrefix(line, "```"); {
		case fence && fenced:
			fenced, cur = false, nil
		case fence:
			fenced = true
			code = append(code, block{line: n + 1, what: strings.TrimSpace(what)})
			cur = &code[len(code)-1]
		case fenced || strings.HasPrefix(line, "    "):
			if cur == nil {
				code = append(code, block{line: n})
				cur = &code[len(code)-1]
			}
			cur.text += line
		default:
			if cur = nil; strings.TrimSpace(line) != "" {
				line = strings.TrimSuffix(line, "\n") + " "
			}
			rest.WriteString(line) // a paragraph is a line, as code in it may be wrapped
		}
	}
	return code, rest.String()
}

var span = regexp.MustCompile("`[^`]+`")

// codeOf returns all code of a page, that between backquotes included, a piece a line.
func codeOf(page string) string {
	code, prose := blocks(page)
	var b strings.Builder
	for _, c := range code {
		b.WriteString(c.text)
	}
	for _, s := range span.FindAllString(prose, -1) {
		b.WriteString(strings.Trim(s, "`") + "\n")
	}
	return b.String()
}

// TestPagesNameWhatExists: commands and flags of our programs, targets of make and files
// that pages name exist. What changed is about what does not exist any more.
func TestPagesNameWhatExists(t *testing.T) {
	makefile := readPage(t, "Makefile")
	known := map[string][]string{"sasyncctl": commands(t, "sasyncctl"), "carpctl": commands(t, "carpctl")}
	flagsOf := map[string]string{}
	for _, program := range []string{"sasyncd", "carpd"} {
		flagsOf[program], _ = flags(read(t, "man", program+".8"))
	}
	n := 0
	for _, path := range pages(t) {
		if path == "CHANGELOG.md" {
			continue
		}
		code := regexp.MustCompile(`-u \w+`).ReplaceAllString(codeOf(readPage(t, path)), "") // units of journalctl
		for _, m := range regexp.MustCompile(`\b(sasyncctl|carpctl) (?:-[a-z]+ )*([a-z]+)`).FindAllStringSubmatch(code,
			-1) {
			if n++; !slices.Contains(known[m[1]], m[2]) {
				t.Errorf("%s: %s has no command %s", path, m[1], m[2])
			}
		}
		for _, m := range regexp.MustCompile(`\b(sasyncd|carpd) -([a-zA-Z]+)(?: -([a-zA-Z]+))?`).FindAllStringSubmatch(code,
			-1) {
			for _, letter := range m[2] + m[3] {
				if !strings.ContainsRune(flagsOf[m[1]], letter) {
					t.Errorf("%s: %s has no flag -%c", path, m[1], letter)
				}
			}
		}
		for _, m := range regexp.MustCompile(`\bmake ([a-z][a-z-]*)`).FindAllStringSubmatch(code, -1) {
			// ground-RELEASE-TARGET is a target on another release.
			target := regexp.MustCompile(`^ground-[a-z]+-`).ReplaceAllString(m[1], "")
			if !strings.Contains(makefile, "\n"+target+":") {
				t.Errorf("%s: make has no target %s", path, m[1])
			}
		}
		for _, m := range regexp.MustCompile(`(?m)^deploy/\S+`).FindAllString(code, -1) {
			if _, err := os.Stat(filepath.Join(root, m)); err != nil {
				t.Errorf("%s: %v", path, err)
			}
		}
	}
	if n < 100 {
		t.Errorf("only %d commands are found", n)
	}
}

// anchors returns the names of the headings of a page, as they are in links to them.
func anchors(page string) (list []string) {
	for _, m := range regexp.MustCompile(`(?m)^#+ (.+)$`).FindAllStringSubmatch(page, -1) {
		name := regexp.MustCompile(`[^\p{L}\p{N} _-]`).ReplaceAllString(strings.ToLower(m[1]), "")
		list = append(list, strings.ReplaceAll(name, " ", "-"))
	}
	return list
}

// TestLinks: what a page links to is there, headings included, and README.md leads to
// every page.
func TestLinks(t *testing.T) {
	linked := map[string]bool{}
	for _, path := range pages(t) {
		_, prose := blocks(readPage(t, path))
		for _, m := range regexp.MustCompile(`\]\(([^)\s]+)\)`).FindAllStringSubmatch(span.ReplaceAllString(prose, "x"),
			-1) {
			if strings.Contains(m[1], "://") {
				continue
			}
			file, anchor, _ := strings.Cut(m[1], "#")
			to := path
			if file != "" {
				to = filepath.Join(filepath.Dir(path), file)
			}
			if path == "README.md" {
				linked[to] = true
			}
			if _, err := os.Stat(filepath.Join(root, to)); err != nil {
				t.Errorf("%s: link to %s: %v", path, m[1], err)
			} else if anchor != "" && !slices.Contains(anchors(readPage(t, to)), anchor) {
				t.Errorf("%s: link to %s: there is no such heading", path, m[1])
			}
		}
	}
	for _, path := range pages(t) {
		if strings.HasPrefix(path, "docs/") && !linked[path] {
			t.Errorf("README.md does not lead to %s", path)
		}
	}
}

// base is what a part of a configuration is completed with, by what it lacks.
var base = map[string][][2]string{
	"carpd.conf": {
		{"group ipsec {", "group ipsec { require sasyncd }"},
		{"vrrp outside {", "vrrp outside { carpdev eth0 vrid 10 priority 200 address 203.0.113.1 group ipsec }"},
		{"vrrp inside {", "vrrp inside { carpdev eth1 vrid 11 priority 200 address 10.1.0.1 group ipsec }"},
	},
	"sasyncd.conf": {
		{"interface ", "interface outside"},
		{"peer ", "peer 10.9.0.2"},
		{"sharedkey ", `sharedkey file "/etc/sasyncd.key"`},
	},
}

// foreign are the configurations and languages of other programs in pages.
var foreign = []string{"", "sh", "keepalived.conf", "nftables"}

// ours finds what is a configuration of ours.
var ours = regexp.MustCompile(`(?m)^(?:(?:vrrp|carp|group) \w+ *\{|(?:track|tracker|sharedkey|control|guard|peer) \S)`)

// parse returns what is wrong with the text of a configuration file, warnings included.
func parse(what, text string) error {
	var warnings []conf.Error
	switch what {
	case "carpd.conf":
		c, err := conf.ParseCarpd(what, []byte(text))
		if err != nil {
			return err
		}
		warnings = c.Warnings
	case "sasyncd.conf":
		c, err := conf.ParseSasyncd(what, []byte(text))
		if err != nil {
			return err
		}
		warnings = c.Warnings
	case "ipsec.conf":
		_, err := ipsecconf.Load(what, func(string) ([]byte, error) { return []byte(text), nil })
		return err
	}
	if len(warnings) > 0 {
		return fmt.Errorf("%v", warnings)
	}
	return nil
}

// TestConfigurationsInPages: each configuration of ours that a page shows is marked by
// the name of its file behind the fence, and is one that the daemons accept without a
// warning. "part" stands behind the name of a file of which the rest is not shown.
func TestConfigurationsInPages(t *testing.T) {
	n := 0
	for _, path := range pages(t) {
		code, _ := blocks(readPage(t, path))
		for _, c := range code {
			what, part, _ := strings.Cut(c.what, " ")
			text := c.text
			switch {
			case part != "" && part != "part" || base[what] == nil && what != "ipsec.conf" &&
				!slices.Contains(foreign, what):
				t.Errorf("%s:%d: nothing says what %q is", path, c.line, c.what)
				continue
			case slices.Contains(foreign, what):
				if m := ours.FindString(strings.ReplaceAll("\n"+text, "\n    ", "\n")); what == "" && m != "" {
					t.Errorf("%s:%d: %q is a configuration and is not marked", path, c.line, m)
				}
				continue
			case part != "":
				for _, b := range base[what] {
					if !strings.Contains("\n"+text, "\n"+b[0]) {
						text = b[1] + "\n" + text
					}
				}
			}
			if err := parse(what, text); err != nil {
				t.Errorf("%s:%d: %v", path, c.line, err)
			}
			n++
		}
	}
	if n < 5 {
		t.Errorf("only %d configurations are found", n)
	}
}

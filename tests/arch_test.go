// Package tests_test holds what is tested about the source itself.
package tests_test

import (
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "sasyncd/"

// layers says for each package, or tree when it ends in "/...", which packages
// of this module its code may import, itself and its subpackages aside. The
// first match counts. Direct imports are enough to look at: what those import
// is judged in turn.
var layers = []struct {
	pkg  string
	may  []string
	why  string
	pure bool // no clock, sockets, files, processes
}{
	{"sync/sadb/...", nil, "the vocabulary knows nothing of those who use it", true},
	{"sync/wire/...", []string{"sync/sadb"}, "the codec turns the vocabulary into bytes and back", true},
	{"sync/channel/...", []string{"sync/wire", "sync/sadb"},
		"the channel carries frames and does not know who speaks, or about what", false},
	{"sync/members/...", []string{"sync/channel", "sync/wire", "sync/sadb"},
		"membership runs over channels and never carries payload", false},
	{"sync/peer/...", []string{"sync/channel", "sync/wire", "sync/sadb"},
		"a session sees neither the kernel nor the election", false},
	{"sync/replica/...", []string{"sync/wire", "sync/sadb"},
		"the state of a group's replication is told what happens, and when", true},
	{"sync/coroutine/...", nil, "turns know nothing of what is done in them", true},
	{"sync/scope/...", []string{"sync/sadb"}, "what belongs to a group follows from its addresses alone", true},
	{"sync/guard/...", []string{"sync/sadb"}, "what must not leave follows from the policies alone", true},
	{"sync/compare/...", []string{"sync/replica", "sync/wire", "sync/sadb"}, "pictures are compared, not gateways",
		true},
	{"sync/metrics/...", []string{"sync/engine"}, "metrics are made of what the engine tells everybody", false},
	{"sync/engine/...", []string{"sync/coroutine", "sync/scope", "sync/compare", "sync/replica", "sync/members",
		"sync/peer", "sync/channel", "sync/wire", "sync/sadb"},
		"the engine declares the interfaces it needs, kernel, election and keying implement them", false},
	{"carp/packet/...", nil, "codecs know bytes only", true},
	{"carp/bfd/...", nil, "a session is told what arrives, and when", true},
	{"carp/link/...", []string{"carp", "carp/packet", "carp/vip", "kernel/dump"},
		"an interface knows no instance and no group", false},
	{"carp/...", []string{"carp", "kernel/dump", "kernel/process", "kernel/trusted"},
		"the election works alone, without sasyncd", false},
	{"keying/ipsecconf/...", []string{"sync/sadb"}, "a language turns text into SAs and policies, and back", true},
	{"keying/...", []string{"sync/sadb", "kernel/process", "kernel/trusted"},
		"a driver of an IKE daemon knows SAs and nothing above", false},
	{"kernel/dump/...", nil, "both daemons use it, so it knows neither", false},
	{"kernel/process/...", nil, "both daemons use it, so it knows neither", false},
	{"kernel/trusted/...", nil, "whom to obey is decided below everything that obeys", false},
	{"kernel/netlink/...", []string{"kernel/dump"}, "messages know no subsystem", false},
	{"kernel/link/...", []string{"kernel/netlink", "sync/sadb"}, "interfaces are read below what uses them", false},
	{"kernel/xfrm/...", []string{"kernel/netlink", "kernel/link", "kernel/dump", "sync/sadb"},
		"the kernel's edge converts to the vocabulary and decides nothing", false},
	{"kernel/leakguard/...", []string{"kernel/netlink", "kernel/dump", "sync/guard"},
		"the packet filter is told what to drop and decides nothing", false},
	{"kernel/...", []string{"kernel", "sync/sadb", "sync/guard"}, "rules may ask XFRM; the fake has XFRM's types", false},
	{"cmd/...", []string{"cmd/internal", "sync", "carp", "keying", "kernel", "deploy"}, "programs wire parts together",
		false},
	{"deploy/...", nil, "files for packagers", false},
	{"tests/...", []string{"tests", "cmd/internal", "sync", "carp", "keying", "kernel", "deploy"},
		"tests may use everything", false},
}

// bans says which imports stay inside which files. A place is a package path, a
// tree, or, when it has no slash, a file name.
var bans = []struct {
	imports string
	only    []string
	why     string
}{
	{"github.com/vishvananda/netlink", []string{"kernel/rules/...", "kernel/dump/...", "carp/...", "tests/..."},
		"the library loses parts of SAs and prints keys, so it stays at the edge"},
	{"github.com/google/nftables", []string{"kernel/leakguard/..."},
		"batches of nf_tables that the kernel refuses leave its sockets unusable, so one package sees it"},
	{"github.com/mdlayher/netlink", []string{"kernel/leakguard/..."}, "sockets of github.com/google/nftables only"},
	{"github.com/hashicorp/memberlist", []string{"sync/members/..."},
		"membership gives hints only, so one package sees it"},
	{"github.com/prometheus/client_golang", []string{"metrics.go", "metrics_test.go", "cmd/internal/daemon/...",
		"tests/..."}, "metrics are described in one file of a package"},
	{"github.com/prometheus/exporter-toolkit", []string{"cmd/internal/daemon/..."},
		"there is one metrics listener, whatever serves it"},
	{"os/exec", []string{"keying/...", "carp/track/...", "kernel/process/...", "kernel/trusted/...", "cmd/internal/...",
		"tests/...", "arch_test.go", "deploy/...", "lock_test.go", "claim_test.go", "top_test.go", "notify.go",
		"cmd/sasyncctl/setup/..."},
		"daemons start no processes but the IKE daemon's, through their privileged half, and what `track exec` " +
			"names; `carpctl notify` is a process of its own, and `sasyncctl init` is a person's"},
	{"testing", []string{"tests/...", "cmd/internal/daemon/daemontest/...", "kernel/kerneltest/...",
		"sync/sadb/sadbtest/...", "keying/vici/vicitest/...", "_test.go"}, "test code does not go into daemons"},
	{"unsafe", []string{"kernel/...", "carp/...", "cmd/internal/privileges/...", "erase_test.go", "tests/..."},
		"memory tricks stay where the kernel's interface needs them"},
}

// pureBans are what pure code must not import. net and log/slog are in the
// list of calls instead: types of theirs (HardwareAddr, Value) are harmless.
var pureBans = []string{"os", "os/exec", "os/signal", "syscall", "context", "math/rand", "golang.org/x/sys/unix"}

// pureCalls are what pure code must not call: time is an argument, and what
// happens is returned.
var pureCalls = map[string][]string{
	"time": {"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick"},
	"net": {"Dial", "DialTimeout", "Listen", "ListenPacket", "ListenUDP", "ListenTCP", "Interfaces", "InterfaceByName",
		"LookupHost"},
	"slog": {"Info", "Warn", "Error", "Debug", "Default", "New"},
}

type pkg struct {
	ImportPath   string
	Dir          string
	GoFiles      []string
	TestGoFiles  []string
	XTestGoFiles []string
}

// rel is the path inside the module.
func (p *pkg) rel() string { return strings.TrimPrefix(p.ImportPath, module) }

func listPackages(t *testing.T) []*pkg {
	t.Helper()
	// -e: a package that does not compile still has imports to judge.
	out, err := exec.CommandContext(t.Context(), "go", "list", "-e",
		"-json=ImportPath,Dir,GoFiles,TestGoFiles,XTestGoFiles", module+"...").Output()
	if err != nil {
		t.Fatalf("list packages: %v", err)
	}
	var list []*pkg
	for dec := json.NewDecoder(strings.NewReader(string(out))); ; {
		p := new(pkg)
		if err := dec.Decode(p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatalf("read package list: %v", err)
		}
		list = append(list, p)
	}
	if len(list) < 5 {
		t.Fatalf("found %d packages, which cannot be all", len(list))
	}
	return list
}

// within reports whether a package path is pattern, or below it where that ends in "/...".
func within(path, pattern string) bool {
	tree, ok := strings.CutSuffix(pattern, "/...")
	return path == tree || ok && strings.HasPrefix(path, tree+"/")
}

func parse(t *testing.T, file string) *ast.File {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
	if err != nil {
		t.Fatalf("%v", err)
	}
	return f
}

func importsOf(f *ast.File) []string {
	var list []string
	for _, s := range f.Imports {
		list = append(list, strings.Trim(s.Path.Value, `"`))
	}
	return list
}

func TestImportsGoOneWay(t *testing.T) {
	for _, p := range listPackages(t) {
		known := false
		for _, l := range layers {
			if !within(p.rel(), l.pkg) {
				continue
			}
			known = true
			for _, file := range p.GoFiles {
				for _, imp := range importsOf(parse(t, filepath.Join(p.Dir, file))) {
					to, ours := strings.CutPrefix(imp, module)
					if !ours || within(to, strings.TrimSuffix(l.pkg, "/...")+"/...") {
						continue
					}
					if !allowed(to, l.may) {
						t.Errorf("%s/%s imports %s: %s", p.rel(), file, to, l.why)
					}
				}
			}
			break
		}
		if !known {
			t.Errorf("package %s has no place in the layers: give it one, with a reason", p.rel())
		}
	}
}

func allowed(to string, may []string) bool {
	for _, m := range may {
		if within(to, m+"/...") {
			return true
		}
	}
	return false
}

func TestForeignImportsStayInTheirPlaces(t *testing.T) {
	for _, p := range listPackages(t) {
		files := append(append(append([]string(nil), p.GoFiles...), p.TestGoFiles...), p.XTestGoFiles...)
		for _, file := range files {
			for _, imp := range importsOf(parse(t, filepath.Join(p.Dir, file))) {
				for _, b := range bans {
					if within(imp, b.imports+"/...") && !inPlace(p.rel(), file, b.only) {
						t.Errorf("%s/%s imports %s: %s", p.rel(), file, imp, b.why)
					}
				}
			}
		}
	}
}

func inPlace(pkg, file string, places []string) bool {
	for _, pl := range places {
		if strings.Contains(pl, "/") && within(pkg, pl) || !strings.Contains(pl, "/") && strings.HasSuffix(file, pl) {
			return true
		}
	}
	return false
}

// TestPureCodeIsPure looks at pure packages, and at every file called
// machine.go wherever it is.
func TestPureCodeIsPure(t *testing.T) {
	for _, p := range listPackages(t) {
		pure := false
		for _, l := range layers {
			if within(p.rel(), l.pkg) {
				pure = l.pure
				break
			}
		}
		for _, file := range p.GoFiles {
			if !pure && file != "machine.go" {
				continue
			}
			f := parse(t, filepath.Join(p.Dir, file))
			for _, imp := range importsOf(f) {
				for _, ban := range pureBans {
					if within(imp, ban) {
						t.Errorf("%s/%s imports %s: pure code does no I/O and keeps no time", p.rel(), file, imp)
					}
				}
			}
			ast.Inspect(f, func(n ast.Node) bool {
				if sel, ok := n.(*ast.SelectorExpr); ok {
					if x, ok := sel.X.(*ast.Ident); ok && slices.Contains(pureCalls[x.Name], sel.Sel.Name) {
						t.Errorf("%s/%s uses %s.%s: pure code takes the time as an argument and returns what to do",
							p.rel(), file, x.Name, sel.Sel.Name)
					}
				}
				if _, ok := n.(*ast.GoStmt); ok {
					t.Errorf("%s/%s starts a goroutine: pure code has none", p.rel(), file)
				}
				return true
			})
		}
	}
}

func TestSyncHasNoPackageOfItsOwn(t *testing.T) {
	for _, p := range listPackages(t) {
		if p.rel() == "sync" {
			t.Errorf("package %s shadows the standard library's sync", p.ImportPath)
		}
	}
}

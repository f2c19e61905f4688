package harness

import (
	"bufio"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	umlModules   = "/usr/lib/uml/modules"
	modprobeName = "harness-modprobe"
)

// modprobeMain is what the guest's kernel calls to load a module: it asks with
// "-q -- name". The host may have neither kmod nor a /lib/modules to mount the
// guest's modules on, so this binary does it itself.
func modprobeMain(args []string) int {
	if len(args) == 0 {
		return 1
	}
	x, err := openModules()
	if err == nil {
		err = x.load(args[len(args)-1])
	}
	if err != nil {
		return 1 // the kernel asks for many a module that does not exist
	}
	return 0
}

// refuser makes, in dir, a program that answers for helper where the kernel asks for
// what no module is. Each start of a PF_KEY daemon asks for dozens of algorithms, with
// the kernel's IPsec tables locked meanwhile; a start of this large binary for each
// would take half a minute in a guest. Names with a colon are of devices, with patterns.
func (x *moduleIndex) refuser(dir, helper string) (string, error) {
	known := filepath.Join(dir, "known")
	if err := os.Mkdir(known, 0o755); err != nil {
		return "", err
	}
	names := slices.Collect(maps.Keys(x.file))
	for _, a := range x.aliases {
		if !strings.ContainsAny(a.pattern, ":/") {
			names = append(names, a.pattern)
		}
	}
	for _, n := range names {
		if err := os.WriteFile(filepath.Join(known, strings.ReplaceAll(n, "-", "_")), nil, 0o644); err != nil {
			return "", err
		}
	}
	name := filepath.Join(dir, "refuser")
	script := fmt.Sprintf(`#!/bin/sh
set -f
case $3 in
*:*) ;;
*) IFS=-; n=$3; set -- $n; IFS=_; [ -e "%s/$*" ] || exit 1; set -- -q -- "$n" ;;
esac
exec %s "$@"
`, known, helper)
	return name, os.WriteFile(name, []byte(script), 0o755)
}

// preloaded is what nearly every drill uses: modules by name, and algorithms of the
// kernel by the name that its own requests use (MODULE_ALIAS_CRYPTO), since the
// modules of algorithms differ between releases. Hashes stand before what asks for
// them while it is loaded.
var preloaded = struct{ modules, algorithms []string }{
	modules: []string{"ipv6", "xfrm_user", "esp4", "esp6", "ah4", "ah6", "veth", "bridge", "sch_netem"},
	algorithms: []string{
		"ecb", "cbc", "ctr", "hmac", "sha1", "sha256", "sha512", "digest_null", "seqiv", "echainiv",
		"authenc", "authencesn", "ghash", "gcm", "ccm", jitter, "drbg_nopr_hmac_sha512", "cmac",
		"chacha20", "poly1305", "rfc7539esp",
	},
}

// preload inserts what nearly every drill uses, in this process. Left to the
// kernel's requests that takes a process for every name it thinks of, and
// seconds in all. A name this kernel lacks is built in or goes by another one.
func (x *moduleIndex) preload() error {
	for _, file := range x.preloads() {
		err := x.insert(file)
		// It measures the clock when it is loaded, and refuses (crypto/jitterentropy-kcapi.c)
		// if that is too even, as on an emulated machine, or too coarse, as on a busy one.
		// Nothing needs it.
		if moduleName(file) == jitter && (errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EFAULT)) {
			continue
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// preloads returns the files of what is preloaded, without what they need in turn.
func (x *moduleIndex) preloads() (files []string) {
	names := slices.Clone(preloaded.modules)
	for _, algorithm := range preloaded.algorithms {
		for _, a := range x.aliases {
			if a.pattern == "crypto-"+algorithm {
				names = append(names, a.module)
			}
		}
	}
	for _, name := range names {
		if file, ok := x.file[moduleName(name)]; ok && !slices.Contains(files, file) {
			files = append(files, file)
		}
	}
	return files
}

const jitter = "jitterentropy_rng"

// moduleIndex is what depmod wrote about the modules of one kernel.
type moduleIndex struct {
	dir  string
	file map[string]string   // normalised name -> path below dir
	deps map[string][]string // path below dir -> paths it needs
	// aliases are the names by which the kernel may ask for a module (path.Match).
	aliases []alias
}

type alias struct{ pattern, module string }

// openModules reads the index of the guest that this is.
func openModules() (*moduleIndex, error) { return readModules(guestModuleDir, kernelRelease()) }

func readModules(dir, release string) (*moduleIndex, error) {
	x := &moduleIndex{
		dir:  filepath.Join(dir, release),
		file: map[string]string{},
		deps: map[string][]string{},
	}
	aliases, err := os.ReadFile(filepath.Join(x.dir, "modules.alias"))
	if err != nil {
		return nil, fmt.Errorf("read module aliases: %w", err)
	}
	for line := range strings.Lines(string(aliases)) {
		if f := strings.Fields(line); len(f) == 3 && f[0] == "alias" {
			x.aliases = append(x.aliases, alias{f[1], f[2]})
		}
	}
	f, err := os.Open(filepath.Join(x.dir, "modules.dep"))
	if err != nil {
		return nil, fmt.Errorf("open module index: %w", err)
	}
	defer f.Close()
	sc := bufio.NewScanner(f)
	for sc.Scan() {
		file, needs, ok := strings.Cut(sc.Text(), ":")
		if !ok {
			continue
		}
		x.file[moduleName(file)] = file
		x.deps[file] = strings.Fields(needs)
	}
	return x, sc.Err()
}

// moduleName is the canonical name of a module file or request.
func moduleName(s string) string {
	s, _, _ = strings.Cut(path.Base(s), ".ko")
	return strings.ReplaceAll(s, "-", "_")
}

// load inserts the module of that name, or all with that alias, with what they need.
func (x *moduleIndex) load(name string) error {
	if p, ok := x.file[strings.ReplaceAll(name, "-", "_")]; ok {
		return x.insert(p)
	}
	mods := x.byAlias(name)
	if len(mods) == 0 {
		return fmt.Errorf("find module %s: no such name or alias", name)
	}
	for _, m := range mods {
		if p, ok := x.file[strings.ReplaceAll(m, "-", "_")]; ok {
			if err := x.insert(p); err != nil {
				return err
			}
		}
	}
	return nil
}

func (x *moduleIndex) byAlias(name string) (mods []string) {
	want := strings.ReplaceAll(name, "-", "_")
	for _, a := range x.aliases {
		ok, err := path.Match(strings.ReplaceAll(a.pattern, "-", "_"), want)
		if err == nil && ok {
			mods = append(mods, a.module)
		}
	}
	return mods
}

// insert loads what p needs, deepest first as modules.dep lists it, then p.
func (x *moduleIndex) insert(p string) error {
	for _, need := range slices.Backward(x.deps[p]) {
		if err := x.insertOne(need); err != nil {
			return err
		}
	}
	return x.insertOne(p)
}

// order returns the files of the named modules and all they need, each after
// what it needs. A name that is built in is left out.
func (x *moduleIndex) order(names ...string) (files []string) {
	for _, name := range names {
		p, ok := x.file[name]
		if !ok {
			continue
		}
		needs := slices.Clone(x.deps[p])
		slices.Reverse(needs)
		for _, f := range append(needs, p) {
			if !slices.Contains(files, f) {
				files = append(files, f)
			}
		}
	}
	return files
}

func (x *moduleIndex) insertOne(p string) error {
	f, err := os.Open(filepath.Join(x.dir, p))
	if err != nil {
		return fmt.Errorf("open module: %w", err)
	}
	defer f.Close()
	if err := unix.FinitModule(int(f.Fd()), "", 0); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("load module %s: %w", p, err)
	}
	return nil
}

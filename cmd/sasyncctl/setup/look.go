package setup

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"sasyncd/deploy"
)

// mark begins the lines that a look prints, as a login may print lines of its own.
const mark = "init: "

// templates are the files as a package installs them, by name.
var templates = map[string][]byte{carpdName: deploy.CarpdConf, sasyncdName: deploy.SasyncdConf}

// look is a script for sh(1) that says what is missing on a side, and which files are
// there. It changes nothing.
func (in *Input) look(s Side, dir string) string {
	var devices, files []string
	for _, n := range in.networks() {
		devices = append(devices, n.Devices[s])
	}
	for _, name := range []string{keyName, carpdName, sasyncdName} {
		files = append(files, dir+"/"+name)
		if templates[name] != nil {
			files = append(files, dir+"/"+name+kept)
		}
	}
	script := `say() { echo "` + mark + `$*"; }
[ "$(id -u)" = 0 ] || say root
for p in carpd sasyncd sasyncctl systemctl; do command -v $p >/dev/null || say program $p; done
for u in carpd sasyncd; do id $u >/dev/null 2>&1 || say user $u; done
for i in ` + strings.Join(devices, " ") + `; do [ -e /sys/class/net/$i ] || say interface $i; done
if command -v ip >/dev/null; then
	ip -o address show to ` + in.Addresses[s].String() + ` | grep -q . || say address ` + in.Addresses[s].String() + `
fi
for f in ` + strings.Join(files, " ") + `; do
	if [ -e $f ] || [ -L $f ]; then say file $f $(sha256sum $f); fi
done
`
	if in.IKE == IKEStatic {
		script += "[ -e " + in.Static + " ] || say static\n"
	}
	return script + "say end\n"
}

// judge reads what a look has printed. Each problem is said with its remedy; there is
// none where init may go on.
func (in *Input) judge(s Side, printed string) (found Found, problems []string) {
	who := in.called(s)
	bad := func(format string, args ...any) {
		problems = append(problems, who+": "+fmt.Sprintf(format, args...))
	}
	exists := map[string]string{} // digests by path
	whole := false
	for line := range strings.Lines(printed) {
		rest, ok := strings.CutPrefix(line, mark)
		words := strings.Fields(rest)
		if !ok || len(words) == 0 {
			continue
		}
		words = append(words, "", "")
		switch what := words[1]; words[0] {
		case "root":
			bad("the user is not root: run it as root")
		case "program":
			bad("there is no program %s: install the package", what)
		case "user":
			bad("there is no user %s, as which a daemon runs: systemd-sysusers", what)
		case "interface":
			bad("there is no interface %s: ip link shows those that there are", what)
		case "address":
			bad("no interface has the address %s, which is to be its end of the sync link", what)
		case "static":
			bad("there is no file %s: write the static keys first", in.Static)
		case "file":
			exists[what] = words[2]
		case "end":
			whole = true
		}
	}
	if !whole {
		bad("what is there cannot be told: it has said %q", strings.TrimSpace(printed))
	}
	for _, path := range slices.Sorted(maps.Keys(exists)) {
		if strings.HasSuffix(path, kept) {
			continue // it is in the way of a template only
		}
		_, keeps := exists[path+kept]
		switch template := isTemplate(path, exists[path]); {
		case !template:
			bad("%s exists, and nothing is overwritten: look at it, then mv %[1]s %[1]s.old, or configure by hand", path)
		case keeps:
			bad("%s%s exists, and %[1]s is to have that name: move one of them away", path, kept)
		default:
			found.Templates = append(found.Templates, path)
		}
	}
	return found, problems
}

// isTemplate reports whether a file with a digest is as a package installs it.
func isTemplate(path, digest string) bool {
	t := templates[path[strings.LastIndexByte(path, '/')+1:]]
	sum := sha256.Sum256(t)
	return t != nil && digest == hex.EncodeToString(sum[:])
}

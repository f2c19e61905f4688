package setup

import (
	"crypto/sha256"
	"encoding/hex"
	"slices"
	"strings"
	"testing"

	"sasyncd/deploy"
)

// TestJudge: each thing that a look says is a problem with a remedy, but for files that
// are still as a package has installed them.
func TestJudge(t *testing.T) {
	sum := sha256.Sum256(deploy.CarpdConf)
	template := "init: file /etc/carpd.conf " + hex.EncodeToString(sum[:]) + " /etc/carpd.conf\n"
	for name, tt := range map[string]struct {
		printed string
		aside   []string
		want    []string
	}{
		"nothing":         {"init: end\n", nil, nil},
		"words of others": {"Welcome to gw2\ninit: end\n", nil, nil},
		"template":        {template + "init: end\n", []string{"/etc/carpd.conf"}, nil},
		"template and what it is to be called": {template + "init: file /etc/carpd.conf.orig aa\ninit: end\n", nil,
			[]string{"/etc/carpd.conf.orig exists"}},
		"template kept before": {"init: file /etc/carpd.conf.orig aa\ninit: end\n", nil, nil},
		"a file of somebody's": {"init: file /etc/carpd.conf 0123\ninit: file /etc/sasyncd.key 45\ninit: end\n", nil,
			[]string{"/etc/carpd.conf exists, and nothing is overwritten", "/etc/sasyncd.key exists"}},
		"a template under another name": {strings.ReplaceAll(template, "carpd", "sasyncd") + "init: end\n", nil,
			[]string{"/etc/sasyncd.conf exists"}},
		"a file that cannot be read": {"init: file /etc/carpd.conf\ninit: end\n", nil, []string{"/etc/carpd.conf exists"}},
		"a bare machine": {"init: root\ninit: program carpd\ninit: user carpd\ninit: interface eth0\n" +
			"init: address 10.9.0.2\ninit: static\ninit: end\n", nil, []string{"not root: run it as root",
			"no program carpd: install", "no user carpd, as which a daemon runs: systemd-sysusers",
			"no interface eth0", "no interface has the address 10.9.0.2", "no file /static"}},
		"cut off": {"init: user carpd\n", nil, []string{"no user carpd", "cannot be told"}},
		"silent":  {"", nil, []string{"cannot be told"}},
	} {
		in := usual()
		in.IKE, in.Static = IKEStatic, "/static"
		found, problems := in.judge(Peer, tt.printed)
		if !slices.Equal(found.Templates, tt.aside) {
			t.Errorf("%s: %v give way, want %v", name, found.Templates, tt.aside)
		}
		if len(problems) != len(tt.want) {
			t.Errorf("%s: the problems are %q, want %q", name, problems, tt.want)
			continue
		}
		for i, w := range tt.want {
			if !strings.HasPrefix(problems[i], "root@10.9.0.2: ") || !strings.Contains(problems[i], w) {
				t.Errorf("%s: the problem is %q, want %q", name, problems[i], w)
			}
		}
	}
}

package main

import (
	"path/filepath"
	"slices"
	"testing"

	"sasyncd/cmd/internal/conf"
	"sasyncd/cmd/internal/privileges"
)

// What is read at a reload and written while running is in the rules; what is
// only connected to need not be.
func TestFilesOfTheNetworkFacingProcess(t *testing.T) {
	dir := t.TempDir()
	c, err := conf.ParseSasyncd(filepath.Join(dir, "etc/sasyncd.conf"), []byte(`
interface carp1
peer 192.0.2.2
sharedkey file "`+dir+`/keys/one"
sharedkey file "`+dir+`/other/two"
socket "`+dir+`/run/control.sock"
statedir "`+dir+`/state"
metrics listen on 127.0.0.1 config "`+dir+`/web/web.yml"
tracker keepalived "`+dir+`/fifos/notify"
vip 192.0.2.1
control static "`+dir+`/static/ipsec.conf"
`))
	if err != nil {
		t.Fatal(err)
	}
	got := files(c)
	for _, want := range []privileges.Path{
		{Path: dir + "/etc", Access: privileges.Read}, {Path: dir + "/keys", Access: privileges.Read},
		{Path: dir + "/other", Access: privileges.Read}, {Path: dir + "/run", Access: privileges.Change},
		{Path: dir + "/state", Access: privileges.Change}, {Path: dir + "/fifos", Access: privileges.Change},
		{Path: dir + "/web", Access: privileges.Read}, {Path: dir + "/static", Access: privileges.Read},
		{Path: "/proc", Access: privileges.Read}, {Path: "/etc", Access: privileges.Read},
	} {
		if !slices.Contains(got, want) {
			t.Errorf("%v is missing in %v", want, got)
		}
	}
	for _, p := range got {
		if p.Access == privileges.Change && p.Path != "/dev/null" &&
			!slices.Contains([]string{dir + "/run", dir + "/state", dir + "/fifos"}, p.Path) {
			t.Errorf("it may change %s", p.Path)
		}
	}
}

package main

import (
	"path/filepath"
	"slices"
	"testing"

	"sasyncd/cmd/internal/conf"
	"sasyncd/cmd/internal/privileges"
)

// What is read at a reload, tracked, and written while running is in the rules.
func TestFilesOfCarpd(t *testing.T) {
	dir := t.TempDir()
	c, err := conf.ParseCarpd(filepath.Join(dir, "etc/carpd.conf"), []byte(`
group g { }
vrrp one { carpdev eth0; vrid 1; address 192.0.2.1/32; auth enforce; key 1 file "`+dir+`/keys/one"; group g }
track file "`+dir+`/tracked/weight" group g demote 10
socket "`+dir+`/run/carpd.sock"
statedir "`+dir+`/state"
metrics listen on 127.0.0.1 config "`+dir+`/web/web.yml"
`))
	if err != nil {
		t.Fatal(err)
	}
	got := files(c)
	for _, want := range []privileges.Path{
		{Path: dir + "/etc", Access: privileges.Read}, {Path: dir + "/keys", Access: privileges.Read},
		{Path: dir + "/web", Access: privileges.Read},
		{Path: dir + "/tracked", Access: privileges.Read}, {Path: dir + "/run", Access: privileges.Change},
		{Path: dir + "/state", Access: privileges.Change}, {Path: "/proc", Access: privileges.Read},
	} {
		if !slices.Contains(got, want) {
			t.Errorf("%v is missing in %v", want, got)
		}
	}
	for _, p := range got {
		if p.Access == privileges.Change && p.Path != "/dev/null" &&
			!slices.Contains([]string{dir + "/run", dir + "/state"}, p.Path) {
			t.Errorf("it may change %s", p.Path)
		}
	}
}

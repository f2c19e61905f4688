package conf

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// other is a user who is neither root nor the one who runs the tests.
const other = 990

// rootsDir returns a directory of root's, and another one in it with this owner and
// mode, and says in which tests there can be one.
func rootsDir(t *testing.T, uid int, mode os.FileMode) (roots, spoilt string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("files of others can be made by root only")
	}
	roots = t.TempDir()
	spoilt = filepath.Join(roots, "spoilt")
	if err := errors.Join(os.Mkdir(spoilt, 0o755), os.Chown(spoilt, uid, 0), os.Chmod(spoilt, mode)); err != nil {
		t.Fatal(err)
	}
	return roots, spoilt
}

func put(t *testing.T, path, text string, mode os.FileMode) string {
	t.Helper()
	if err := errors.Join(os.WriteFile(path, []byte(text), mode), os.Chmod(path, mode)); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestDirectoriesOfOthersAreRefused: for the configuration, a key, the file of
// `control static` and what that includes, who could replace the file counts as who
// could write it.
func TestDirectoriesOfOthersAreRefused(t *testing.T) {
	for name, spoilt := range map[string]struct {
		uid  int
		mode os.FileMode
		want string
	}{
		"another user's": {other, 0o755, "the directory belongs to user 990 and has mode 0755"},
		"a group's":      {0, 0o775, "the directory belongs to root and has mode 0775"},
		"sticky":         {0, 0o777 | os.ModeSticky, "the directory belongs to root and has mode 1777"},
	} {
		roots, dir := rootsDir(t, spoilt.uid, spoilt.mode)
		in := func(dir, name, text string) string { return put(t, filepath.Join(dir, name), text, 0o600) }
		const base = "interface carp1\npeer 10.0.0.2\n"
		key := in(roots, "key", hexKey+"\n")
		flow := "flow from 10.1.0.0/16 to 10.2.0.0/16 peer 192.0.2.2\n"
		static := base + "sharedkey file \"" + key + "\"\ncontrol static %q\n"
		link := filepath.Join(roots, "link")
		if err := os.Symlink(in(dir, "behind", hexKey+"\n"), link); err != nil {
			t.Fatal(err)
		}
		for what, path := range map[string]string{
			"configuration": in(dir, "a.conf", base+"sharedkey file \""+key+"\"\n"),
			"key":           in(roots, "b.conf", base+"sharedkey file \""+in(dir, "key", hexKey+"\n")+"\"\n"),
			"link to a key": in(roots, "c.conf", base+"sharedkey file \""+link+"\"\n"),
			"static file":   in(roots, "d.conf", fmt.Sprintf(static, in(dir, "ipsec.conf", flow))),
			"include": in(roots, "e.conf", fmt.Sprintf(static,
				in(roots, "ipsec.conf", "include \""+in(dir, "more", flow)+"\"\n"))),
		} {
			_, err := LoadSasyncd(path)
			if !IsConfig(err) || !strings.Contains(err.Error(), dir+": "+spoilt.want) {
				t.Errorf("%s in %s directory: %v", what, name, err)
			}
		}
		_, err := LoadCarpd(in(dir, "carpd.conf", "vrrp v { carpdev eth0 vrid 1 address 10.0.0.1 }"))
		if !IsConfig(err) || !strings.Contains(err.Error(), spoilt.want) {
			t.Errorf("carpd.conf in %s directory: %v", name, err)
		}
		if _, err := ReadRoots(filepath.Join(dir, "a.conf")); !IsConfig(err) {
			t.Errorf("root follows a file in %s directory: %v", name, err)
		}
	}
}

// TestUntrustedProgramsAreTold: -n says of a program that it will not be run, and
// why; one that is missing is a warning.
func TestUntrustedProgramsAreTold(t *testing.T) {
	roots, dir := rootsDir(t, other, 0o755)
	const script = "#!/bin/sh\n"
	good := put(t, filepath.Join(roots, "good"), script, 0o755)
	for path, want := range map[string]string{
		good: "",
		put(t, filepath.Join(dir, "hook"), script, 0o755):     dir + ": the directory belongs to user 990",
		put(t, filepath.Join(roots, "shared"), script, 0o775): "others can write to it",
		put(t, filepath.Join(roots, "plain"), script, 0o644):  "chmod 755",
		filepath.Join(roots, "none"):                          "does not exist",
	} {
		s, err := LoadSasyncd(put(t, filepath.Join(roots, "sasyncd.conf"), "interface carp1\npeer 10.0.0.2\nsharedkey "+
			hexKey+"\ncontrol exec \""+path+"\"\n", 0o600))
		if err != nil {
			t.Fatal(err)
		}
		c, err := LoadCarpd(put(t, filepath.Join(roots, "carpd.conf"),
			"vrrp v { carpdev eth0 vrid 1 address 10.0.0.1 }\ntrack exec \""+path+"\"\n", 0o600))
		if err != nil {
			t.Fatal(err)
		}
		for _, said := range [][]Error{append(s.Warnings, s.Refused...), append(c.Warnings, c.Refused...)} {
			if want == "" && len(said) != 0 || want != "" && (len(said) != 1 || !strings.Contains(said[0].Error(),
				want)) {
				t.Errorf("%s: %v, want %q", path, said, want)
			}
		}
		if n := len(s.Refused); n != len(c.Refused) || (n > 0) != (want != "" && want != "does not exist") {
			t.Errorf("%s: %d programs are refused", path, n)
		}
	}
}

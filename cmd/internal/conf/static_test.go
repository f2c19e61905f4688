package conf

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// staticDir writes a configuration with `control static`, and returns how to
// load it and the path of the file.
func staticDir(t *testing.T) (load func() error, file string) {
	t.Helper()
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	key := write("key", "0x"+strings.Repeat("5a", 32)+"\n")
	more := write("more.conf", "flow from 10.1.0.0/16 to 10.2.0.0/16 peer 192.0.2.2\n")
	file = write("ipsec.conf", "include \""+more+
		"\"\nesp from 192.0.2.1 to 192.0.2.2 spi 0x1000:0x1001 authkey file \""+key+":"+key+"\" enckey file \""+key+":"+
		key+"\"\n")
	main := write("sasyncd.conf", "interface outside\npeer 192.0.2.3\nsharedkey 0x"+strings.Repeat("5b", 32)+
		"\ncontrol static \""+file+"\"\n")
	return func() error { _, err := LoadSasyncd(main); return err }, file
}

// TestStaticIsLoadedWithTheRest: sasyncd -n says what is wrong with the file of
// `control static`, with its place.
func TestStaticIsLoadedWithTheRest(t *testing.T) {
	load, file := staticDir(t)
	if err := load(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte("\nflow from 10.1.0.0/16 to 10.2.0.0/16 peer 192.0.2.2\nike esp from any "+
		"to any\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := load()
	if !IsConfig(err) || !strings.Contains(err.Error(), file+":3:1: ike rules are not for sasyncd") {
		t.Errorf("got %v", err)
	}
}

// TestStaticIsSecret: neither the file nor one that it names may be open to
// others, or to a group.
func TestStaticIsSecret(t *testing.T) {
	load, file := staticDir(t)
	for _, name := range []string{"ipsec.conf", "more.conf", "key"} {
		path := filepath.Join(filepath.Dir(file), name)
		for _, mode := range []os.FileMode{0o644, 0o640, 0o604, 0o620} {
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
			err := load()
			if !IsConfig(err) || !strings.Contains(err.Error(), "chmod 600") || !strings.Contains(err.Error(), name) {
				t.Errorf("%s of mode %04o: %v", name, mode, err)
			}
		}
		if err := os.Chmod(path, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := load(); err != nil {
			t.Errorf("%s of mode 0600: %v", name, err)
		}
	}
}

// TestStaticFiles are what the privileged process may open: nothing that a file
// of somebody else names.
func TestStaticFiles(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("files of root can be made by root only")
	}
	_, file := staticDir(t)
	dir := filepath.Dir(file)
	want := []string{file, filepath.Join(dir, "more.conf"), filepath.Join(dir, "key")}
	if got, err := StaticFiles(file); err != nil || !slices.Equal(got, want) {
		t.Errorf("files are %q, want %q, %v", got, want, err)
	}
	if err := os.Chown(file, 990, 0); err != nil {
		t.Fatal(err)
	}
	if got, err := StaticFiles(file); err != nil || !slices.Equal(got, []string{file}) {
		t.Errorf("of a file of another user: %q, %v", got, err)
	}
}

// TestOneStatic: bypass flows belong to no group, so that two files would remove
// each other's.
func TestOneStatic(t *testing.T) {
	const text = "interface a\ncontrol static \"/a\"\ninterface b\ncontrol static \"/b\"\npeer 192.0.2.3\nsharedkey " +
		"file \"/k\"\n"
	if _, err := ParseSasyncd("sasyncd.conf", []byte(text)); err == nil || !strings.Contains(err.Error(),
		"control static") {
		t.Errorf("two files: %v", err)
	}
	if _, err := ParseSasyncd("sasyncd.conf", []byte(strings.Replace(text, "static \"/b\"",
		"strongswan", 1))); err != nil {
		t.Errorf("a file and a daemon: %v", err)
	}
}

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sasyncd/cmd/internal/daemon"
)

// TestCheck: -n says that a configuration is right, what does not fit this machine or the
// other file, and with -v nothing but the normal form; -h is help.
func TestCheck(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "sasyncd.conf")
	for name, text := range map[string]string{
		path: "interface outsdie\npeer 10.9.0.2\nlisten on nosuch0\nsharedkey 0x" + strings.Repeat("4c1f", 16) + "\n",
		filepath.Join(dir, "carpd.conf"): "carp outside { carpdev lo; vhid 10; pass \"love-and-peace\"; address " +
			"192.0.2.1 }\n",
	} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, flags := range []string{"-nc", "-nvc"} {
		var out, errs bytes.Buffer
		code := run([]string{flags, path}, &out, &errs)
		for _, want := range []string{path + ":1:1: interface outsdie is no instance of " + dir + "/carpd.conf, did you " +
			"mean outside?", path + ":3:1: listen on: there is no interface nosuch0 on this machine"} {
			if !strings.Contains(errs.String(), want) {
				t.Errorf("%s: lacks %q: %s", flags, want, &errs)
			}
		}
		ok := path + ": configuration OK\n"
		if code != daemon.ExitOK || flags == "-nc" && out.String() != ok || flags == "-nvc" && strings.Contains(
			out.String(), ok) {
			t.Errorf("%s: code %d: %s", flags, code, &out)
		}
	}
	var out, errs bytes.Buffer
	if code := run([]string{"-h"}, &out, &errs); code != daemon.ExitOK || errs.Len() > 0 || !strings.HasPrefix(out.String(),
		"usage: sasyncd ") {
		t.Errorf("-h: code %d: %s%s", code, &out, &errs)
	}
}

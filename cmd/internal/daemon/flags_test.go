package daemon

import (
	"bytes"
	"runtime/debug"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestDaemonFlags(t *testing.T) {
	const usage = "usage: carpd [-dhnvV] [-c file]\n       carpd [-v] [-c file] cleanup\n" +
		"       carpd [-c file] fmt [-dw] [file | -]\n"
	for _, tt := range []struct {
		args   string
		want   Flags
		stderr string
	}{
		{"", Flags{Config: "/etc/carpd.conf", Args: []string{}}, ""},
		{"-dnv", Flags{Config: "/etc/carpd.conf", Debug: true, Check: true, Verbose: 1, Args: []string{}}, ""},
		{"-nvv -c x.conf", Flags{Config: "x.conf", Check: true, Verbose: 2, Args: []string{}}, ""},
		{"-cx.conf -V", Flags{Config: "x.conf", Version: true, Args: []string{}}, ""},
		{"-v cleanup", Flags{Config: "/etc/carpd.conf", Verbose: 1, Args: []string{"cleanup"}}, ""},
		{"fmt -dw x", Flags{Config: "/etc/carpd.conf", Args: []string{"fmt", "-dw", "x"}}, ""},
		{"-x", Flags{}, "carpd: unknown shorthand flag: 'x' in -x\n" + usage},
		{"-c", Flags{}, "carpd: flag needs an argument: 'c' in -c\n" + usage},
		{"clean", Flags{}, "carpd: unknown argument \"clean\"\n" + usage},
		{"claenup", Flags{}, "carpd: unknown argument \"claenup\", did you mean cleanup?\n" + usage},
		{"cleanup -d", Flags{}, "carpd: too many arguments: cleanup -d\n" + usage},
		{"-h", Flags{Config: "/etc/carpd.conf", Help: true, Args: []string{}}, ""},
		{"-nh what ever", Flags{Config: "/etc/carpd.conf", Check: true, Help: true, Args: []string{"what", "ever"}},
			""},
	} {
		t.Run(tt.args, func(t *testing.T) {
			var stderr bytes.Buffer
			got, err := DaemonFlags("carpd", "/etc/carpd.conf", strings.Fields(tt.args), &stderr, "cleanup")
			if (err != nil) != (tt.stderr != "") {
				t.Fatalf("error is %v", err)
			}
			if diff := cmp.Diff(tt.stderr, stderr.String()); diff != "" {
				t.Errorf("standard error (-want +got):\n%s", diff)
			}
			if err == nil {
				if !strings.HasPrefix(got.Usage, usage) || !strings.Contains(got.Usage, "\n  -c file  read this "+
					"configuration instead of /etc/carpd.conf\n") {
					t.Errorf("help is %q", got.Usage)
				}
				got.Usage = ""
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("flags (-want +got):\n%s", diff)
				}
			}
		})
	}
}

func TestCtlFlags(t *testing.T) {
	var stderr bytes.Buffer
	got, err := CtlFlags("sasyncctl", "/run/s.sock", strings.Fields("-j show sa -v -s /tmp/s"), &stderr, "  show sa")
	if err != nil {
		t.Fatal(err)
	}
	got.Usage = ""
	want := ControlFlags{Socket: "/tmp/s", JSON: true, Verbose: 1, Args: []string{"show", "sa"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("flags (-want +got):\n%s", diff)
	}
	got, err = CtlFlags("sasyncctl", "/run/s.sock", strings.Fields("failover --dry-run -f -w 30"), &stderr, "")
	if err != nil || !got.DryRun || !got.Force || got.Wait != 30 {
		t.Errorf("%+v, %v", got, err)
	}
	for _, line := range []string{"-w x check", "-w"} {
		if _, err := CtlFlags("sasyncctl", "", strings.Fields(line), new(bytes.Buffer), ""); err == nil {
			t.Errorf("%q is accepted", line)
		}
	}
	if _, err := CtlFlags("carpctl", "", []string{"-f", "show"}, new(bytes.Buffer), ""); err == nil {
		t.Error("carpctl accepts -f")
	}
	if _, err := CtlFlags("sasyncctl", "/run/s.sock", nil, &stderr, "  show sa"); err == nil {
		t.Error("no command is accepted")
	}
	if want := "sasyncctl: a command is missing\nusage: sasyncctl [-afhjknvV] [-s socket] [-w seconds] command ...\n  " +
		"show sa\n"; stderr.String() != want {
		t.Errorf("standard error is %q, want %q", stderr.String(), want)
	}
}

func TestVersion(t *testing.T) {
	info := &debug.BuildInfo{GoVersion: "go1.26.0", Main: debug.Module{Version: "v1.2.3"},
		Settings: []debug.BuildSetting{
			{Key: "vcs.revision", Value: "0123456789abcdef0123"}, {Key: "vcs.time", Value: "2026-11-20T10:00:00Z"},
			{Key: "vcs.modified", Value: "true"},
		}}
	if got, want := describe("carpd", info),
		"carpd v1.2.3 0123456789ab+dirty 2026-11-20T10:00:00Z (go1.26.0 "; !strings.HasPrefix(got, want) {
		t.Errorf("version is %q, want it to begin with %q", got, want)
	}
	if got := describe("carpd", &debug.BuildInfo{GoVersion: "go1.26.0"}); !strings.HasPrefix(got,
		"carpd devel (go1.26.0 ") {
		t.Errorf("version of a plain build is %q", got)
	}
	if got := Version("carpd"); !strings.HasPrefix(got, "carpd ") {
		t.Errorf("version is %q", got)
	}
}

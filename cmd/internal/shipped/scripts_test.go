package shipped

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// played is one maintainer script of a format, as its program would run it.
type played struct {
	name, script, args, active string
	fail                       string // program that fails
	want                       string
}

// TestMaintainerScripts plays installation, upgrade and removal with programs
// that only say how they were called.
func TestMaintainerScripts(t *testing.T) {
	const first = "systemd-sysusers sasyncd.conf; chown carpd:carpd /etc/carpd.conf; systemctl daemon-reload; "
	const again = "systemctl restart sasyncd.service; sasyncctl check; carpctl freeze 15; " +
		"systemctl restart carpd.service"
	const gone = "systemctl --no-reload disable --now sasyncd.service sasyncd-privileged.socket; " +
		"systemctl --no-reload disable --now carpd.service; sasyncd guard-off; sasyncd guard-remove"
	for _, tt := range []played{
		{"first installation starts nothing", "deb/postinst", "configure ", "", "",
			first + "deb-systemd-invoke restart systemd-modules-load.service systemd-sysctl.service"},
		{"upgrade of a gateway", "deb/postinst", "configure 0.8", "sasyncd carpd", "",
			"systemd-sysusers sasyncd.conf; systemctl daemon-reload; deb-systemd-invoke restart sasyncd.service; " +
				"sasyncctl check; " +
				"carpctl freeze 15; deb-systemd-invoke restart carpd.service"},
		{"upgrade without running daemons", "deb/postinst", "configure 0.8", "", "",
			"systemd-sysusers sasyncd.conf; systemctl daemon-reload"},
		{"upgrade with a carpd that cannot be frozen", "deb/postinst", "configure 0.8", "carpd", "carpctl",
			"systemd-sysusers sasyncd.conf; systemctl daemon-reload; carpctl freeze 15"},
		{"before an upgrade", "deb/prerm", "upgrade 0.9", "sasyncd carpd", "", ""},
		{"removal", "deb/prerm", "remove", "sasyncd carpd", "",
			"deb-systemd-invoke stop sasyncd.service sasyncd-privileged.socket; deb-systemd-invoke stop " +
				"carpd.service; sasyncd guard-off; sasyncd guard-remove"},
		{"after an upgrade", "deb/postrm", "upgrade 0.9", "", "", "systemctl daemon-reload"},

		{"first installation starts nothing", "rpm/post", "1", "", "",
			first + "systemctl restart systemd-modules-load.service systemd-sysctl.service"},
		{"upgrade of a gateway", "rpm/post", "2", "sasyncd carpd", "", first + again},
		{"upgrade without running daemons", "rpm/post", "2", "", "", strings.TrimSuffix(first, "; ")},
		{"the old release goes in an upgrade", "rpm/preun", "1", "sasyncd carpd", "", ""},
		{"removal", "rpm/preun", "0", "sasyncd carpd", "", gone},
		{"after all", "rpm/postun", "0", "", "", "systemctl daemon-reload"},

		{"first installation starts nothing", "archlinux/post_install", "0.9", "", "",
			first + "systemctl restart systemd-modules-load.service systemd-sysctl.service"},
		{"upgrade of a gateway", "archlinux/post_upgrade", "0.9 0.8", "sasyncd carpd", "", first + again},
		{"removal", "archlinux/pre_remove", "0.9", "sasyncd carpd", "", gone},
		{"after all", "archlinux/post_remove", "0.9", "", "", "systemctl daemon-reload"},

		{"first installation starts nothing", "apk/post-install", "0.9", "", "",
			"addgroup -S carpd; adduser -S -D -H -h /var/lib/carpd -s /sbin/nologin -G carpd -g carpd carpd; " +
				"addgroup -S sasyncd; adduser -S -D -H -h /var/lib/sasyncd -s /sbin/nologin -G sasyncd -g sasyncd " +
				"sasyncd; addgroup sasyncd carpd"},
		{"upgrade of a gateway", "apk/post-upgrade", "0.9 0.8", "sasyncd carpd", "", "rc-service sasyncd restart; " +
			"sasyncctl check; carpctl freeze 15; rc-service carpd restart"},
		{"upgrade without running daemons", "apk/post-upgrade", "0.9 0.8", "", "", ""},
		{"removal", "apk/pre-deinstall", "0.9", "sasyncd carpd", "",
			"rc-service --ifstarted sasyncd stop; rc-update --all --quiet delete sasyncd; " +
				"rc-service --ifstarted carpd stop; rc-update --all --quiet delete carpd; " +
				"rc-update --all --quiet delete sasyncd-guard; rc-update --all --quiet delete carpd-fence; " +
				"sasyncd guard-off; sasyncd guard-remove"},
	} {
		t.Run(tt.script+"/"+tt.name, tt.play)
	}
}

// play runs a script on a machine with the programs of its distribution only.
func (tt played) play(t *testing.T) {
	dir := t.TempDir()
	log := filepath.Join(dir, "log")
	format := filepath.Dir(tt.script)
	programs := []string{"sasyncctl", "sasyncd", "carpctl", "sleep", "rm"}
	booted := dir
	switch format {
	case "apk":
		booted = filepath.Join(dir, "none")
		programs = append(programs, "rc-service", "rc-update", "addgroup", "adduser", "getent")
	case "deb":
		programs = append(programs, "deb-systemd-invoke", "deb-systemd-helper")
		fallthrough
	default:
		programs = append(programs, "systemd-sysusers", "chown", "systemctl")
	}
	for _, p := range programs {
		const head = "#!/bin/sh\n"
		say := "echo \"$(basename \"$0\") $*\" >>" + log + "\n"
		runs := func(arg string) string {
			return "case ' " + tt.active + " ' in *\" " + arg + " \"*) exit 0;; esac; exit 3; fi\n"
		}
		stub := head + say
		switch {
		case p == tt.fail:
			stub += "exit 1\n"
		case p == "getent":
			stub = head + "exit 2\n"
		case p == "systemctl":
			stub = head + "if [ \"$1\" = is-active ]; then " + runs("${3%.service}") + say
		case p == "rc-service":
			stub = head + "if [ \"$3\" = status ]; then " + runs("$2") + say
		}
		if err := os.WriteFile(filepath.Join(dir, p), []byte(stub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	here := strings.NewReplacer("/run/systemd/system", booted, "/usr/lib/sasyncd/restart",
		filepath.Join(dir, "restart"))
	text := here.Replace(read(t, "packages", tt.script))
	switch format {
	case "rpm":
		text = "#!/bin/sh\n" + text
	case "archlinux": // a function of .INSTALL, which pacman has bash read
		text = "#!/bin/bash\nfunction it() {\n" + text + "\n}\nit \"$@\"\n"
	}
	for name, text := range map[string]string{"script": text,
		"restart": here.Replace(read(t, "packages", "restart"))} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
		for _, word := range []string{"flush", "kill", "ip xfrm"} {
			if strings.Contains(text, word+" ") {
				t.Errorf("the script says %q", word)
			}
		}
	}
	cmd := exec.Command(filepath.Join(dir, "script"), strings.SplitN(tt.args, " ", 2)...)
	cmd.Env = []string{"PATH=" + dir + ":/usr/bin:/bin"}
	if format == "rpm" || format == "archlinux" {
		// Debian's programs may be on the machine that this runs on.
		hidden := filepath.Join(dir, "bin")
		if err := os.Mkdir(hidden, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, p := range []string{"sh", "bash", "basename"} {
			if err := os.Symlink("/bin/"+p, filepath.Join(hidden, p)); err != nil {
				t.Fatal(err)
			}
		}
		cmd.Env = []string{"PATH=" + dir + ":" + hidden}
	}
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	did, _ := os.ReadFile(log)
	if got := strings.Join(strings.Split(strings.TrimSpace(string(did)), "\n"), "; "); got != tt.want {
		t.Errorf("it did\n%s\nwant\n%s", got, tt.want)
	}
}

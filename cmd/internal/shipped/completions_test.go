package shipped

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sasyncd/cmd/sasyncctl/setup"
)

// programs are all four with the flags and commands that the code has.
func programs(t *testing.T) map[string][2]string {
	t.Helper()
	out := map[string][2]string{}
	for _, name := range []string{"sasyncd", "carpd", "sasyncctl", "carpctl"} {
		verbs := "fmt"
		if strings.HasSuffix(name, "ctl") {
			verbs = strings.Join(commands(t, name), " ")
		}
		if name == "carpd" {
			verbs = "cleanup fmt"
		}
		out[name] = [2]string{letters(usage(t, name)), verbs}
	}
	return out
}

func sorted(words []string) string {
	set := map[string]bool{}
	for _, w := range words {
		set[w] = true
	}
	return strings.Join(slices.Sorted(maps.Keys(set)), " ")
}

// all returns the first group of every match.
func all(pattern, text string) (out []string) {
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		out = append(out, m[1])
	}
	return out
}

// TestCompletions compares the completions of all shells with the flags and
// commands in the code.
func TestCompletions(t *testing.T) {
	for name, want := range programs(t) {
		bash := read(t, "completions/bash", name)
		zsh := read(t, "completions/zsh", "_"+name)
		fish := read(t, "completions/fish", name+".fish")
		for shell, got := range map[string][2][]string{
			"bash": {strings.Split(strings.Join(all(`(?:words=|-W )"((?:-\w ?)+)"`, bash), " "), " "),
				strings.Fields(strings.Join(all(`verbs="([^"]*)"`, bash), " "))},
			"zsh": {all(`'\*?(-\w)\[`, zsh), append(all(`(?m)^\t\t'([a-z]+):`, zsh), strings.Fields(strings.Join(
				all(`'1:command:\(([\w ]+)\)'`, zsh), " "))...)},
			"fish": {all(` -s (\w) `, fish), all(`__fish_use_subcommand -a (\w+) `, fish)},
		} {
			var flags strings.Builder
			for _, f := range got[0] {
				flags.WriteString("-" + strings.TrimPrefix(f, "-") + " ")
			}
			if letters(flags.String()) != want[0] {
				t.Errorf("%s completion of %s has the flags %s, the program %s", shell, name, letters(flags.String()),
					want[0])
			}
			if sorted(got[1]) != want[1] {
				t.Errorf("%s completion of %s has the commands %s, the program %s", shell, name, sorted(got[1]),
					want[1])
			}
		}
	}
}

// TestFlagsOfInit: completions and the man page have the long flags that init has.
func TestFlagsOfInit(t *testing.T) {
	want := sorted(setup.Flags())
	man := all(`(?m)^\.(?:It )?Fl -([a-z-]+)`, read(t, "man", "sasyncctl.8"))
	for i, f := range man {
		man[i] = "--" + f
	}
	fish := all(` -l ([a-z-]+)`, read(t, "completions/fish", "sasyncctl.fish"))
	fish = slices.DeleteFunc(fish, func(f string) bool { return f == "force" }) // of failover
	for i, f := range fish {
		fish[i] = "--" + f
	}
	for where, got := range map[string][]string{
		"bash": strings.Fields(strings.Join(all(`-W "(--dry-run [^"]*)"`, read(t, "completions/bash", "sasyncctl")),
			" ")),
		"zsh":      all(`'(--[a-z-]+)\[`, read(t, "completions/zsh", "_sasyncctl")),
		"fish":     fish,
		"man page": man,
	} {
		if got := sorted(got); got != want {
			t.Errorf("%s: init has the flags %s there, and %s in the program", where, got, want)
		}
	}
}

// TestCompletionSyntax has the shells read their files, those that are installed.
func TestCompletionSyntax(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		files, err := filepath.Glob(filepath.Join(deploy, "completions", shell, "*"))
		if err != nil || len(files) != 4 {
			t.Errorf("%s: files %v, error %v", shell, files, err)
		}
		path, err := exec.LookPath(shell)
		if err != nil {
			t.Logf("no %s here: its files are only compared with the code", shell)
			continue
		}
		for _, f := range files {
			if out, err := exec.Command(path, "-n", f).CombinedOutput(); err != nil || len(out) > 0 {
				t.Errorf("%s -n %s: %v\n%s", shell, f, err, out)
			}
		}
	}
}

// TestCompletionInBash completes command lines as bash does.
func TestCompletionInBash(t *testing.T) {
	dir := t.TempDir()
	for name, script := range map[string]string{
		"sasyncctl": `case "$*" in
*status) echo "fw1: node"; echo "group carp1: MASTER for 1h"; echo "group carp2: BACKUP for 1h" ;;
*peers) echo "PEER NODE"; echo "10.0.0.2  aaaa"; echo "fw3.example  bbbb"; echo "(fw4 10.0.0.4:500)  cccc" ;;
esac`,
		"carpctl": `echo "group ipsec: MASTER for 1h"; echo "  demoted by 5"`,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+script+"\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for line, want := range map[string]string{
		"sasyncctl ":                      "check diff doctor failover guard help init last peers reload resync show status top",
		"sasyncctl -j re":                 "reload resync",
		"sasyncctl -":                     "-V -a -f -h -j -k -n -s -v -w",
		"sasyncctl show ":                 "all flow sa",
		"sasyncctl -w 30 ch":              "check",
		"sasyncctl check -w ":             "",
		"sasyncctl -n failover ":          "carp1 carp2 to",
		"sasyncctl show sa ":              "",
		"sasyncctl help st":               "status",
		"sasyncctl init --outs":           "--outside --outside-vhid --outside-vip",
		"sasyncctl init --ike l":          "libreswan",
		"sasyncctl init 10.9.0.2 --own ":  "",
		"sasyncctl -s /run/x diff ":       "10.0.0.2 fw3.example",
		"sasyncctl resync fw":             "fw3.example",
		"sasyncctl last ":                 "carp1 carp2",
		"sasyncctl failover ":             "carp1 carp2 to",
		"sasyncctl failover carp1 ":       "to",
		"sasyncctl failover to ":          "10.0.0.2 fw3.example",
		"sasyncctl failover carp1 to fw3": "fw3.example",
		"carpctl d":                       "demote doctor",
		"carpctl demote ":                 "ipsec",
		"carpctl show ":                   "",
		"carpd c":                         "cleanup",
		"carpd -":                         "-V -c -d -h -n -v",
		"carpd ":                          "cleanup fmt",
		"sasyncd ":                        "fmt",
		"sasyncd fmt -w completions_":     "completions_test.go",
	} {
		words := strings.Split(line, " ")
		program := words[0]
		file, err := filepath.Abs(filepath.Join(deploy, "completions/bash", program))
		if err != nil {
			t.Fatal(err)
		}
		var array strings.Builder
		for _, w := range words {
			fmt.Fprintf(&array, "%q ", w)
		}
		script := fmt.Sprintf("source %q; COMP_WORDS=(%s); COMP_CWORD=%d; _%s; printf '%%s\\n' \"${COMPREPLY[@]}\"",
			file, array.String(), len(words)-1, program)
		cmd := exec.Command("bash", "-u", "-c", script)
		cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"))
		out, err := cmd.CombinedOutput()
		if got := sorted(strings.Fields(string(out))); err != nil || got != want {
			t.Errorf("%q completes to %q, want %q (%v)", line, got, want, err)
		}
	}
}

// TestCompletionInFish does the same with fish, where it is installed.
func TestCompletionInFish(t *testing.T) {
	fish, err := exec.LookPath("fish")
	if err != nil {
		t.Log("no fish here: its files are only compared with the code, by TestCompletions")
		return
	}
	for line, want := range map[string]string{
		"sasyncctl re":      "reload resync",
		"sasyncctl show ":   "all flow sa",
		"carpctl d":         "demote doctor",
		"carpd c":           "cleanup",
		"sasyncctl resync ": "10.0.0.2",
		"carpctl help d":    "demote doctor",
	} {
		program, _, _ := strings.Cut(line, " ")
		file, err := filepath.Abs(filepath.Join(deploy, "completions/fish", program+".fish"))
		if err != nil {
			t.Fatal(err)
		}
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "sasyncctl"),
			[]byte("#!/bin/sh\nprintf 'PEER  NODE\\n10.0.0.2  aaaa\\n'\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(fish, "--no-config", "-c", fmt.Sprintf("source %q; complete -C %q", file, line))
		cmd.Env = append(os.Environ(), "PATH="+dir+":"+os.Getenv("PATH"), "HOME="+dir)
		out, err := cmd.CombinedOutput()
		var words []string
		for l := range strings.Lines(string(out)) {
			w, _, _ := strings.Cut(strings.TrimSpace(l), "\t")
			words = append(words, w)
		}
		if got := sorted(words); err != nil || got != want {
			t.Errorf("%q completes to %q, want %q (%v)", line, got, want, err)
		}
	}
}

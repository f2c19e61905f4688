package conf

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// formatAny formats a file by the beginning of its name, with every keyword allowed.
func formatAny(name string, src []byte) (Formatted, error) {
	return format(name, src, func(src []byte) (*parser, textual, error) {
		if strings.HasPrefix(name, "carpd") {
			p := newParser(name, src, true, carpdKeywords)
			p.all = true
			c, err := parseCarpd(p, name)
			return p, c, err
		}
		p := newParser(name, src, false, sasyncdKeywords)
		p.all = true
		c, err := parseSasyncd(p, name)
		return p, c, err
	})
}

// formatted checks what holds for each file that is accepted: its normal form means the
// same and is its own normal form. It returns false if comments have no place.
func checkFormat(t *testing.T, name string, src []byte) bool {
	t.Helper()
	before, _, err := parseAny(name, src, true)
	if err != nil {
		t.Fatal(err)
	}
	once, err := formatAny(name, src)
	if err != nil {
		for _, e := range err.(Errors) {
			if e.Problem != "this comment is inside of a statement" || e.Pos.Line < 1 {
				t.Fatalf("not formatted: %v\n%s", err, src)
			}
		}
		return false
	}
	after, _, err := parseAny(name, once.Text, true)
	if err != nil {
		t.Fatalf("the normal form is refused: %v\n%s", err, once.Text)
	}
	if d := same(before, after); d != "" {
		t.Errorf("the normal form means something else (-before +after):\n%s\n%s", d, once.Text)
	}
	twice, err := formatAny(name, once.Text)
	if err != nil || string(twice.Text) != string(once.Text) {
		t.Errorf("formatting is not stable (%v):\n%s\nthen\n%s", err, once.Text, twice.Text)
	}
	if n, m := comments(t, name, src), comments(t, name, once.Text); n != m {
		t.Errorf("%d comments before and %d after:\n%s", n, m, once.Text)
	}
	return true
}

func comments(t *testing.T, name string, src []byte) int {
	t.Helper()
	var d diagnostics
	_, list := lex(name, src, strings.HasPrefix(name, "carpd"), &d)
	return len(list)
}

// TestFormatWhatThereIs formats all configurations that are installed, that pages
// show, and that other tests read.
func TestFormatWhatThereIs(t *testing.T) {
	n := 0
	for _, glob := range []string{"testdata/good/*.conf", "testdata/full/*.conf",
		"../../../deploy/examples/*/*.conf", "../../../deploy/examples/*/*/*.conf"} {
		paths, err := filepath.Glob(glob)
		if err != nil || len(paths) == 0 {
			t.Fatalf("%s: %v, %v", glob, paths, err)
		}
		for _, path := range paths {
			name := filepath.Base(path)
			if !strings.HasPrefix(name, "carpd") && !strings.HasPrefix(name, "sasyncd") {
				continue // of another program
			}
			src, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			n++
			t.Run(path, func(t *testing.T) { checkFormat(t, name, src) })
		}
	}
	pages, err := filepath.Glob("../../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range append(pages, "../../../README.md") {
		page, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []string{"carpd.conf", "sasyncd.conf"} {
			for i, part := range strings.Split(string(page), "```"+name+"\n") {
				if i == 0 {
					continue
				}
				src, _, _ := strings.Cut(part, "```")
				n++
				t.Run(path, func(t *testing.T) {
					if !checkFormat(t, name, []byte(src)) {
						t.Error("a comment of it has no place")
					}
				})
			}
		}
	}
	if n < 25 {
		t.Errorf("only %d configurations were found", n)
	}
}

func TestFormat(t *testing.T) {
	const key = "0x00112233445566778899aabbccddeeff"
	for name, tt := range map[string]struct{ file, in, out string }{
		"blocks, comments and blank lines": {"carpd.conf", `

# The pair of the
#  main office   
group   ipsec{require sasyncd;preempt "no"} # elects


vrrp outside { # to the provider
    carpdev eth0;  vrid 010  # ours
    address 2001:DB8::1   address 192.0.2.1/32

    # the others
    unicast 10.1.0.3 10.1.0.4
    group "ipsec"
    interval 1000ms
    # the end
}
track ping 10.1.0.9 group ipsec interval 60s # the switch
# done`, `# The pair of the
#  main office
group ipsec {
	require sasyncd
	preempt no
} # elects

vrrp outside { # to the provider
	carpdev eth0
	vrid 10 # ours
	address 2001:db8::1/128
	address 192.0.2.1/32

	# the others
	unicast { 10.1.0.3 10.1.0.4 }
	group ipsec
	interval 1s
	# the end
}
track ping 10.1.0.9 group ipsec interval 1m # the switch
# done
`},
		"comments in a list": {"carpd.conf", `vrrp x { carpdev eth0; vrid 1; address 192.0.2.1
	unicast { # both
	10.1.0.3 # third
	 10.1.0.4; 10.1.0.5 # more
	 # none

	 } # behind
	hops 2 }`, `vrrp x {
	carpdev eth0
	vrid 1
	address 192.0.2.1/32
	unicast { # both
		10.1.0.3 # third
		10.1.0.4
		10.1.0.5 # more
		# none
	} # behind
	hops 2
}
`},
		"a file of OpenBSD in one line": {"sasyncd.conf", "interface carp1 peer 10.0.0.2 GW3.example sharedkey " + key +
			" # all\nlisten on 10.0.0.1\\\n  port 500\nflushmode sync\n", "interface carp1\npeer 10.0.0.2 GW3.example\n" +
			"sharedkey " + key + " # all\nlisten on 10.0.0.1 port 500\nflushmode sync\n"},
	} {
		got, err := formatAny(tt.file, []byte(tt.in))
		if err != nil || string(got.Text) != tt.out {
			t.Errorf("%s: %v\n%s\nwant\n%s", name, err, got.Text, tt.out)
		}
		checkFormat(t, tt.file, []byte(tt.in))
	}
}

// TestFormatRefuses: a comment that would be lost or moved is named with its place, and
// so is what is wrong with a configuration.
func TestFormatRefuses(t *testing.T) {
	const rest = "\ninterface carp1\nsharedkey 0x00112233445566778899aabbccddeeff\n"
	for in, want := range map[string]string{
		"peer # the other\n  10.0.0.2" + rest: "f:1:6: this comment is inside of a statement, put it on a line before the " +
			"statement",
		"peers 10.0.0.2" + rest: "f:1:1: ",
	} {
		got, err := FormatSasyncd("f", []byte(in))
		if err == nil || !strings.HasPrefix(err.Error(), want) || got.Text != nil {
			t.Errorf("%q: %v, %q", in, err, got.Text)
		}
	}
	_, err := FormatCarpd("f", []byte("carp # a\n x { # b\n carpdev eth0; vhid # c\n 1; pass p\n; # d\n address 192.0.2.1 }"))
	if err == nil || strings.Count(err.Error(), "inside of a statement") != 2 || !strings.Contains(err.Error(), "f:3:") {
		t.Errorf("two of four comments are inside of statements: %v", err)
	}
}

// TestFormatHidesSecrets: what is for somebody to read has no secret in it, and what is
// for the file has each where it was.
func TestFormatHidesSecrets(t *testing.T) {
	const src = "carp x { carpdev eth0; vhid 1; pass \"hidden one\" # pass \"hidden two\"\n" +
		"# pass hidden3\n#\tkey 7 0xdeadbeefdeadbeefdeadbeefdeadbeef and hidden words\n" +
		"# key 1 file \"/etc/carpd.key\" passes\naddress 192.0.2.1 }\n"
	got, err := FormatCarpd("f", []byte(src))
	if err != nil {
		t.Fatal(err)
	}
	for what, text := range map[string]string{"normal form": string(got.Shown), "source": string(got.Source)} {
		for _, secret := range []string{"hidden one", "hidden two", "hidden3", "deadbeef"} {
			if strings.Contains(text, secret) {
				t.Errorf("the %s shows %q:\n%s", what, secret, text)
			}
		}
		for _, want := range []string{"pass <10-bytes>", "# pass <7-bytes>", "key 7 <16-bytes> and hidden words",
			"# key 1 file \"/etc/carpd.key\" passes"} {
			if !strings.Contains(text, want) {
				t.Errorf("the %s lacks %q:\n%s", what, want, text)
			}
		}
	}
	if !strings.Contains(string(got.Text), "\tpass \"hidden one\" # pass \"hidden two\"\n\t# pass hidden3\n") {
		t.Errorf("secrets have changed:\n%s", got.Text)
	}
}

func FuzzFormatSasyncd(f *testing.F) {
	seed(f, "sasyncd")
	f.Fuzz(func(t *testing.T, src []byte) { fuzzFormat(t, "sasyncd.conf", src) })
}

func FuzzFormatCarpd(f *testing.F) {
	seed(f, "carpd")
	f.Fuzz(func(t *testing.T, src []byte) { fuzzFormat(t, "carpd.conf", src) })
}

func fuzzFormat(t *testing.T, name string, src []byte) {
	if _, _, err := parseAny(name, src, true); err == nil {
		checkFormat(t, name, src)
	}
}

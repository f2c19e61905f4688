package jsondoc

import (
	"strings"
	"testing"
)

const sample = "## `thing`\n\n| field | type | |\n|---|---|---|\n| `name` | string | a |\n| `n`? | integer | b |\n| `list` | array | c |\n| `list[]` | object | c |\n| `list[].at` | time | c |\n" +
	"| `by` | map | d |\n| `by{}` | number | d |\n| `sub`? | `part` | e |\n\n## `part`\n\n| `ok` | boolean | f |\n"

// The checker must be able to fail.
func TestCheck(t *testing.T) {
	d, err := parse(sample)
	if err != nil {
		t.Fatal(err)
	}
	for raw, want := range map[string]string{
		`{"name":"x","list":[],"by":{}}`: "",
		`{"name":"x","n":18446744073709551615,"list":[{"at":"2026-01-02T03:04:05Z"}],"by":{"a":0.5},"sub":{"ok":true}}`: "",
		`{"list":[],"by":{}}`:                                    "name is missing",
		`{"name":"x","list":[],"by":{},"more":1}`:                "more is not documented",
		`{"name":5,"list":[],"by":{}}`:                           "name is not of type string",
		`{"name":"x","n":0.5,"list":[],"by":{}}`:                 "n is not of type integer",
		`{"name":"x","list":null,"by":{}}`:                       "list is not of type array",
		`{"name":"x","list":[{"at":"yesterday"}],"by":{}}`:       "list[].at is not of type time",
		`{"name":"x","list":[{}],"by":{}}`:                       "list[].at is missing",
		`{"name":"x","list":[],"by":{"a":"b"}}`:                  "by{} is not of type number",
		`{"name":"x","list":[],"by":{},"sub":{"ok":true,"x":1}}`: "x is not documented",
		`[]`:    "the answer is no object",
		`{} {}`: "more than one document",
	} {
		err := d.Check("thing", []byte(raw))
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", raw, err, want)
		}
	}
	if _, err := parse("## `a`\n| `x` | nonsense | |\n"); err == nil {
		t.Error("a type that is none is accepted")
	}
	if d.Check("nothing", []byte("{}")) == nil {
		t.Error("a section that is missing is no error")
	}
}

// Package jsondoc holds what the control programs print with -j against what
// docs/json.md says about it: strictly, in both directions.
package jsondoc

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"time"
)

// Doc is docs/json.md: fields by section.
type Doc map[string]Section

// Section describes one kind of answer.
type Section []Field

// Field is one line of a table.
type Field struct {
	Path     string // names joined by dots, [] for the entries of an array, {} for those of a map
	Type     string
	Optional bool
}

var (
	heading = regexp.MustCompile("^## `(.+)`$")
	row     = regexp.MustCompile("^\\| `([^`]+)`(\\?)? \\| ([^|]+) \\|")
)

// Types that a table may name; others are names of sections.
var types = []string{"string", "boolean", "integer", "number", "time", "object", "array", "map"}

// Read reads docs/json.md of this source tree.
func Read() (Doc, error) {
	_, file, _, _ := runtime.Caller(0)
	b, err := os.ReadFile(filepath.Join(filepath.Dir(file), "../../docs/json.md"))
	if err != nil {
		return nil, err
	}
	return parse(string(b))
}

func parse(text string) (Doc, error) {
	doc, name := Doc{}, ""
	for line := range strings.SplitSeq(text, "\n") {
		if m := heading.FindStringSubmatch(line); m != nil {
			name = m[1]
			doc[name] = Section{}
		} else if strings.HasPrefix(line, "## ") {
			name = ""
		}
		m := row.FindStringSubmatch(line)
		if m == nil || name == "" {
			continue
		}
		doc[name] = append(doc[name], Field{Path: m[1], Type: strings.Trim(strings.TrimSpace(m[3]), "`"),
			Optional: m[2] != ""})
	}
	for name, s := range doc {
		for _, f := range s {
			if _, ok := doc[f.Type]; !ok && !slices.Contains(types, f.Type) {
				return nil, fmt.Errorf("%s: %s is of type %q, which is neither a type nor a section", name, f.Path,
					f.Type)
			}
		}
	}
	return doc, nil
}

// Check compares one JSON document with a section: everything in it is documented
// and of the type that is documented, and everything documented is there unless it
// is optional.
func (d Doc) Check(section string, raw []byte) error {
	if _, ok := d[section]; !ok {
		return fmt.Errorf("docs/json.md has no section %q", section)
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return fmt.Errorf("%s: %w", section, err)
	}
	if dec.More() {
		return fmt.Errorf("%s: more than one document", section)
	}
	var wrong []string
	d.object(section, "", v, func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) })
	if len(wrong) > 0 {
		return fmt.Errorf("%s: %s", section, strings.Join(wrong, "; "))
	}
	return nil
}

// object checks the fields directly below a path.
func (d Doc) object(section, path string, v any, wrong func(string, ...any)) {
	o, ok := v.(map[string]any)
	if !ok {
		wrong("%s is no object", name(path))
		return
	}
	below := map[string]Field{}
	for _, f := range d[section] {
		rest, ok := strings.CutPrefix(f.Path, path)
		if ok && rest != "" && !strings.ContainsAny(rest, ".[{") {
			below[rest] = f
		}
	}
	for k, x := range o {
		f, ok := below[k]
		if !ok {
			wrong("%s%s is not documented", path, k)
			continue
		}
		d.value(section, path+k, f.Type, x, wrong)
	}
	for k, f := range below {
		if _, ok := o[k]; !ok && !f.Optional {
			wrong("%s%s is missing", path, k)
		}
	}
}

func (d Doc) value(section, path, typ string, v any, wrong func(string, ...any)) {
	ok := false
	switch x := v.(type) {
	case string:
		ok = typ == "string"
		if typ == "time" {
			_, err := time.Parse(time.RFC3339Nano, x)
			ok = err == nil
		}
	case bool:
		ok = typ == "boolean"
	case json.Number:
		_, err := x.Int64()
		ok = typ == "number" || typ == "integer" && (err == nil || !strings.ContainsAny(string(x), ".eE"))
	case []any:
		if ok = typ == "array"; ok {
			for _, e := range x {
				d.element(section, path+"[]", e, wrong)
			}
		}
	case map[string]any:
		switch {
		case typ == "object":
			ok = true
			d.object(section, path+".", x, wrong)
		case typ == "map":
			ok = true
			for _, e := range x {
				d.element(section, path+"{}", e, wrong)
			}
		case d[typ] != nil:
			ok = true
			d.object(typ, "", x, wrong)
		}
	}
	if !ok {
		wrong("%s is not of type %s", path, typ)
	}
}

// element checks an entry of an array or a map.
func (d Doc) element(section, path string, v any, wrong func(string, ...any)) {
	i := slices.IndexFunc(d[section], func(f Field) bool { return f.Path == path })
	if i < 0 {
		wrong("%s is not documented", path)
		return
	}
	d.value(section, path, d[section][i].Type, v, wrong)
}

func name(path string) string {
	if path == "" {
		return "the answer"
	}
	return strings.TrimSuffix(path, ".")
}

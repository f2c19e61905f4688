package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"sasyncd/carp/api"
)

// plain turns the state that carpd's socket tells into what -j prints: durations
// in seconds and states as sasyncctl spells them. The socket keeps milliseconds and
// small letters, since programs of other releases speak it. The fields in
// milliseconds stay beside those in seconds for one release.
func plain(s status) (any, error) {
	b, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.UseNumber() // terms may need all of 64 bits
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, fmt.Errorf("read the state of carpd: %w", err)
	}
	return v, spell(v)
}

// spell changes v in place, at any depth.
func spell(v any) error {
	switch v := v.(type) {
	case []any:
		for _, x := range v {
			if err := spell(x); err != nil {
				return err
			}
		}
	case map[string]any:
		seconds := make(map[string]any)
		for k, x := range v {
			n, number := x.(json.Number)
			text, isText := x.(string)
			name, ms := strings.CutSuffix(k, "_ms")
			switch {
			case ms && number:
				i, err := n.Int64()
				if err != nil {
					return fmt.Errorf("%s: %w", k, err)
				}
				seconds[name+"_seconds"] = float64(i) / 1000
				if i < 0 && name == "predicted_outage" {
					seconds[name+"_seconds"] = -1
				}
			case k == "state" && isText && (text == api.StateInit || text == api.StateBackup ||
				text == api.StateMaster):
				v[k] = strings.ToUpper(text)
			default:
				if err := spell(x); err != nil {
					return err
				}
			}
		}
		for k, x := range seconds {
			v[k] = x
		}
	}
	return nil
}

// Command generate takes results from the output of drills on standard input
// into docs/reliability.json, and renders docs/reliability.md. It is run in the
// root of the repository, by make reliability.
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"sasyncd/tests/reliability"
)

const (
	store = "docs/reliability.json"
	page  = "docs/reliability.md"
)

func main() {
	if err := generate(); err != nil {
		fmt.Fprintln(os.Stderr, "generate:", err)
		os.Exit(1)
	}
}

func generate() error {
	var r reliability.Results
	b, err := os.ReadFile(store)
	if err == nil {
		err = json.Unmarshal(b, &r)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read %s: %w", store, err)
	}
	if err := r.Add(os.Stdin); err != nil {
		return err
	}
	if b, err = json.MarshalIndent(r, "", " "); err != nil {
		return fmt.Errorf("write %s: %w", store, err)
	}
	if err := os.WriteFile(store, append(b, '\n'), 0o644); err != nil {
		return err
	}
	var out bytes.Buffer
	if err := r.Render(&out); err != nil {
		return err
	}
	return os.WriteFile(page, out.Bytes(), 0o644)
}

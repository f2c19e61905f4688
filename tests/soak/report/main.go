// Command report makes docs/soak.md and docs/soak.svg of what a soak run wrote:
//
//	report RUN.json DIRECTORY
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"

	"sasyncd/tests/soak/soakdata"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: report RUN.json DIRECTORY")
		os.Exit(2)
	}
	if err := report(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
		os.Exit(1)
	}
}

func report(from, to string) error {
	b, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	var run soakdata.Run
	if err := json.Unmarshal(b, &run); err != nil {
		return fmt.Errorf("read %s: %w", from, err)
	}
	if len(run.Samples) == 0 {
		return fmt.Errorf("%s has no samples", from)
	}
	if err := os.WriteFile(filepath.Join(to, "soak.svg"), picture(&run), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(to, "soak.md"), page(&run), 0o644)
}

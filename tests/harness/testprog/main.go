// Testprog is a program that runs in the harness, to test how the harness
// starts and ends one. Its first argument says what to do.
package main

import (
	"fmt"
	"os"
	"strings"
	"time"

	"sasyncd/tests/harness"
)

func main() {
	if len(os.Args) > 2 && os.Args[1] == "print" { // without the harness
		fmt.Println(os.Args[2])
		return
	}
	limit := 30 * time.Second
	if len(os.Args) > 1 && os.Args[1] == "overrun" {
		limit = 4 * time.Second
	}
	os.Exit(harness.BootOrRun(run, harness.Timeout(limit), harness.Memory(128<<20)))
}

func run() int {
	fmt.Println("started")
	switch os.Args[1] {
	case "exit":
		fmt.Fprintln(os.Stderr, "to stderr")
		return 7
	case "flood":
		fmt.Print(strings.Repeat("0123456789abcde\n", 50_000))
	case "panic":
		panic("on purpose")
	case "keep":
		if err := os.WriteFile(harness.ArtifactDir()+"/kept", []byte("artifact"), 0o600); err != nil {
			panic(err)
		}
	case "hang", "overrun":
		select {}
	}
	return 0
}

// Command run is the gate before a release: it runs the gates of package gate one
// after the other, in the root of a clean checkout, and keeps what came of each in
// docs/drills.json and docs/drills.md. "make gate" starts it.
//
//	run [-continue] [NAME...]   all gates, or those that are named
//	run -page                   only makes docs/drills.md
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"sasyncd/tests/gate"
)

func main() {
	goOn := flag.Bool("continue", false, "leave out what has passed at this commit")
	pageOnly := flag.Bool("page", false, "make "+gate.Page+" of "+gate.Store+", and run nothing")
	flag.Parse()
	r := &runner{dir: ".", list: gate.List, out: os.Stdout, now: time.Now}
	var err error
	if *pageOnly {
		err = r.page()
	} else {
		stop := []os.Signal{os.Interrupt, syscall.SIGTERM}
		// nohup(1) lets a run outlive its terminal.
		if !signal.Ignored(syscall.SIGHUP) {
			stop = append(stop, syscall.SIGHUP)
		}
		ctx, cancel := signal.NotifyContext(context.Background(), stop...)
		err = r.run(ctx, flag.Args(), *goOn)
		cancel()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gate:", err)
		os.Exit(1)
	}
}

// page makes the page of the results that the checkout holds.
func (r *runner) page() error {
	results, err := load(r.path(gate.Store))
	if err != nil {
		return err
	}
	if len(results.Runs) > 0 {
		complete(checkout{r.dir}, results)
		b, err := results.Encode(r.list)
		if err != nil {
			return err
		}
		if err := writeFile(r.path(gate.Store), b, 0o644); err != nil {
			return err
		}
	}
	return writePage(r.dir, r.list, results)
}

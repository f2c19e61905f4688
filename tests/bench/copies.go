package main

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strings"
	"time"

	"sasyncd/sync/sadb/sadbtest"
	"sasyncd/tests/bench/result"
	"sasyncd/tests/cluster"
	"sasyncd/tests/harness/lab"
)

// copied is how many SAs are copied by hand. Of one process each there are
// fewer, and the time is that for as many.
const (
	copied = 3000
	single = 300
)

// commands are the lines of ip(8) that add SAs.
func commands(r *rand.Rand, n int) []string {
	list := make([]string, n)
	for i := range list {
		list[i] = fmt.Sprintf("xfrm state add src %s dst %s proto esp spi %#x reqid %d mode tunnel aead "+
			"rfc4106(gcm(aes)) 0x%x 128 replay-window 128 flag esn",
			sadbtest.Addr4(r), sadbtest.Addr4(r), 0x1000+r.Uint32N(1<<31), 1+r.Uint32N(1<<30), sadbtest.Bytes(r, 20))
	}
	return list
}

// stopwatch runs a command in a node, with what it reads, and returns how long it took.
func stopwatch(t lab.T, nd *cluster.Node, stdin string, args ...string) time.Duration {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	var stderr bytes.Buffer
	cmd.Stdin, cmd.Stderr = strings.NewReader(stdin), &stderr
	began := time.Now()
	err := nd.Node.Start(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		t.Fatalf("%s: %v\n%s", args[0], err, stderr.String())
	}
	return time.Since(began)
}

// copies: an SAD by the tools that there are, beside a snapshot of ours. The
// tools only write: what reads the SAs, makes lines of them and carries keys to
// the other side safely is not counted. Nor do they copy numbers and ages.
func copies(t lab.T) []result.Line {
	c := cluster.New(t, 2, 1)
	m, s := c.Master(), c.Nodes[1]
	lines := commands(newRand(), copied)
	all := strings.Join(lines, "\n") + "\n"
	flush := flusher(s)
	m.IP(lines...)
	m.Start()
	var ours, batch []time.Duration
	for range rounds {
		flush()
		batch = append(batch, stopwatch(t, s, all, "ip", "-batch", "-"))
		flush()
		ours = append(ours, complete(t, m, s))
		c.WaitEqual(cluster.SyncLimit, s)
		s.Stop()
	}
	flush()
	script := "ip " + strings.Join(lines[:single], "\nip ") + "\n"
	script = strings.NewReplacer("(", `\(`, ")", `\)`).Replace(script)
	each := stopwatch(t, s, script, "sh", "-e") * copied / single
	mine := median(ours)
	line := func(how string, d time.Duration, note string) result.Line {
		return result.Line{What: fmt.Sprintf("copy of %d SAs: our snapshot beside %s", copied, how), Figure: ms(mine),
			Floor: ms(d),
			Ratio: float64(d) / float64(mine), Verdict: result.Beside, Note: note}
	}
	return []result.Line{
		line("`ip -batch`", median(batch), "the ratio says how many times longer the peer takes; it only adds what "+
			"was written down before, without the way there, sequence numbers and ages"),
		line("one `ip` for each SA", each, fmt.Sprintf("measured for %d SAs by one shell, and multiplied", single)),
	}
}

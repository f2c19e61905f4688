package daemon

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzControlRequest: any line is answered, or refused with a code.
func FuzzControlRequest(f *testing.F) {
	f.Add(`{"verb":"show","args":{"what":"sa"}}`)
	f.Add(`{"verb":"show","args":[1`)
	s := NewControlServer("/unused", slog.New(slog.DiscardHandler),
		map[string]Verb{"show": {Handle: func(_ context.Context, call *Call) error {
			var a struct{ What string }
			if err := call.Decode(&a); err != nil {
				return err
			}
			return call.Send(a)
		}}})
	f.Fuzz(func(t *testing.T, line string) {
		err := s.answer(t.Context(), []byte(line), Peer{}, func(r response) error {
			b, err := encode(r)
			if err != nil || strings.Count(string(b), "\n") != 1 {
				t.Errorf("answer %q, %v", b, err)
			}
			return nil
		})
		if ce, ok := err.(*CallError); err != nil && (!ok || ce.Code == "" || ce.Message == "") {
			t.Errorf("refused with %v", err)
		}
	})
}

// FuzzControlAnswer: a client bears whatever the other end of the socket says.
func FuzzControlAnswer(f *testing.F) {
	f.Add("{\"data\":{\"n\":1}}\n{\"ok\":true}\n")
	f.Add("{\"error\":\"no\",\"code\":\"failed\"}\n")
	f.Fuzz(func(t *testing.T, answer string) {
		here, there := net.Pipe()
		go func() {
			_, _ = bufio.NewReader(there).ReadString('\n')
			_, _ = io.WriteString(there, answer)
			there.Close()
		}()
		c := &ControlClient{conn: here, sc: bufio.NewScanner(here)}
		defer c.Close()
		_ = c.Call(t.Context(), "show", nil, func(d json.RawMessage) error {
			if len(d) > 0 && !json.Valid(d) {
				t.Errorf("passed on %q", d)
			}
			return nil
		})
	})
}

// FuzzState: whatever the files of the state directory have become, the daemon
// starts, with an id, and remembers terms from then on.
func FuzzState(f *testing.F) {
	f.Add("7 \"ipsec\"\n", "00112233445566778899aabbccddeeff\n", "3\n")
	f.Add("18446744073709551615 \"ipsec\"\n", "0", "-1")
	f.Fuzz(func(t *testing.T, terms, id, starts string) {
		dir := t.TempDir()
		for name, content := range map[string]string{"terms": terms, "node-id": id, "carpd.starts": starts} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		s := OpenState(dir, "carpd", slog.New(slog.DiscardHandler))
		if s.NodeID() == [16]byte{} || s.Start() == 0 {
			t.Error("no node id or no start")
		}
		next := s.Term("ipsec") + 1
		if next == 0 || next > maxTerm+1 {
			t.Fatalf("the next term is %d", next)
		}
		s.SetTerm("ipsec", min(next, maxTerm))
		if again := OpenState(dir, "carpd", slog.New(slog.DiscardHandler)); again.Term("ipsec") != min(next, maxTerm) ||
			again.NodeID() != s.NodeID() {
			t.Errorf("the term is %d, want %d", again.Term("ipsec"), next)
		}
	})
}

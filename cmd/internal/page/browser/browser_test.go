package browser

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// browser is a headless Chromium that is driven over its debugging pipe.
type browser struct {
	t       *testing.T
	out     *os.File
	in      *bufio.Reader
	next    int
	session string
}

type reply struct {
	ID     int
	Method string
	Result json.RawMessage
	Error  *struct{ Message string }
}

// browse starts Chromium without contact to anything but what the page loads.
func browse(t *testing.T) *browser {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatal("chromium is needed to look at the page: apt-get install chromium")
	}
	toRead, toWrite, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	fromRead, fromWrite, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	cmd := exec.CommandContext(ctx, path, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
		"--disable-background-networking",
		"--disable-sync", "--disable-component-update", "--disable-dev-shm-usage", "--remote-debugging-pipe",
		"--user-data-dir="+t.TempDir(), "about:blank")
	cmd.ExtraFiles = []*os.File{toRead, fromWrite} // descriptors 3 and 4
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	toRead.Close()
	fromWrite.Close()
	b := &browser{t: t, out: toWrite, in: bufio.NewReader(fromRead)}
	t.Cleanup(func() {
		b.send("", "Browser.close", nil)
		_ = cmd.Wait() // its exit code says nothing about the page
		cancel()
		toWrite.Close()
		fromRead.Close()
	})
	return b
}

func (b *browser) send(session, method string, params any) int {
	b.next++
	m := map[string]any{"id": b.next, "method": method}
	if params != nil {
		m["params"] = params
	}
	if session != "" {
		m["sessionId"] = session
	}
	text, err := json.Marshal(m)
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.out.Write(append(text, 0)); err != nil {
		b.t.Fatalf("speak to chromium: %v", err)
	}
	return b.next
}

// call carries out a command and returns its result.
func (b *browser) call(method string, params, into any) {
	b.t.Helper()
	id := b.send(b.session, method, params)
	for {
		text, err := b.in.ReadBytes(0)
		if err != nil {
			b.t.Fatalf("%s: chromium has ended: %v", method, err)
		}
		var r reply
		if err := json.Unmarshal(text[:len(text)-1], &r); err != nil {
			b.t.Fatal(err)
		}
		if r.ID != id {
			continue
		}
		if r.Error != nil {
			b.t.Fatalf("%s: %s", method, r.Error.Message)
		}
		if into != nil {
			if err := json.Unmarshal(r.Result, into); err != nil {
				b.t.Fatal(err)
			}
		}
		return
	}
}

// open shows a page in a window of a size, in light or dark colours.
func (b *browser) open(url string, width, height int, scheme string) {
	b.t.Helper()
	var target struct{ TargetID, SessionID string }
	b.session = ""
	b.call("Target.createTarget", map[string]any{"url": "about:blank"}, &target)
	b.call("Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &target)
	b.session = target.SessionID
	b.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": width, "height": height,
		"deviceScaleFactor": 1, "mobile": width < 600}, nil)
	b.call("Emulation.setEmulatedMedia", map[string]any{"features": []map[string]string{{"name": "prefers-color-scheme",
		"value": scheme}}}, nil)
	b.call("Page.navigate", map[string]any{"url": url}, nil)
}

// eval returns what an expression of JavaScript yields, as JSON.
func (b *browser) eval(expression string, into any) {
	b.t.Helper()
	var r struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails *struct{ Text string }
	}
	b.call("Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true}, &r)
	if r.ExceptionDetails != nil {
		b.t.Fatalf("%s: %s", expression, r.ExceptionDetails.Text)
	}
	if err := json.Unmarshal(r.Result.Value, into); err != nil {
		b.t.Fatalf("%s: %v in %s", expression, err, r.Result.Value)
	}
}

// text returns the texts of the elements that a selector finds.
func (b *browser) text(selector string) (out []string) {
	b.t.Helper()
	b.eval(fmt.Sprintf("[...document.querySelectorAll(%q)].map(e => e.textContent)", selector), &out)
	return out
}

// wants waits until an element with this text is there.
func (b *browser) wants(selector, text string) {
	b.t.Helper()
	deadline := time.Now().Add(20 * time.Second)
	for {
		found := b.text(selector)
		for _, s := range found {
			if strings.Contains(s, text) {
				return
			}
		}
		if time.Now().After(deadline) {
			b.t.Errorf("no %s has %q, there is %q", selector, text, found)
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
}

// shoot keeps a picture in the directory that SCREENSHOTS names, if any.
func (b *browser) shoot(name string) {
	b.t.Helper()
	var r struct{ Data string }
	b.call("Page.captureScreenshot", map[string]any{"captureBeyondViewport": true}, &r)
	png, err := base64.StdEncoding.DecodeString(r.Data)
	if err != nil || len(png) < 1000 {
		b.t.Fatalf("screenshot of %d bytes, %v", len(png), err)
	}
	if dir := os.Getenv("SCREENSHOTS"); dir != "" {
		if err := os.WriteFile(dir+"/"+name+".png", png, 0o644); err != nil {
			b.t.Fatal(err)
		}
	}
}

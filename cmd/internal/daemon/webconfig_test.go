package daemon

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/crypto/bcrypt"

	"sasyncd/kernel/trusted/trustedtest"
)

// certificate writes a certificate for 127.0.0.1 and its key to dir, and returns the
// pool that trusts it.
func certificate(t *testing.T, dir string) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	c := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "gw1"},
		NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}}
	der, err := x509.CreateCertificate(rand.Reader, c, c, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for name, text := range map[string][]byte{"gw1.pem": cert,
		"gw1.key": pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})} {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(cert)
	return pool
}

// TestWebConfig: with a web configuration metrics are served over TLS only, to who has
// the password; other protections stay. A password that changes counts at once.
func TestWebConfig(t *testing.T) {
	dir, err := trustedtest.Make()
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	pool := certificate(t, dir)
	path := filepath.Join(dir, "web.yml")
	write := func(password string) {
		t.Helper()
		hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
		if err != nil {
			t.Fatal(err)
		}
		text := "tls_server_config:\n  cert_file: gw1.pem\n  key_file: gw1.key\nbasic_auth_users:\n  prometheus: " +
			string(hash) + "\n"
		if err := os.WriteFile(path, []byte(text), 0o640); err != nil {
			t.Fatal(err)
		}
	}
	write("right one")
	var log bytes.Buffer
	w := NewWeb(netip.MustParseAddrPort("127.0.0.1:0"), NewLogger(&log, false, 0), prometheus.NewRegistry(),
		func() error { return nil }, func() error { return nil })
	w.Config = path
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- w.Run(ctx) }()
	host := (<-w.bound).String()
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
	ask := func(url, user, password string) int {
		t.Helper()
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if user != "" {
			req.SetBasicAuth(user, password)
		}
		if strings.HasSuffix(url, "#foreign") {
			req.Host = "elsewhere.example"
		}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		_, _ = io.Copy(io.Discard, resp.Body)
		return resp.StatusCode
	}
	for _, tt := range []struct {
		what, url, user, password string
		want                      int
	}{
		{"the right password", "https://" + host + "/metrics", "prometheus", "right one", http.StatusOK},
		{"a wrong password", "https://" + host + "/metrics", "prometheus", "wrong one", http.StatusUnauthorized},
		{"another user", "https://" + host + "/metrics", "root", "right one", http.StatusUnauthorized},
		{"no password", "https://" + host + "/metrics", "", "", http.StatusUnauthorized},
		{"no password for health", "https://" + host + "/healthz", "", "", http.StatusUnauthorized},
		{"no TLS", "http://" + host + "/metrics", "prometheus", "right one", http.StatusBadRequest},
		{"another host", "https://" + host + "/metrics#foreign", "prometheus", "right one", http.StatusForbidden},
	} {
		if got := ask(tt.url, tt.user, tt.password); got != tt.want {
			t.Errorf("%s: status %d, want %d", tt.what, got, tt.want)
		}
	}
	write("new one")
	if got := ask("https://"+host+"/metrics", "prometheus", "right one"); got != http.StatusUnauthorized {
		t.Errorf("the old password after a change: status %d", got)
	}
	if got := ask("https://"+host+"/metrics", "prometheus", "new one"); got != http.StatusOK {
		t.Errorf("the new password: status %d", got)
	}
	cancel()
	if err := <-result; err != nil {
		t.Errorf("at the end: %v", err)
	}
	if strings.Contains(log.String(), "one") || strings.Contains(log.String(), "$2a$") {
		t.Errorf("the log has a password or its hash: %s", &log)
	}
}

// TestWebConfigThatIsWrong: nobody is served, and the daemon goes on.
func TestWebConfigThatIsWrong(t *testing.T) {
	dir, err := trustedtest.Make()
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "web.yml")
	for text, mode := range map[string]os.FileMode{"tls_server_config:\n  cert_file: none.pem\n": 0o600,
		"basic_auth_users:\n  a: plain\n": 0o600, "nonsense: 1\n": 0o600, "{}\n": 0o644} {
		if err := os.WriteFile(path, []byte(text), mode); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		if err := CheckWeb(path); err == nil {
			t.Errorf("%q, mode %o: accepted", text, mode)
		}
	}
	if err := CheckWeb(filepath.Join(dir, "absent.yml")); err == nil {
		t.Error("a file that is not there is accepted")
	}
	w := NewWeb(netip.MustParseAddrPort("127.0.0.1:0"), slog.New(slog.DiscardHandler), prometheus.NewRegistry(),
		func() error { return nil }, func() error { return nil })
	w.Config = path
	ctx, cancel := context.WithCancel(t.Context())
	result := make(chan error, 1)
	go func() { result <- w.Run(ctx) }()
	conn, err := net.Dial("tcp", (<-w.bound).String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, "GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	cancel() // its end closes what nobody has accepted
	if err := <-result; err != nil {
		t.Errorf("at the end: %v", err)
	}
	if b, _ := io.ReadAll(conn); len(b) > 0 {
		t.Errorf("somebody was served: %q", b)
	}
}

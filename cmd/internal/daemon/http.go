package daemon

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/exporter-toolkit/web"
	"golang.org/x/sys/unix"

	"sasyncd/kernel/trusted"
)

// retryListen is how often an address that is in use is tried again.
const retryListen = 5 * time.Second

// Web is the listener for metrics and health: read-only, /metrics, /healthz and
// /readyz, and pages that the daemon adds. It answers GET and HEAD only, and
// only to a Host that is an address, localhost, or a name of this machine, so
// that a web page elsewhere cannot read it through a visitor's browser (DNS
// rebinding). TLS and authentication are those of Config; without it, off loopback it
// warns.
type Web struct {
	// Config is a web configuration as Prometheus' exporters have it: TLS, certificates
	// of clients, users with passwords. It is read again for each connection. "": plain
	// HTTP for everybody. It must not change once Run is called.
	Config string

	addr    netip.AddrPort
	log     *slog.Logger
	mux     *http.ServeMux
	names   []string
	ready   chan struct{}
	bound   chan netip.AddrPort
	handler http.Handler

	// Refused counts what was turned away.
	Refused Refusals
}

// Check says what is wrong: nil is fine.
type Check func() error

// NewWeb returns the listener on addr. healthy is asked for /healthz (does the
// daemon make progress), ready for /readyz (would it serve now).
func NewWeb(addr netip.AddrPort, log *slog.Logger, metrics prometheus.Gatherer, healthy, ready Check) *Web {
	w := &Web{addr: addr, log: log, mux: http.NewServeMux(), names: []string{"localhost"},
		ready: make(chan struct{}), bound: make(chan netip.AddrPort, 1)}
	if name, err := os.Hostname(); err == nil {
		w.names = append(w.names, strings.ToLower(name))
	}
	w.mux.Handle("/metrics", promhttp.HandlerFor(prometheus.GathererFunc(recently(metrics.Gather)),
		promhttp.HandlerOpts{ErrorHandling: promhttp.ContinueOnError, ErrorLog: webErrors{log}}))
	w.mux.Handle("/healthz", answer(healthy))
	w.mux.Handle("/readyz", answer(ready))
	w.handler = w.guard(w.mux)
	return w
}

// Handle adds a page. It must be called before Run.
func (w *Web) Handle(pattern string, h http.Handler) { w.mux.Handle(pattern, h) }

// Ready is closed at once: a daemon must not wait for its metrics.
func (w *Web) Ready() <-chan struct{} { return w.ready }

// String names the task.
func (w *Web) String() string { return "metrics listener" }

// Run serves until ctx ends. An address that is in use is tried again: a gateway
// without metrics is better than none.
func (w *Web) Run(ctx context.Context) error {
	close(w.ready)
	if !w.addr.Addr().IsLoopback() && w.Config == "" {
		w.log.Warn("metrics are readable by everyone who reaches the address", "address", w.addr)
	}
	ln, err := w.listen(ctx)
	if err != nil {
		return err
	}
	w.bound <- ln.Addr().(*net.TCPAddr).AddrPort()
	open := newPlaces(ln, &w.Refused)
	srv := &http.Server{
		Handler: serving(w.handler), ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 10 * time.Second,
		WriteTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
		ConnContext: open.remember, ErrorLog: slog.NewLogLogger(w.log.Handler(), slog.LevelDebug),
	}
	stop := context.AfterFunc(ctx, func() { srv.Close() })
	defer stop()
	if err := w.serve(ctx, open, srv); ctx.Err() == nil || !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve metrics: %w", err)
	}
	return nil
}

// serve serves with TLS and authentication where there is a configuration of it. While
// that is wrong nobody is served.
func (w *Web) serve(ctx context.Context, ln net.Listener, srv *http.Server) error {
	if w.Config == "" {
		return srv.Serve(ln)
	}
	for warned := false; ; warned = true {
		err := CheckWeb(w.Config)
		if err == nil {
			break
		}
		if !warned {
			w.log.Error("metrics are not served until the web configuration is right", "err", err)
		}
		select {
		case <-ctx.Done():
			return errors.Join(http.ErrServerClosed, ln.Close())
		case <-time.After(retryListen):
		}
	}
	return web.Serve(ln, srv, &web.FlagConfig{WebConfigFile: &w.Config}, quietly(w.log))
}

// quietly has what the library says of its start at a lower level.
func quietly(log *slog.Logger) *slog.Logger { return slog.New(quiet{log.Handler()}) }

type quiet struct{ slog.Handler }

// Handle implements slog.Handler.
func (q quiet) Handle(ctx context.Context, r slog.Record) error {
	if r.Level == slog.LevelInfo {
		if r.Level = slog.LevelDebug; !q.Enabled(ctx, r.Level) {
			return nil
		}
	}
	return q.Handler.Handle(ctx, r)
}

// CheckWeb says what is wrong with a web configuration, nil if nothing. It must be a
// file that others can neither change nor read, as it has the hashes of passwords.
func CheckWeb(path string) error {
	f, err := trusted.For(os.Geteuid()).Open(path)
	if err != nil {
		return err
	}
	st, err := f.Stat()
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if st.Mode().Perm()&0o027 != 0 {
		return fmt.Errorf("%s: its mode %04o gives access to others, set it with chmod 640", path, st.Mode().Perm())
	}
	if err := web.Validate(path); err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return nil
}

// listen binds the address, whether or not this machine has it yet (freebind).
func (w *Web) listen(ctx context.Context) (net.Listener, error) {
	lc := net.ListenConfig{Control: func(network, _ string, c syscall.RawConn) error {
		var opt error
		err := c.Control(func(fd uintptr) {
			if network == "tcp6" {
				opt = unix.SetsockoptInt(int(fd), unix.SOL_IPV6, unix.IPV6_FREEBIND, 1)
			} else {
				opt = unix.SetsockoptInt(int(fd), unix.SOL_IP, unix.IP_FREEBIND, 1)
			}
		})
		return errors.Join(err, opt)
	}}
	for warned := false; ; {
		ln, err := lc.Listen(ctx, "tcp", w.addr.String())
		if err == nil {
			w.log.Debug("metrics listener bound", "address", ln.Addr())
			return ln, nil
		}
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if !warned {
			w.log.Error("listen for metrics, trying again", "address", w.addr, "err", err)
			warned = true
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(retryListen):
		}
	}
}

// guard refuses what does not only read, and foreign hosts.
func (w *Web) guard(next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		h := rw.Header()
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("X-Frame-Options", "DENY")
		h.Set("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'") // the page has its own
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		switch {
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			w.Refused.add(refusedDenied)
			h.Set("Allow", "GET, HEAD")
			http.Error(rw, "only GET and HEAD are answered", http.StatusMethodNotAllowed)
		case !w.allowed(r.Host):
			w.Refused.add(refusedDenied)
			http.Error(rw, "the Host header names another machine", http.StatusForbidden)
		default:
			next.ServeHTTP(rw, r)
		}
	})
}

func (w *Web) allowed(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	return slices.Contains(w.names, strings.ToLower(strings.TrimSuffix(host, ".")))
}

func answer(check Check) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		rw.Header().Set("Content-Type", "text/plain; charset=utf-8")
		if err := check(); err != nil {
			rw.WriteHeader(http.StatusServiceUnavailable)
			fmt.Fprintln(rw, err)
			return
		}
		fmt.Fprintln(rw, "ok")
	})
}

// webErrors logs what promhttp complains about.
type webErrors struct{ log *slog.Logger }

func (e webErrors) Println(v ...any) {
	e.log.Error("gather metrics", "err", strings.TrimSpace(fmt.Sprintln(v...)))
}

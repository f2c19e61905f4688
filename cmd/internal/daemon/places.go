package daemon

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"
)

// maxWebClients bounds the connections of the metrics listener. A Prometheus
// needs one, a browser six.
const maxWebClients = 64

// places bounds the connections of a web server. When all are taken, a new one
// gets that of the one that has waited longest with no whole request: slow
// senders cost neither memory without bound nor a scrape.
type places struct {
	net.Listener
	refused *Refusals

	mu   sync.Mutex
	open map[net.Conn]*client
}

func newPlaces(ln net.Listener, refused *Refusals) *places {
	return &places{Listener: ln, refused: refused, open: map[net.Conn]*client{}}
}

// Accept implements net.Listener.
func (p *places) Accept() (net.Conn, error) {
	for {
		c, err := p.Listener.Accept()
		if err != nil {
			return nil, err // net/http tries again after those that pass
		}
		if p.take(c) {
			return &placed{c, p}, nil
		}
		c.Close()
	}
}

func (p *places) take(c net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.open) >= maxWebClients {
		p.refused.add(refusedBusy)
		var idlest net.Conn
		for x, s := range p.open {
			if !s.busy && (idlest == nil || s.since.Before(p.open[idlest].since)) {
				idlest = x
			}
		}
		if idlest == nil {
			return false
		}
		delete(p.open, idlest)
		idlest.Close()
	}
	p.open[c] = &client{since: time.Now()}
	return true
}

// placed gives its place back when it is closed.
type placed struct {
	net.Conn
	of *places
}

// Close implements net.Conn.
func (c *placed) Close() error {
	c.of.mu.Lock()
	delete(c.of.open, c.Conn)
	c.of.mu.Unlock()
	return c.Conn.Close()
}

func (c *placed) answering(busy bool) {
	c.of.mu.Lock()
	defer c.of.mu.Unlock()
	if s := c.of.open[c.Conn]; s != nil {
		s.busy, s.since = busy, time.Now()
	}
}

type placeKey struct{}

// remember lets a handler find its connection: for http.Server.ConnContext.
func (p *places) remember(ctx context.Context, c net.Conn) context.Context {
	if t, ok := c.(interface{ NetConn() net.Conn }); ok { // TLS above it
		c = t.NetConn()
	}
	return context.WithValue(ctx, placeKey{}, c)
}

// serving marks connections whose request is being answered.
func serving(next http.Handler) http.Handler {
	return http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if c, ok := r.Context().Value(placeKey{}).(*placed); ok {
			c.answering(true)
			defer c.answering(false)
		}
		next.ServeHTTP(rw, r)
	})
}

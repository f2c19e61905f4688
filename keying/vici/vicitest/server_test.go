package vicitest

import (
	"net"
	"sync"
	"testing"
)

// A client that connects while the server stops must not keep Stop waiting:
// the connection may have been accepted after Stop closed those it knew of.
func TestStopWhileClientsConnect(t *testing.T) {
	for range 200 {
		s := Start(t)
		var clients sync.WaitGroup
		for range 4 {
			clients.Go(func() {
				c, err := net.Dial("unix", s.Socket)
				if err != nil {
					return // stopped first
				}
				t.Cleanup(func() { c.Close() })
			})
		}
		s.Stop()
		clients.Wait()
	}
}

// Package link reads the interfaces and addresses of a node and reports their changes,
// over rtnetlink. It changes nothing.
package link

import (
	"encoding/binary"
	"errors"
	"log/slog"

	"golang.org/x/sys/unix"

	"sasyncd/kernel/netlink"
)

var native = binary.NativeEndian

// Table is the interfaces and addresses of one network namespace. Its methods are safe
// for concurrent use.
type Table struct {
	log   *slog.Logger
	ns    *netlink.Namespace
	req   *netlink.Requester
	names *Names
}

// Open opens the network namespace of the calling thread. It needs no privilege. log gets
// what cannot be returned; nil: nobody.
func Open(log *slog.Logger) (t *Table, err error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	t = &Table{log: log}
	if t.ns, err = netlink.CurrentNamespace(); err != nil {
		return nil, err
	}
	t.req, err = netlink.NewRequester(func() (*netlink.Socket, error) { return t.ns.Open(unix.NETLINK_ROUTE, 0, 0) }, 0)
	if err == nil {
		err = t.ns.Do(func() (err error) { t.names, err = OpenNames(); return err })
	}
	if err != nil {
		return nil, errors.Join(err, t.Close())
	}
	return t, nil
}

// Close releases the sockets. Watches go on until their context ends.
func (t *Table) Close() error {
	var errs []error
	if t.req != nil {
		errs = append(errs, t.req.Close())
	}
	if t.names != nil {
		errs = append(errs, t.names.Close())
	}
	t.ns.Close()
	return errors.Join(errs...)
}

package main

import (
	"encoding/binary"
	"log/slog"

	"sasyncd/cmd/internal/conf"
	"sasyncd/cmd/internal/daemon"
	"sasyncd/kernel/xfrm"
	"sasyncd/keying"
	"sasyncd/keying/ipsecconf"
	"sasyncd/sync/wire"
)

// static makes the driver of `control static`, and is nothing where there is none.
type static struct {
	reader conf.Reader
	state  string // directory
	node   wire.NodeID
	log    *slog.Logger

	group string
	made  *keying.Static
}

// driver makes the driver of a group; the configuration has at most one.
func (s *static) driver(g conf.SyncGroup) (keying.Driver, error) {
	// Its own, so that the engine hears of what is loaded: of what it has done
	// itself it does not.
	k, err := xfrm.New(xfrm.Options{Logger: s.log})
	if err != nil {
		return nil, err
	}
	path := g.Control.Path
	s.group = g.Interface
	s.made = keying.NewStatic(keying.StaticConfig{
		File: path, Load: func() (ipsecconf.Set, error) { r, err := s.reader.LoadStatic(path); return r.Set, err },
		Tables: k, Numbers: daemon.OpenNumbers(s.state), Start: firstNumber(s.node), Whole: g.Interface == "",
		Log: s.log,
	})
	return s.made, nil
}

// firstNumber is where a node begins to count with keys of which it knows nothing:
// one of 1,024 places in the lowest quarter of 32 bits, 2^20 apart.
func firstNumber(n wire.NodeID) uint64 {
	return (1 + uint64(binary.BigEndian.Uint16(n[:]))%1024) << 20
}

// tasks are what it does in the background.
func (s *static) tasks() []daemon.Task {
	if s.made == nil {
		return nil
	}
	return []daemon.Task{daemon.NewTask("numbers of static keys", s.made.Keep)}
}

// reload has the file loaded again, by difference.
func (s *static) reload(ds daemons) {
	if s.made != nil {
		ds[s.group].Repeat()
	}
}

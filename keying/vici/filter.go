package vici

import (
	"errors"
	"fmt"
	"io"
	"slices"
)

// Who may write to charon's socket is root: load-conn takes the path of a
// script that charon runs. So a process that must not be root is given a
// connection on which only these commands pass, with these arguments and no
// sections; none of them changes a configuration.
var allowedCommands = map[string][]string{
	"version":       nil,
	"list-conns":    nil,
	"list-sas":      nil,
	"list-policies": {"trap"},
	"initiate":      {"ike", "child", "timeout"},
}

// allowedEvents leaves out log, in which charon may print keys.
var allowedEvents = []string{"list-conn", "list-sa", "list-policy", "ike-updown", "child-updown", "ike-rekey",
	"child-rekey"}

// ErrRefused is what a packet gets that the filter does not let pass.
var ErrRefused = errors.New("not allowed")

// Check says why a packet of a client must not reach charon; nil if it may.
func Check(p *Packet) error {
	switch p.Type {
	case EventRegister, EventUnregister:
		if !slices.Contains(allowedEvents, p.Name) || len(p.Message) > 0 {
			return fmt.Errorf("vici event %.40q: %w", p.Name, ErrRefused)
		}
		return nil
	case CmdRequest:
		keys, ok := allowedCommands[p.Name]
		if !ok {
			return fmt.Errorf("vici command %.40q: %w", p.Name, ErrRefused)
		}
		for i, e := range p.Message {
			if e.Kind != KindValue || !slices.Contains(keys, e.Name) ||
				slices.ContainsFunc(p.Message[:i], func(o Entry) bool { return o.Name == e.Name }) {
				return fmt.Errorf("vici command %s with argument %.40q: %w", p.Name, e.Name, ErrRefused)
			}
		}
		return nil
	}
	return fmt.Errorf("vici packet of type %d: %w", p.Type, ErrRefused)
}

// Filter copies packets from a client to charon until one is not allowed, or
// either side ends. Each is encoded anew, so that charon sees what was checked.
func Filter(charon io.Writer, client io.Reader) error {
	for {
		p, err := ReadPacket(client)
		if err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if err := Check(p); err != nil {
			return err
		}
		b, err := p.Append(nil)
		if err != nil {
			return err
		}
		if _, err := charon.Write(b); err != nil {
			return err
		}
	}
}

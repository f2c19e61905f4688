package tracker

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"
)

const (
	// fifoPoll is how often a missing writer is looked for, and how late the
	// end of a context is noticed.
	fifoPoll = 250 * time.Millisecond
	// writerGrace is how long keepalived may have the fifo closed, as it has
	// for a moment when it reloads.
	writerGrace = time.Second
)

// keepalived is `tracker keepalived`: a group is master when the instance or
// the sync group of that name is, as keepalived's notify_fifo tells:
//
//	INSTANCE "VI_1" MASTER 200
//	GROUP "G1" BACKUP 0
//
// (keepalived.conf(5), notify_fifo). It tells changes only. Where sasyncd comes
// later than keepalived, the addresses tell what has been until the first line.
type keepalived struct {
	fifo   fifo
	ifs    Interfaces
	groups []Group
	log    *slog.Logger

	told    map[string]bool // there was a line about it
	writer  bool
	gone    time.Time // since when there is no writer
	inherit bool      // keepalived was there before us
}

// NewKeepalived returns `tracker keepalived` with the fifo at path, which is
// made when it is missing.
func NewKeepalived(path string, ifs Interfaces, groups []Group, log *slog.Logger) Source {
	return &keepalived{fifo: fifo{path: path, fd: -1}, ifs: ifs, groups: groups, log: log, told: make(map[string]bool)}
}

// Follow implements Source.
func (k *keepalived) Follow(ctx context.Context, see func(string, Observation)) error {
	if err := k.fifo.open(); err != nil {
		return err
	}
	defer k.fifo.close()
	lines, writer, err := k.fifo.read()
	if err != nil {
		return err
	}
	k.inherit, k.writer, k.gone = writer, writer, time.Now()
	for _, l := range lines {
		k.line(l, see)
	}
	k.start(ctx, see)
	for ctx.Err() == nil {
		if k.writer {
			k.fifo.wait(int(fifoPoll / time.Millisecond))
		} else {
			select { // a pipe without a writer never waits
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(fifoPoll):
			}
			if err := k.fifo.open(); err != nil {
				k.log.Error("keepalived cannot be followed", "err", err)
				continue
			}
		}
		k.turn(ctx, see)
	}
	return ctx.Err()
}

// turn reads what is there and notices when keepalived comes or goes.
func (k *keepalived) turn(ctx context.Context, see func(string, Observation)) {
	lines, writer, err := k.fifo.read()
	if err != nil {
		k.log.Error("keepalived cannot be followed", "err", err)
	}
	for _, l := range lines {
		k.line(l, see)
	}
	switch now := time.Now(); {
	case writer:
		if !k.writer && k.gone.IsZero() {
			k.log.Info("keepalived is there")
		}
		k.writer, k.gone = true, now
		if k.inherit {
			k.start(ctx, see)
		}
	case k.writer:
		k.writer, k.gone = false, now
		if err := k.fifo.open(); err != nil {
			k.log.Error("keepalived cannot be followed", "err", err)
		}
	case !k.gone.IsZero() && now.Sub(k.gone) >= writerGrace:
		k.gone, k.inherit = time.Time{}, false
		clear(k.told)
		k.log.Warn("keepalived is not there")
		for _, g := range k.groups {
			see(g.Name, Observation{Reason: "keepalived is not there", Standing: StandingGone})
		}
	}
}

// start tells of the groups about which there was no line yet.
func (k *keepalived) start(ctx context.Context, see func(string, Observation)) {
	for _, g := range k.groups {
		if k.told[g.Name] {
			continue
		}
		s := Observation{Reason: "keepalived has said nothing yet", Standing: StandingSilent}
		if k.inherit {
			if v, err := look(ctx, k.ifs); err == nil {
				if s.Master, s.Reason = v.has(g.VIPs); s.Master {
					s.Standing = StandingAble
				}
			}
		}
		see(g.Name, s)
	}
}

// line follows one notification.
func (k *keepalived) line(l string, see func(string, Observation)) {
	if strings.HasPrefix(l, "VS ") || strings.HasPrefix(l, "RS ") {
		return // of its health checker, which notify_fifo mixes in
	}
	name, state, ok := parseLine(l)
	if !ok {
		k.log.Warn("line of keepalived not understood", "said", fmt.Sprintf("%.80q", l))
		return
	}
	s := Observation{Reason: "keepalived: " + state, Standing: StandingAble}
	switch state {
	case "MASTER":
		s.Master = true
	case "BACKUP":
	case "FAULT", "STOP", "DELETED":
		s.Standing = StandingUnable
	default:
		return // MASTER_PRIORITY and the like change nothing
	}
	for _, g := range k.groups {
		if g.Name == name {
			k.told[name] = true
			see(name, s)
		}
	}
}

// parseLine reads one line of keepalived's fifo: TYPE "NAME" STATE PRIORITY.
func parseLine(l string) (name, state string, ok bool) {
	kind, rest, ok := strings.Cut(l, ` "`)
	if !ok || kind != "INSTANCE" && kind != "GROUP" {
		return "", "", false
	}
	name, rest, ok = strings.Cut(rest, `" `)
	if !ok {
		return "", "", false
	}
	state, _, _ = strings.Cut(rest, " ")
	return name, state, state != ""
}

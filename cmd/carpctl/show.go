package main

import (
	"fmt"
	"io"
	"strings"

	"sasyncd/carp/api"
	"sasyncd/cmd/internal/term"
)

// show prints the groups for people.
func show(out io.Writer, groups []api.GroupState, verbose bool) error {
	var b strings.Builder
	for i := range groups {
		group(&b, &groups[i], verbose)
	}
	_, err := io.WriteString(out, b.String())
	return err
}

func group(b *strings.Builder, g *api.GroupState, verbose bool) {
	head := fmt.Sprintf("group %s: %s for %v (%s), term %d", title(g), strings.ToUpper(g.State), term.Age(g.AgeMS),
		g.Reason, g.Term)
	if g.Seen != g.Term {
		head += fmt.Sprintf(", highest %d", g.Seen)
	}
	b.WriteString(term.Wrap("", "  ", head))
	if g.Blocked != "" {
		b.WriteString(term.Wrap("  ", "    ", "would not take over: "+g.Blocked))
	}
	if g.Held != "" {
		b.WriteString(term.Wrap("  ", "    ", "forwards nothing: "+g.Held))
	}
	for _, d := range g.Demotions {
		what := fmt.Sprintf("demoted by %d: %s", d.By, d.ID)
		if d.Reason != "" && d.Reason != d.ID {
			what += " (" + d.Reason + ")"
		}
		b.WriteString(term.Wrap("  ", "    ", what))
	}
	for i := range g.BFD {
		b.WriteString(term.Wrap("  ", "    ", session(&g.BFD[i])))
	}
	if len(g.Clients) > 0 {
		b.WriteString(term.Wrap("  ", "    ", "clients: "+strings.Join(g.Clients, " ")))
	}
	for _, in := range g.Instances {
		var vips []string
		for _, v := range g.VIPs {
			if v.Instance == in.Name {
				vips = append(vips, v.Address.String())
			}
		}
		b.WriteString(term.Wrap("  ", "    ", fmt.Sprintf("%s on %s: %s, %s id %d, %s", in.Name, in.Interface,
			strings.ToUpper(in.State), in.Protocol, in.ID, strings.Join(vips, " "))))
		for _, r := range in.Routers {
			router(b, r, verbose)
		}
	}
}

// session describes a BFD session.
func session(s *api.BFDSession) string {
	text := "BFD with " + s.Neighbor.String()
	if s.Interface != "" {
		text += " on " + s.Interface
	}
	text += fmt.Sprintf(": %s for %v", s.State, term.Age(s.AgeMS))
	if s.Diagnostic != "" {
		text += " (" + s.Diagnostic + ")"
	}
	if s.NeighborState == "" {
		return text + ", neighbor is not heard"
	}
	text += ", neighbor says " + s.NeighborState
	if s.NeighborDiagnostic != "" {
		text += " (" + s.NeighborDiagnostic + ")"
	}
	return text + fmt.Sprintf(", sends every %d ms, down after %d ms", s.TransmitMS, s.DetectionMS)
}

func router(b *strings.Builder, r api.RouterState, verbose bool) {
	text := fmt.Sprintf("%s advbase %d advskew %d", r.Family, r.AdvBase, r.AdvSkew)
	if r.Priority != 0 {
		text = fmt.Sprintf("%s priority %d", r.Family, r.Priority)
	}
	switch {
	case r.Peer.IsValid() && r.State != api.StateMaster:
		text += fmt.Sprintf(", master %v heard %v ago", r.Peer, term.Age(r.HeardMS))
	case r.Peer.IsValid():
		text += fmt.Sprintf(", %v was master %v ago", r.Peer, term.Age(r.HeardMS))
	}
	if r.Expired {
		text += ", hears no master"
	}
	if verbose {
		text += fmt.Sprintf(", from %v, down after %v, sent %d, received %d, dropped %d", r.Source, term.Age(r.DownMS),
			r.Sent, r.Received, r.Dropped)
	}
	b.WriteString(term.Wrap("    ", "      ", text))
}

package reliability

import (
	"fmt"
	"slices"
	"strings"
)

// renderPredictions writes what check said in each situation beside what came of it.
func (r *Results) renderPredictions(b *strings.Builder) {
	if len(r.Predictions) == 0 {
		return
	}
	count := map[string]int{}
	for _, p := range r.Predictions {
		count[p.Verdict]++
	}
	b.WriteString("## What `sasyncctl check` says, and what then happens\n\n")
	b.WriteString(stamps(r.Predictions, func(p Prediction) Stamp { return p.Stamp }))
	fmt.Fprintf(b, "%d situations: %d times a member said yes and a failover did not work, %d times one said no and "+
		"both worked (%.1f %%). ",
		len(r.Predictions), count[FalseYes], count[FalseNo], 100*float64(count[FalseNo])/float64(len(r.Predictions)))
	b.WriteString("Each is set up twice with real daemons, `check` is asked on every member until its answer is " +
		"steady, and then a failover is made: planned, by `sasyncctl failover`, " +
		"and by the loss of the MASTER's power. One works when, within 4 s, another gateway is the only MASTER, " +
		"every virtual IP answers from where clients are, with that gateway's Ethernet address and no other, " +
		"and traffic passes both ways in IPv4 and IPv6, and when that stays so; with ESP also when nothing was sent " +
		"twice, refused for its number, or sent in plaintext. " +
		"Where `sasyncctl failover` refuses after a no, `carpctl resign` shows whether it was right. The answers are " +
		"those of gw1, which is MASTER at first, gw2 and gw3.\n\n")
	var elections []string
	for _, p := range r.Predictions {
		if e := p.election(); !slices.Contains(elections, e) {
			elections = append(elections, e)
		}
	}
	for _, e := range elections {
		fmt.Fprintf(b, "### %s\n\n| situation | of | check says | because of | planned | power cut | explanation "+
			"|\n|---|---|---|---|---|---|---|\n", e)
		for _, p := range r.Predictions {
			if p.election() != e {
				continue
			}
			cut := p.Cut
			switch p.Verdict {
			case FalseYes:
				cut += ": **" + p.Verdict + "**"
			case FalseNo:
				cut += ": " + p.Verdict
			}
			fmt.Fprintf(b, "| %s | %s | %s | %s | %s | %s | %s |\n", p.Situation, p.Where, strings.Join(p.Said, ", "),
				strings.Join(p.Codes, ", "), p.Planned, cut, p.Why)
		}
		b.WriteString("\n")
	}
}

// election is the heading below which the situation stands.
func (p *Prediction) election() string {
	s := fmt.Sprintf("%d gateways, %s", p.Gateways, p.Election)
	if p.ESP {
		s += ", with ESP"
	}
	return s
}

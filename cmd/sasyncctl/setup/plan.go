package setup

import (
	"fmt"
	"slices"
	"strings"

	"sasyncd/sync/sadb"
)

// Plan is all that is to be done.
type Plan struct {
	Files [2][]File // of each side, in the order in which they are written
	Steps []Step
	ssh   string
}

// Step is one command on one side.
type Step struct {
	Side   Side
	What   string      // in the infinitive
	Script string      // for sh(1), without single quotes and without secrets
	Stdin  sadb.Secret // what the script reads
	// Source is how the same input is had from the files of this gateway: a
	// redirection, or commands of a pipe. "" where it is not read, or where it is the
	// plan that has it.
	Source string
	// Writes is the file that the step makes, "" for none.
	Writes string
}

// Found is what was found on one side and matters for the plan: files as a package has
// installed them, which give way.
type Found struct {
	Templates []string
}

// New makes a plan. dir is where the files are, /etc. An error says what is wrong with
// the input.
func New(in Input, secrets Secrets, dir string, found [2]Found) (*Plan, error) {
	if err := in.Check(); err != nil {
		return nil, err
	}
	p := &Plan{ssh: in.SSH}
	for _, s := range []Side{Own, Peer} {
		p.Files[s] = in.files(s, secrets, dir)
		if err := parse(p.Files[s]); err != nil {
			return nil, err
		}
		for _, path := range found[s].Templates {
			p.add(Step{Side: s, What: "rename " + path + " to " + path + kept, Script: rename(path)})
		}
		for i, f := range p.Files[s] {
			step := Step{Side: s, What: "write " + f.Path, Script: write(f), Stdin: f.Content, Writes: f.Path}
			if s == Peer {
				step.Source = source(p.Files[Own][i], f)
			}
			p.add(step)
		}
		for _, program := range []string{"carpd", "sasyncd"} {
			p.add(Step{Side: s, What: "check the configuration of " + program, Script: program + " -n"})
		}
	}
	for _, s := range []Side{Own, Peer} {
		p.add(Step{Side: s, What: "start carpd and sasyncd",
			Script: "systemctl daemon-reload && systemctl enable --now carpd sasyncd"})
	}
	p.add(Step{Side: Own, What: fmt.Sprintf("wait for at most %d s until a failover would work", in.Wait),
		Script: fmt.Sprintf("sasyncctl check -w %d", in.Wait)})
	return p, nil
}

func (p *Plan) add(s Step) { p.Steps = append(p.Steps, s) }

// kept is what is put behind the name of a template.
const kept = ".orig"

// rename gives a file another name, and fails where that exists: link(2) does.
func rename(path string) string { return fmt.Sprintf("ln %s %[1]s%s && rm %[1]s", path, kept) }

// write reads a file from standard input. It becomes visible with its length, owner and
// mode or not at all, and the script fails where it exists: link(2) does. A part of a
// file, which a connection that breaks leaves behind, is removed.
func write(f File) string {
	part := f.Path + ".init"
	owner := ""
	if f.Owner != "" {
		owner = fmt.Sprintf("chown %s: %s && ", f.Owner, part)
	}
	return fmt.Sprintf("umask 077; rm -f %[1]s; cat > %[1]s && wc -c < %[1]s | grep -qx %[2]d && %[3]sln %[1]s %[4]s && "+
		"rm %[1]s || { rm -f %[1]s; echo %[4]s was not written >&2; exit 1; }", part, f.Content.Len(), owner, f.Path)
}

// source says how the file of the peer is had from that of this gateway. They have the
// same lines, but for some that name interfaces, addresses or the rank.
func source(own, peer File) string {
	a, b := strings.Split(string(own.Content.Bytes()), "\n"), strings.Split(string(peer.Content.Bytes()), "\n")
	var edits []string
	for i := range a {
		if i < len(b) && a[i] != b[i] {
			edits = append(edits, fmt.Sprintf("%ds|.*|%s|", i+1, strings.ReplaceAll(b[i], "\t", `\t`)))
		}
	}
	if len(edits) == 0 {
		return "< " + own.Path
	}
	return fmt.Sprintf("sed '%s' %s", strings.Join(edits, "; "), own.Path)
}

// Command returns a step as one types it on this gateway. It is "" for a step whose
// input only the plan has.
func (p *Plan) Command(s Step) string {
	if s.Writes != "" && s.Source == "" {
		return ""
	}
	cmd := s.Script
	if s.Side == Peer {
		cmd = fmt.Sprintf(`ssh %s "sh -c '%s'"`, p.ssh, s.Script)
	}
	switch {
	case s.Source == "":
		return cmd
	case strings.HasPrefix(s.Source, "<"):
		return cmd + " " + s.Source
	}
	return s.Source + " | " + cmd
}

// own returns how many steps at the beginning are of this gateway alone.
func (p *Plan) own() int {
	return slices.IndexFunc(p.Steps, func(s Step) bool { return s.Side == Peer })
}

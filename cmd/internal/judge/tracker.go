package judge

// electedElsewhere finds what an election other than carpd's means for a member.
func (m *member) electedElsewhere(group string) (list []Finding) {
	add := func(c Code, cause string) { list = append(list, finding(c, m.name, group, cause)) }
	g := m.group
	for _, a := range g.Stray {
		add(VIPConfigured, "it is BACKUP and has "+a.String()+": it answers for it, too")
	}
	switch m.facts.Tracker {
	case "", TrackerCarpd:
		return list
	case TrackerLocked:
		add(Locked, "its role is fixed to "+m.role+" by `mode`: nothing takes over by itself")
		return list
	}
	if g.Election == nil || g.Election.Standing == "hidden" {
		if m.role != "MASTER" {
			add(ElectionUnknown, "it follows an election of which only the result is seen (tracker "+m.facts.Tracker+
				"): whether what elects is alive there, and would choose it, is not known")
		}
		return list
	}
	switch e := g.Election; {
	case e.Standing == "gone":
		add(ElectorLost, "the election cannot be followed: "+e.Reason)
	case m.role == "MASTER":
	case e.Standing == "unable":
		add(Blocked, "it would not take over: "+e.Reason)
	case e.Standing != "able":
		add(ElectionUnknown, m.facts.Tracker+" is alive there and has not told its state since sasyncd started")
	}
	return list
}

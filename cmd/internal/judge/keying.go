package judge

// keying finds what is wrong with the IKE daemon of a member in any role.
func (m *member) keying(group string) (list []Finding) {
	add := func(c Code, cause string) { list = append(list, finding(c, m.name, group, cause)) }
	k := &m.group.Keying
	switch {
	case k.Error == "":
	case k.Driver == "static":
		add(StaticKeys, "static keys are not loaded as the file says: "+k.Error)
	default:
		add(IKEError, "the IKE daemon is "+k.State+": "+k.Error)
	}
	for _, l := range k.Lint {
		f := finding(IKESetting, m.name, group, l[0])
		f.Remedy = l[1]
		list = append(list, f)
	}
	if k.ProbeError != "" {
		add(IKEUnknown, "the settings of its IKE daemon cannot be read: "+k.ProbeError)
	}
	return list
}

// keyless finds a standby whose IKE daemon does not run. One that is found by itself
// (`control auto`) is missed only where the MASTER has one.
func keyless(m, master *member, group string) []Finding {
	k, of := &m.group.Keying, &master.group.Keying
	none := k.Driver == "auto" && of.Driver == "auto" && k.Probed && k.Version == "" && of.Version != ""
	if !k.Absent && !none {
		return nil
	}
	cause := "its IKE daemon (" + k.Driver + ") does not run"
	if none {
		cause = "no IKE daemon runs there, and the MASTER has " + of.Version
	}
	return []Finding{finding(IKEAbsent, m.name, group, cause+": after a failover tunnels live until their SAs end")}
}

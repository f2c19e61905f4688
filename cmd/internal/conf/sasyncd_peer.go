package conf

// peer reads: peer [discover] HOST [HOST ...] [port N]. Further hosts stand on the
// same line, because a file of OpenBSD may be one line and a name may be anything; so
// discover is a host where none follows, or in quotes.
func (s *sasyncdParser) peer(t token) bool {
	first, ok := s.word("peer", "an address or a host name")
	if !ok {
		return false
	}
	pr := Peer{Pos: t.pos}
	if next := s.cur(); first.text == "discover" && !first.quoted && s.isHost(next) {
		s.use(first.pos, "peer discover")
		pr.Discover, first = true, next
		s.i++
	}
	for h := first; ; {
		if host, hostOK := s.host(h); hostOK {
			pr.Hosts = append(pr.Hosts, host)
		} else {
			ok = false
		}
		if h = s.cur(); !s.isHost(h) {
			break
		}
		s.i++
	}
	if s.accept("port") {
		n, portOK := s.port()
		pr.Port, ok = n, ok && portOK
	}
	if ok {
		s.c.Peers = append(s.c.Peers, pr)
	}
	return ok
}

// isHost reports whether t goes on with the hosts of a peer.
func (s *sasyncdParser) isHost(t token) bool {
	return t.kind == tokWord && !t.first && (t.quoted || !s.keyword(t) && t.text != "port")
}

// listen reads: listen on WHERE [inet|inet6] [port N].
func (s *sasyncdParser) listen(t token) bool {
	if !s.phrase("listen", "on") {
		return false
	}
	w, ok := s.word("listen on", "an address or an interface")
	if !ok {
		return false
	}
	l := Listen{Pos: t.pos, Port: DefaultSyncPort}
	if looksLikeAddr(w.text) {
		h, hostOK := s.listenAddr(w)
		l.Addr, ok = h, hostOK
	} else if deviceName(w.text) {
		l.Interface = w.text
	} else {
		s.errorf(w.pos, "write one of them", "%s is neither an address nor the name of an interface", w)
		ok = false
	}
	fam := s.cur()
	switch {
	case s.accept("inet"):
		l.Family = FamilyIPv4
	case s.accept("inet6"):
		l.Family = FamilyIPv6
	}
	if l.Addr.IsValid() && l.Family != FamilyAny && l.Addr.Is4() != (l.Family == FamilyIPv4) {
		s.errorf(fam.pos, "remove "+l.Family.String(), "%s is not an address of family %s", l.Addr, l.Family)
		ok = false
	}
	if s.accept("port") {
		n, portOK := s.port()
		l.Port, ok = n, ok && portOK
	}
	if ok {
		s.c.Listen = append(s.c.Listen, l)
	}
	return ok
}

func (s *sasyncdParser) sharedkey(t token) bool {
	const what = "a key, or file and a path"
	if s.accept("file") {
		path, ok := s.path("sharedkey file")
		if ok {
			s.c.Keys = append(s.c.Keys, Key{Pos: t.pos, File: path})
		}
		return ok
	}
	w, ok := s.secretWord("sharedkey", what)
	if !ok {
		return false
	}
	k, problem, remedy := sharedKey(w.text)
	if problem != "" {
		s.errorf(w.pos, remedy, "%s", problem)
		return false
	}
	if w.text[0] == '/' {
		s.warnf(w.pos, "write sharedkey file and the path if it is one", "the key begins like the name of a file")
	}
	k.Pos = t.pos
	if s.c.inlineSecret.IsZero() {
		s.c.inlineSecret = w.pos
	}
	s.c.Keys = append(s.c.Keys, k)
	return s.secretEnd("sharedkey", hexRemedy)
}

package mutants

// more are defects of parts that have tests of their own beside them.
var more = []mutant{
	{
		"I1", "a jump may be backwards", "sync/replica/jumps.go",
		[][2]string{{"return max(sa.OSeq, v)\n", "return sa.OSeq + 0*v\n"}},
		"./sync/replica", "TestJumps", false,
	},
	{
		"I1", "a counter that comes late lowers what is known", "sync/replica/counters.go",
		[][2]string{{"sa.OSeq, sa.Seq = max(sa.OSeq, e.OSeq), max(sa.Seq, e.Seq)", "sa.OSeq, sa.Seq = e.OSeq, e.Seq"}},
		"./sync/replica", "TestCountersNeverGoBack", false,
	},
	{
		"I1", "a standby raises from the master's word alone", "sync/replica/raise.go",
		[][2]string{{"max(used, w.sa.OSeq), w.rate.Peak(), LagBound", "used, w.rate.Peak(), LagBound"}},
		"./sync/replica", "TestRaiseOfAStandby", false,
	},
	{
		"I1", "an ex-master forgets the rates", "sync/replica/receiver.go",
		[][2]string{{"w.rate.Remember(&e.rate)\n", "\n"}},
		"./sync/replica", "TestInherit", false,
	},
	{
		"I1", "another node's numbers do not count a margin above", "sync/engine/split.go",
		[][2]string{{"x.OSeq-own <= 3*lead {", "x.OSeq-own <= 30*lead {"}},
		"./sync/engine", "TestMaximaOfOthers", false,
	},
	{
		"I2", "what is put back counts as negotiated here", "sync/replica/superseded.go",
		[][2]string{{"e.imported, e.heard = true, now.Sub(p.began)", "e.imported = true"}},
		"./sync/replica", "TestSuperseded", false,
	},
	{
		"I2", "an operator's SA is collected", "sync/replica/superseded.go",
		[][2]string{{" || e.sa.Static() {", " {"}},
		"./sync/replica", "TestSuperseded", false,
	},
	{
		"I3", "only one router has to be heard for its addresses to stay", "carp/renew.go",
		[][2]string{{"now-g.adverts.sentAt[i] > r.every()*3/2", "now-g.adverts.sentAt[i] > r.every()*300"}},
		"./carp", "TestRenewalNeedsEachRouter", false,
	},
	{
		"I3", "an address that goes is not silent first", "carp/engine/reload.go",
		[][2]string{{"silent(left)\n", "\n"}},
		"./carp/engine", "TestReloadOfAddresses", false,
	},
	{
		"I3", "a lease has no room for the addresses of a router", "carp/filter/lease.go",
		[][2]string{{"const perRule = 16\n", "const perRule = 32\n"}},
		"./carp/filter", "TestManyAddresses", false,
	},
	{
		"I3", "a lease is of one family for both", "carp/filter/lease.go",
		[][2]string{{"return live6, etherIPv6, 6\n", "return live4, etherIPv6, 6\n"}},
		"./carp/filter", "TestLease", false,
	},
	{
		"I3", "a hand-over waits for the slowest router", "carp/change.go",
		[][2]string{{"limit = min(limit, 2*r.every())", "limit = min(limit, 20*r.every())"}},
		"./carp", "TestHandLimit", false,
	},
	{
		"I4", "a change of one item waits for none before it", "sync/replica/receiver.go",
		[][2]string{{"if r.pending.has(rec) {", "if false {"}},
		"./sync/replica", "TestChangesOfOneItem", false,
	},
	{
		"I4", "a part of an SA does not count as its configuration", "sync/sadb/same.go",
		[][2]string{{"a.Keepalive == b.Keepalive && ", ""}},
		"./sync/sadb", "TestSameConfig", false,
	},
	{
		"I4", "what is back is deleted all the same", "sync/engine/master.go",
		[][2]string{{"g.holds.CancelPolicy(ev.Policy.Key)\n", "\n"}},
		"./sync/engine", "TestHeldBackDeletions", false,
	},
	{
		"I4", "what two standbys have is applied twice", "sync/engine/tail.go",
		[][2]string{{"known := g.rcv.Pos().Seq + 1 - min(b.First, g.rcv.Pos().Seq+1)", "known := 0 * g.rcv.Pos().Seq"}},
		"./sync/engine", "TestTailOfSeveral", false,
	},
	{
		"I5", "a soft limit deletes an SA", "sync/engine/master.go",
		[][2]string{{"if ev.Kind == sadb.EventExpireSA && !ev.Hard {", "if false {"}},
		"./sync/engine", "TestSoftLimitsEndNothing", false,
	},
	{
		"I5", "half of a flush is kept", "sync/engine/reinsert.go",
		[][2]string{{"e.dump.stale = e.dump.running // it may show half of the flush", "_ = ctx"}},
		"./sync/engine", "TestFlushIsKeptWhole", false,
	},
	{
		"I6", "a snapshot that lacks a change counts as whole", "sync/replica/receiver_view.go",
		[][2]string{{"seq == r.pos.Seq && items == r.snap.records", "items == r.snap.records"}},
		"./sync/replica", "TestStreamsBegin", false,
	},
	{
		"I7", "a position of another stream counts as the later one", "sync/wire/message.go",
		[][2]string{{"return p.StreamID == o.StreamID && p.Seq > o.Seq", "return p.Seq > o.Seq"}},
		"./sync/wire", "TestWhoHoldsMore", false,
	},
	{
		"I7", "any term is believed", "sync/wire/message.go",
		[][2]string{{"told-own <= maxTermStep && told <= maxBelieved", "told-own <= maxTermStep"}},
		"./sync/wire", "TestBelievableTerms", false,
	},
	{
		"I7", "the terms of what others hold are not seen", "sync/engine/role.go",
		[][2]string{{"seen = max(seen, ms.state.Term, ms.state.Have.Term)", "seen = max(seen, ms.state.Term)"}},
		"./sync/engine", "TestTermsOfWhatIsHeld", false,
	},
	{
		"I8", "a descriptor of a client is kept by root", "keying/privsep/server.go",
		[][2]string{{"case flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0:", "case flags&unix.MSG_TRUNC != 0:"}},
		"./keying/privsep", "TestHostileClientIsCutOff", false,
	},
	{
		"I8", "a record beyond what a number holds is taken", "sync/wire/record.go",
		[][2]string{{"uint64(rec.Handle) != h {", "false {"}},
		"./sync/wire", "TestBeyondALimitIsRefused", false,
	},
	{
		"I8", "a file that its group can write is read", "cmd/internal/conf/file.go",
		[][2]string{{"mode.Perm()&0o027 != 0", "mode.Perm()&0o007 != 0"}},
		"./cmd/internal/conf", "TestFileOwner", false,
	},
	{
		"I9", "a key of an older kind is shown to an operator", "sync/wire/operator.go",
		[][2]string{{"{&c.Auth, &c.Crypt, &c.AEAD} {", "{&c.Auth, &c.AEAD} {"}},
		"./sync/wire", "TestEachKeyIsRedacted", false,
	},
	{
		"I9", "a deleted SA leaves its keys", "sync/replica/publisher.go",
		[][2]string{{"e.sa = keyless(e.sa)\n", "\n"}},
		"./sync/replica", "TestDeletedSAsLeaveNoKeys", false,
	},
	{
		"I11", "a group that has just heard a master takes over alone", "carp/client.go",
		[][2]string{{"from = max(from, r.heardAt)", "_ = r.heardAt"}},
		"./carp", "TestAloneCountsFromTheLastMaster", false,
	},
	{
		"I11", "a word of another term counts as prepared", "carp/client.go",
		[][2]string{{"if ev.Term == g.term {\n\t\t\tdelete(g.step.waiting", "{\n\t\t\tdelete(g.step.waiting"}},
		"./carp", "TestPrepareOfAnotherTerm", false,
	},
	{
		"I12", "fragments of IPv6 pass the leak guard's chain for whole packets", "kernel/leakguard/wall.go",
		[][2]string{{"w.match(laterChain(s.IPv6), require,", "w.match(laterChain(false), require,"}},
		"./kernel/leakguard", "TestFragments", false,
	},
	{
		"I12", "a standby without a way out is called ready", "cmd/internal/judge/judge.go",
		[][2]string{{"p.Age <= reportLimit {", "true {"}},
		"./cmd/internal/judge", "TestReportsHaveAnAge", false,
	},
}

func init() { mutants = append(mutants, more...) }

package judge

import (
	"maps"
	"net/netip"
)

// Rows of TestJudge about other elections than carpd's.
func init() {
	other := func(tracker, master, standby string) func(*situation) {
		return func(s *situation) {
			for i, standing := range []string{master, standby} {
				g := &s.facts[i].Groups[0]
				s.facts[i].Tracker, g.Carp = tracker, nil
				if standing != "" {
					g.Election = &Election{Standing: standing, Reason: "as it says"}
				}
			}
		}
	}
	maps.Copy(rows, map[string]row{
		"keepalived on both":                 {other("keepalived", "able", "able"), 2, Yes, "", nil},
		"keepalived is dead on the standby":  {other("keepalived", "able", "gone"), 2, No, ElectorLost, nil},
		"keepalived is dead on the MASTER":   {other("keepalived", "gone", "able"), 2, No, ElectorLost, nil},
		"keepalived is FAULT on the standby": {other("keepalived", "able", "unable"), 2, No, Blocked, nil},
		"keepalived has not told on the standby": {other("keepalived", "able", "silent"), 2, CannotTell,
			ElectionUnknown, nil},
		"keepalived has not told on the MASTER":   {other("keepalived", "silent", "able"), 2, Yes, "", nil},
		"keepalived, not told by an older report": {other("keepalived", "", ""), 2, CannotTell, ElectionUnknown, nil},
		"addresses are followed": {other("address", "hidden", "hidden"), 2, CannotTell,
			ElectionUnknown, nil},
		"a link is followed": {other("link", "hidden", "hidden"), 2, CannotTell, ElectionUnknown,
			nil},
		"the roles are fixed": {other("locked", "", ""), 2, No, Locked, nil},
		"addresses are followed, and not in sync": {func(s *situation) {
			other("address", "hidden", "hidden")(s)
			s.standby().InSync = false
		}, 2, No, NotInSync, nil},
		"a VIP on keepalived's BACKUP": {func(s *situation) {
			other("keepalived", "able", "able")(s)
			s.standby().Stray = []netip.Addr{vip4}
		}, 2, No, VIPConfigured, nil},
	})
}

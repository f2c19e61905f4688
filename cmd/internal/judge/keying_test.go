package judge

import "maps"

// Rows of TestJudge about IKE daemons.
func init() {
	auto := func(master, standby string) func(*situation) {
		return func(s *situation) {
			s.master().Keying = Keying{Driver: "auto", State: "active", Version: master, Probed: true}
			s.standby().Keying = Keying{Driver: "auto", State: "passive", Version: standby, Probed: true}
		}
	}
	maps.Copy(rows, map[string]row{
		"IKE settings unreadable": {func(s *situation) { s.standby().Keying.ProbeError = "too long" }, 2,
			CannotTell, IKEUnknown, nil},
		"IKE settings unreadable, and no": {func(s *situation) {
			s.standby().Keying.ProbeError,
				s.standby().InSync = "too long", false
		}, 2, No, IKEUnknown, nil},
		"no IKE daemon on the standby": {func(s *situation) {
			s.standby().Keying = Keying{Driver: "strongswan", State: "passive", Absent: true}
		}, 2, Yes, IKEAbsent, nil},
		"no IKE daemon found on the standby": {auto("charon 5.9.8", ""), 2, Yes, IKEAbsent, nil},
		"no IKE daemon found anywhere":       {auto("", ""), 2, Yes, "", nil},
		"the same IKE daemon on both":        {auto("charon 5.9.8", "charon 5.9.8"), 2, Yes, "", nil},
		"an older report about IKE daemons": {func(s *situation) {
			auto("charon 5.9.8", "")(s)
			s.standby().Keying.Probed = false
		}, 2, Yes, "", nil},
	})
}

package kernel

import "sasyncd/sync/sadb"

// event turns a multicast message into an event. ok is false for messages that
// say nothing about the tables. own is the nlmsg_pid of this process's
// requests.
func (d *decoder) event(m message, own uint32, now int64) (ev sadb.Event, ok bool, err error) {
	ev.Own = m.pid == own
	switch m.typ {
	case msgNewSA, msgUpdSA:
		// strongSwan completes an inbound SA by UPDSA: never NEWSA.
		ev.Kind = sadb.EventPutSA
		ev.SA, err = d.sa(m.payload, now)
	case msgDelSA:
		ev.Kind = sadb.EventDeleteSA
		ev.SA, err = d.deletedSA(m.payload, now)
	case msgExpire:
		ev.Kind = sadb.EventExpireSA
		ev.SA, ev.Hard, err = d.expiredSA(m.payload, now)
	case msgNewPolicy, msgUpdPolicy:
		ev.Kind = sadb.EventPutPolicy
		ev.Policy, err = d.policy(m.payload, now)
	case msgDelPolicy:
		ev.Kind = sadb.EventDeletePolicy
		ev.Policy, err = d.deletedPolicy(m.payload, now)
	case msgPolExpire:
		ev.Kind = sadb.EventExpirePolicy
		ev.Policy, ev.Hard, err = d.expiredPolicy(m.payload, now)
	case msgFlushSA:
		ev.Kind = sadb.EventFlushSA
		if len(m.payload) < 1 {
			return ev, false, errShort("flush of sas", len(m.payload), 1)
		}
		// IPSEC_PROTO_ANY stands for all.
		if ev.Proto = m.payload[0]; ev.Proto == 255 {
			ev.Proto = 0
		}
	case msgFlushPolicy:
		ev.Kind = sadb.EventFlushPolicy
		for rest := attrs(m.payload); ; {
			typ, data, more := rest.next()
			if !more {
				break
			}
			if typ == attrPolicyType && len(data) >= 1 {
				ev.Sub = data[0] == polTypeSub
			}
		}
	case msgMapping:
		ev.Kind = sadb.EventMapping
		ev.SA, ev.Encap, err = d.mapping(m.payload)
	case msgMigrate:
		// The kernel rewrites SAs and policies without saying which.
		ev.Kind, ev.Reason = sadb.EventResync, "migrate"
	default:
		return ev, false, nil
	}
	return ev, err == nil, err
}

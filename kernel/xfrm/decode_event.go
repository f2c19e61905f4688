package xfrm

import (
	"sasyncd/kernel/netlink"
	"sasyncd/sync/sadb"
)

// event turns a multicast message into an event. ok is false for messages that
// say nothing about the tables. own is the nlmsg_pid of this process's
// requests.
func (d *decoder) event(m netlink.Message, own uint32, now int64) (ev sadb.Event, ok bool, err error) {
	ev.Own = m.PID == own
	switch m.Type {
	case msgNewSA, msgUpdSA:
		// strongSwan completes an inbound SA by UPDSA: never NEWSA.
		ev.Kind = sadb.EventPutSA
		ev.SA, err = d.sa(m.Payload, now)
	case msgDelSA:
		ev.Kind = sadb.EventDeleteSA
		ev.SA, err = d.deletedSA(m.Payload, now)
	case msgExpire:
		ev.Kind = sadb.EventExpireSA
		ev.SA, ev.Hard, err = d.expiredSA(m.Payload, now)
	case msgNewPolicy, msgUpdPolicy:
		ev.Kind = sadb.EventPutPolicy
		ev.Policy, err = d.policy(m.Payload, now)
	case msgDelPolicy:
		ev.Kind = sadb.EventDeletePolicy
		ev.Policy, err = d.deletedPolicy(m.Payload, now)
	case msgPolExpire:
		ev.Kind = sadb.EventExpirePolicy
		ev.Policy, ev.Hard, err = d.expiredPolicy(m.Payload, now)
	case msgFlushSA:
		ev.Kind = sadb.EventFlushSA
		if len(m.Payload) < 1 {
			return ev, false, errShort("flush of sas", len(m.Payload), 1)
		}
		// IPSEC_PROTO_ANY stands for all.
		if ev.Proto = m.Payload[0]; ev.Proto == 255 {
			ev.Proto = 0
		}
	case msgFlushPolicy:
		ev.Kind = sadb.EventFlushPolicy
		for rest := netlink.Attrs(m.Payload); ; {
			typ, data, more := rest.Next()
			if !more {
				break
			}
			if typ == attrPolicyType && len(data) >= 1 {
				ev.Sub = data[0] == polTypeSub
			}
		}
	case msgMapping:
		ev.Kind = sadb.EventMapping
		ev.SA, ev.Encap, err = d.mapping(m.Payload)
	case msgMigrate, msgMigrateState:
		// The kernel rewrites SAs and policies without saying which. The newer message
		// names the SA that was, and no other message has the one that is.
		ev.Kind, ev.Reason = sadb.EventResync, "migrate"
	default:
		return ev, false, nil
	}
	return ev, err == nil, err
}

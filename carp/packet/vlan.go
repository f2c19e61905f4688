package packet

// What the kernel of Linux knows of a received frame beside its bytes, for a packet
// socket's filter (linux/filter.h). It has taken the outer VLAN tag out of the frame,
// and the socket also gets the frames of the VLANs on its interface: those are another
// network. A tag of VLAN 0 is a priority only (IEEE 802.1Q 6.9).
const (
	FilterVLANTag     = 0xfffff000 + 44 // SKF_AD_OFF + SKF_AD_VLAN_TAG
	FilterVLANPresent = 0xfffff000 + 48 // SKF_AD_OFF + SKF_AD_VLAN_TAG_PRESENT
	VLANID            = 0x0fff          // the rest of a tag is the priority
)

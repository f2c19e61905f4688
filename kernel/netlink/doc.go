// Package netlink sends requests to the kernel over netlink sockets and reads its
// answers: messages, attributes, acknowledgements, dumps that were torn, batches. It
// knows no subsystem; see linux/netlink.h and netlink(7).
//
// Requests and answers of XFRM hold keys, so what was sent and received is overwritten.
package netlink

import "encoding/binary"

// native is the byte order of netlink's own fields.
var native = binary.NativeEndian

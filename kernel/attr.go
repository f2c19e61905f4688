package kernel

// attrs walks netlink attributes.
type attrs []byte

// next returns the next attribute and moves behind it. It ends at the first
// attribute whose length does not fit what is left.
func (a *attrs) next() (typ uint16, data []byte, ok bool) {
	b := *a
	if len(b) < 4 {
		return 0, nil, false
	}
	n := int(native.Uint16(b))
	if n < 4 || n > len(b) {
		return 0, nil, false
	}
	typ, data = native.Uint16(b[2:])&attrTypeMask, b[4:n:n]
	*a = b[min(align4(n), len(b)):]
	return typ, data, true
}

func align4(n int) int { return (n + 3) &^ 3 }

// appendAttr appends an attribute with its padding.
func appendAttr(b []byte, typ uint16, data []byte) []byte {
	b, at := beginAttr(b, typ)
	return endAttr(append(b, data...), at)
}

// beginAttr appends an attribute's header; endAttr fixes its length and pads.
func beginAttr(b []byte, typ uint16) ([]byte, int) {
	at := len(b)
	b = native.AppendUint16(b, 0)
	return native.AppendUint16(b, typ), at
}

func endAttr(b []byte, at int) []byte {
	native.PutUint16(b[at:], uint16(len(b)-at))
	return append(b, make([]byte, align4(len(b)-at)-(len(b)-at))...)
}

func appendAttr32(b []byte, typ uint16, v uint32) []byte {
	b, at := beginAttr(b, typ)
	return endAttr(native.AppendUint32(b, v), at)
}

// zeros appends n zero bytes and returns them as head.
func zeros(b []byte, n int) (all, head []byte) {
	at := len(b)
	b = append(b, make([]byte, n)...)
	return b, b[at:]
}

package netlink

// Attrs walks netlink attributes.
type Attrs []byte

// TypeMask is NLA_TYPE_MASK, the type of an attribute without its flags.
const TypeMask = 0x3fff

// Next returns the next attribute and moves behind it. It ends at the first
// attribute whose length does not fit what is left.
func (a *Attrs) Next() (typ uint16, data []byte, ok bool) {
	b := *a
	if len(b) < 4 {
		return 0, nil, false
	}
	n := int(native.Uint16(b))
	if n < 4 || n > len(b) {
		return 0, nil, false
	}
	typ, data = native.Uint16(b[2:])&TypeMask, b[4:n:n]
	*a = b[min(align(n), len(b)):]
	return typ, data, true
}

// align is a length with its padding.
func align(n int) int { return (n + 3) &^ 3 }

// Uint32 reads the first four bytes of an attribute; ok is false where it is shorter.
func Uint32(data []byte) (v uint32, ok bool) {
	if len(data) < 4 {
		return 0, false
	}
	return native.Uint32(data), true
}

// AppendAttr appends an attribute with its padding.
func AppendAttr(b []byte, typ uint16, data []byte) []byte {
	b, at := BeginAttr(b, typ)
	return EndAttr(append(b, data...), at)
}

// BeginAttr appends an attribute's header, and returns where that is. EndAttr, to be
// called when the attribute's data is appended, fixes its length and pads.
func BeginAttr(b []byte, typ uint16) ([]byte, int) {
	at := len(b)
	b = native.AppendUint16(b, 0)
	return native.AppendUint16(b, typ), at
}

// EndAttr ends what BeginAttr began.
func EndAttr(b []byte, at int) []byte {
	native.PutUint16(b[at:], uint16(len(b)-at))
	return append(b, make([]byte, align(len(b)-at)-(len(b)-at))...)
}

// AppendAttr32 appends an attribute of four bytes.
func AppendAttr32(b []byte, typ uint16, v uint32) []byte {
	b, at := BeginAttr(b, typ)
	return EndAttr(native.AppendUint32(b, v), at)
}

// Zeros appends n zero bytes and returns them as head.
func Zeros(b []byte, n int) (all, head []byte) {
	at := len(b)
	b = append(b, make([]byte, n)...)
	return b, b[at:]
}

package report

// Show is the answer to show with -j, put together by sasyncctl of ShowItems.
type Show struct {
	What  string `json:"what"` // sa, flow or all
	Flows []Flow `json:"flows"`
	SAs   []SA   `json:"sas"`
}

// ShowItem is one line of the answer to show with objects: one of both.
type ShowItem struct {
	Flow *Flow `json:"flow,omitempty"`
	SA   *SA   `json:"sa,omitempty"`
}

// Flow is one policy of the kernel. Policies of direction fwd are among them,
// whether or not they equal that of direction in.
type Flow struct {
	Text      string     `json:"text"`      // as show prints it
	Direction string     `json:"direction"` // in, out or fwd
	Type      string     `json:"type"`      // require, use, deny or bypass
	From      string     `json:"from"`      // network
	To        string     `json:"to"`
	Protocol  string     `json:"protocol,omitempty"` // of the packets, absent: any
	FromPort  string     `json:"from_port,omitempty"`
	ToPort    string     `json:"to_port,omitempty"`
	Priority  uint32     `json:"priority"`
	Mark      string     `json:"mark,omitempty"` // value/mask
	IfID      uint32     `json:"if_id,omitempty"`
	Templates []Template `json:"templates"`
	Bytes     uint64     `json:"bytes"`
	Packets   uint64     `json:"packets"`
	Age       float64    `json:"age_seconds"`
}

// Template is a transform that a policy demands.
type Template struct {
	Protocol string `json:"protocol"`
	Mode     string `json:"mode"`
	Src      string `json:"src,omitempty"` // absent: any
	Dst      string `json:"dst,omitempty"`
	Reqid    uint32 `json:"reqid"`
	SPI      string `json:"spi,omitempty"`
	Level    string `json:"level"` // require or use
}

// SA is one security association of the kernel. Keys are there for root with -k.
type SA struct {
	Text     string   `json:"text"` // as show prints it
	Protocol string   `json:"protocol"`
	Mode     string   `json:"mode"`
	Src      string   `json:"src"`
	Dst      string   `json:"dst"`
	SPI      string   `json:"spi"`
	Reqid    uint32   `json:"reqid"`
	Auth     string   `json:"auth,omitempty"`
	Enc      string   `json:"enc,omitempty"`
	Comp     string   `json:"comp,omitempty"`
	AuthKey  string   `json:"auth_key,omitempty"`
	EncKey   string   `json:"enc_key,omitempty"`
	Window   uint32   `json:"replay_window"`
	ESN      bool     `json:"esn"`
	Mark     string   `json:"mark,omitempty"`
	IfID     uint32   `json:"if_id,omitempty"`
	UDPEncap uint16   `json:"udpencap_port,omitempty"`
	SeqIn    uint64   `json:"seq_in"`
	SeqOut   uint64   `json:"seq_out"`
	Bytes    uint64   `json:"bytes"`
	Packets  uint64   `json:"packets"`
	Age      float64  `json:"age_seconds"`
	UseAge   *float64 `json:"first_use_age_seconds,omitempty"`
	// LastPacket is how long ago a counter was last seen to have moved.
	LastPacket *float64  `json:"last_packet_age_seconds,omitempty"`
	Soft       *Lifetime `json:"soft,omitempty"`
	Hard       *Lifetime `json:"hard,omitempty"`
}

// Lifetime limits an SA; what does not is absent.
type Lifetime struct {
	Bytes   *uint64  `json:"bytes,omitempty"`
	Packets *uint64  `json:"packets,omitempty"`
	Add     *float64 `json:"add_seconds,omitempty"` // since it was added
	Use     *float64 `json:"use_seconds,omitempty"` // since its first packet
}

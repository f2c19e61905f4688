package vici

import (
	"bytes"
	"errors"
	"testing"
)

func TestFilterLetsDriversThroughOnly(t *testing.T) {
	for _, tt := range []struct {
		name string
		p    Packet
		ok   bool
	}{
		{"version", Packet{Type: CmdRequest, Name: "version"}, true},
		{"initiate", Packet{Type: CmdRequest, Name: "initiate", Message: Message{Value("ike", "a"), Value("child", "b"),
			Value("timeout", "-1")}}, true},
		{"traps", Packet{Type: CmdRequest, Name: "list-policies", Message: Message{Value("trap", "yes")}}, true},
		{"event", Packet{Type: EventRegister, Name: "child-updown"}, true},
		{"no event", Packet{Type: EventUnregister, Name: "list-sa"}, true},

		{"script", Packet{Type: CmdRequest, Name: "load-conn",
			Message: Message{Section("c", Section("children", Section("x", Value("updown", "/tmp/x"))))}}, false},
		{"key", Packet{Type: CmdRequest, Name: "load-shared"}, false},
		{"delete", Packet{Type: CmdRequest, Name: "terminate", Message: Message{Value("ike", "a")}}, false},
		{"reload", Packet{Type: CmdRequest, Name: "reload-settings"}, false},
		{"keys in logs", Packet{Type: EventRegister, Name: "log"}, false},
		{"other argument", Packet{Type: CmdRequest, Name: "initiate", Message: Message{Value("loglevel", "4")}}, false},
		{"argument of none", Packet{Type: CmdRequest, Name: "version", Message: Message{Value("x", "y")}}, false},
		{"twice", Packet{Type: CmdRequest, Name: "initiate", Message: Message{Value("ike", "a"), Value("ike", "b")}},
			false},
		{"list", Packet{Type: CmdRequest, Name: "initiate", Message: Message{List("ike", "a")}}, false},
		{"section", Packet{Type: CmdRequest, Name: "initiate", Message: Message{Section("ike")}}, false},
		{"answer", Packet{Type: CmdResponse}, false},
		{"charon's event", Packet{Type: Event, Name: "child-updown"}, false},
	} {
		b, err := tt.p.Append(nil)
		if err != nil {
			t.Fatalf("%s: %v", tt.name, err)
		}
		var charon bytes.Buffer
		err = Filter(&charon, bytes.NewReader(append(bytes.Clone(b), b...)))
		if tt.ok && (err != nil || !bytes.Equal(charon.Bytes(), append(bytes.Clone(b), b...))) {
			t.Errorf("%s: %v, charon gets %x", tt.name, err, charon.Bytes())
		}
		if !tt.ok && (!errors.Is(err, ErrRefused) || charon.Len() != 0) {
			t.Errorf("%s: %v, charon gets %x", tt.name, err, charon.Bytes())
		}
	}
}

// FuzzFilter: whatever a client sends, charon gets whole packets that are allowed.
func FuzzFilter(f *testing.F) {
	for _, p := range []Packet{{Type: CmdRequest, Name: "version"}, {Type: CmdRequest, Name: "load-conn"}} {
		b, err := p.Append(nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var charon bytes.Buffer
		_ = Filter(&charon, bytes.NewReader(b))
		for charon.Len() > 0 {
			p, err := ReadPacket(&charon)
			if err != nil {
				t.Fatalf("charon gets what is no packet: %v", err)
			}
			if err := Check(p); err != nil {
				t.Errorf("charon gets %v", err)
			}
		}
	})
}

package nodes

import (
	"strings"
	"testing"
	"time"

	"sasyncd/tests/harness"
	"sasyncd/tests/harness/wire"
)

// Two machines reach each other over the switch; one stands still, goes on, and
// loses its power.
func TestTwoMachines(t *testing.T) {
	sw, err := wire.NewSwitch(1, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(sw.Close)
	var ms []*harness.Machine
	for i, name := range []string{"one", "two"} {
		p, err := sw.Port("lan", name)
		if err != nil {
			t.Fatal(err)
		}
		m, err := harness.Boot(harness.MachineConfig{Name: name, Ports: []string{p.Path}})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(m.Cut)
		ms = append(ms, m)
		var out string
		lines := "link set vec0 up\naddr add 10.0.0." + string(rune('1'+i)) + "/24 dev vec0\n"
		if err := m.Call(time.Minute, "Agent.Run", harness.Command{Args: []string{"ip", "-batch", "-"}, Stdin: lines},
			&out); err != nil {
			t.Fatal(err)
		}
	}
	// Who lives refuses the connection, who does not says nothing.
	answers := func() bool {
		var out string
		knock := harness.Command{Args: []string{"timeout", "3", "bash", "-c", "echo >/dev/tcp/10.0.0.2/9"}}
		err := ms[0].Call(time.Minute, "Agent.Run", knock, &out)
		return err != nil && strings.Contains(err.Error(), "refused")
	}
	if !answers() {
		t.Fatalf("the other machine does not answer\n%s", ms[0].ConsoleEnd())
	}
	if err := ms[1].Freeze(); err != nil {
		t.Fatal(err)
	}
	if answers() {
		t.Error("a frozen machine answers")
	}
	if err := ms[1].Thaw(); err != nil {
		t.Fatal(err)
	}
	if !answers() {
		t.Errorf("a machine that was frozen does not answer any more\n%s", ms[1].ConsoleEnd())
	}
	ms[1].Cut()
	if answers() {
		t.Error("a machine without power answers")
	}
}

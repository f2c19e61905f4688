// Package lab builds networks out of network namespaces: nodes, the switches
// between them, and the means to break them.
//
//	fabric namespace                 node namespaces
//	┌────────────────────┐
//	│  bridge "lan"      │  veth
//	│   ├ port lan-gw1 ══╪══════════ lan0  gw1
//	│   └ port lan-gw2 ══╪══════════ lan0  gw2
//	└────────────────────┘
//
// Every cable's outer end is a bridge port in the fabric namespace, out of
// reach of the node: that is where cables are pulled, directions blocked,
// delay added and packets captured.
//
// Namespaces are anonymous: nothing on the host has a name that could
// clash, and all of it vanishes with the process.
//
// Functions that set things up end the test when they fail, and must be called
// from the test's own goroutine. Package lab needs a kernel with ESP only for
// what uses ESP, but root always: run under [sasyncd/tests/harness.Main].
package lab

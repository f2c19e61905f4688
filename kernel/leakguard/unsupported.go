package leakguard

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// lacks reports whether an error may mean that the kernel does not have what it was asked
// for.
func lacks(err error) bool {
	return slices.ContainsFunc([]unix.Errno{unix.ENOENT, unix.EOPNOTSUPP, unix.EPROTONOSUPPORT, unix.EAFNOSUPPORT},
		func(e unix.Errno) bool { return errors.Is(err, e) })
}

// withoutTables judges why the packet filter cannot be asked for anything. A kernel that
// has netfilter and not nf_tables answers EINVAL.
func withoutTables(err error) error {
	if lacks(err) || errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("%w: nf_tables is not in this kernel: load the module nf_tables, or use a kernel with "+
			"CONFIG_NF_TABLES and CONFIG_NF_TABLES_INET: %w", ErrUnsupported, err)
	}
	return err
}

// needs are what the table needs beside the base of nf_tables.
var needs = []struct {
	name, option string
	what         matches
}{
	{"chains of family inet", "CONFIG_NF_TABLES_INET", nil},
	{"the expression rt ipsec", "CONFIG_XFRM, of Linux 5.0 or later", encrypted()},
	{"the expression fib", "CONFIG_NFT_FIB_INET with CONFIG_NFT_FIB_IPV4 and CONFIG_NFT_FIB_IPV6", fromLocal()},
	{"the expression meta oifkind", "version 5.1 or later", leavesByKind("xfrm")},
	{"the expression exthdr", "CONFIG_NF_TABLES", laterFragment(true)},
	{"the expression bitwise", "CONFIG_NF_TABLES", laterFragment(false)},
}

// Supported reports whether the kernel has what the table needs: it is nil,
// ErrUnsupported, or why that cannot be told. It changes nothing.
func (f *Filter) Supported(ctx context.Context) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return err
	}
	err := f.send(func(c *nftables.Conn) error {
		for _, n := range needs {
			try(c, n.what)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("try leak guard: %w", f.explain(err))
	}
	return nil
}

// explain says which of the needs the kernel lacks, if that is why it refused the table.
func (f *Filter) explain(err error) error {
	if !lacks(err) {
		return err
	}
	for _, n := range needs {
		if perr := f.send(func(c *nftables.Conn) error {
			try(c, n.what)
			return nil
		}); lacks(perr) {
			return fmt.Errorf("%w: it lacks %s: use one with %s: %w", ErrUnsupported, n.name, n.option, perr)
		}
	}
	return err
}

// try makes a rule in a table that the same transaction deletes.
func try(c *nftables.Conn, what matches) {
	t := &nftables.Table{Name: tableName + "-probe", Family: nftables.TableFamilyINet}
	priority := *nftables.ChainPriorityNATSource
	c.AddTable(t)
	chain := c.AddChain(&nftables.Chain{Table: t, Name: "probe", Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookPostrouting, Priority: &priority})
	c.AddRule(&nftables.Rule{Table: t, Chain: chain, Exprs: append(slices.Clone(what), back())})
	c.DelTable(t)
}

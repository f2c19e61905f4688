package xfrm

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"

	"golang.org/x/sys/unix"

	"sasyncd/kernel/netlink"
	"sasyncd/sync/sadb"
)

const (
	// batchMessages is where larger batches stop being faster.
	batchMessages = 100
	// batchBytes keeps a batch of unusually large messages within the socket
	// buffer an unprivileged system allows.
	batchBytes = 96 << 10
)

// OpError is the kernel's refusal of one operation. It matches the errno,
// fs.ErrExist (EEXIST), fs.ErrNotExist (ENOENT, ESRCH) and fs.ErrPermission
// with errors.Is.
type OpError struct {
	Kind  sadb.OpKind
	Item  string // the identity, as `ip xfrm` names it
	Errno syscall.Errno
	Text  string // the kernel's explanation, if any
}

// Error names the operation, the item and the reason. It holds no keys.
func (e *OpError) Error() string {
	return fmt.Sprintf("%s %s: %v", e.Kind, e.Item, netlink.Result{Errno: e.Errno, Text: e.Text}.Err())
}

// Unwrap returns the errno.
func (e *OpError) Unwrap() error { return e.Errno }

// Is maps ESRCH, which XFRM uses for an absent SA, to fs.ErrNotExist, and ERANGE, which it
// uses for the CPU of an SA, to sadb.ErrNoCPU.
func (e *OpError) Is(target error) bool {
	return target == fs.ErrNotExist && e.Errno == unix.ESRCH || target == sadb.ErrNoCPU && e.Errno == unix.ERANGE
}

// Apply executes ops in order, many to a system call. A failure does not stop
// those behind it. The result has one entry per op, nil where it succeeded;
// deleting what is absent succeeds. When ctx ends, the ops not yet sent get its
// error.
//
// An added SA or policy is tagged as ours unless its Tag or Index is already
// one of ours.
func (k *Kernel) Apply(ctx context.Context, ops []sadb.Op) []error {
	errs := make([]error, len(ops))
	k.applying.Lock()
	defer k.applying.Unlock()
	for start := 0; start < len(ops); {
		if err := ctx.Err(); err != nil {
			for i := start; i < len(ops); i++ {
				errs[i] = err
			}
			return errs
		}
		start += k.applyBatch(ops[start:], errs[start:])
	}
	return errs
}

// applyBatch sends the first of ops in one datagram and returns how many it
// took. Ops that cannot be encoded fail without being sent.
func (k *Kernel) applyBatch(ops []sadb.Op, errs []error) (taken int) {
	now := k.now().Unix()
	var sent [batchMessages]int // index into ops of each message
	n := 0
	err := k.write.Batch(func(b *netlink.Batch) {
		for ; taken < len(ops) && n < batchMessages && len(b.Data) < batchBytes; taken++ {
			op := &ops[taken]
			b.Begin(opMessage(op.Kind))
			if b.Data, errs[taken] = k.appendOp(b.Data, op, now); errs[taken] != nil {
				b.Drop()
				continue
			}
			b.End()
			sent[n] = taken
			n++
		}
	}, func(i int, res netlink.Result) {
		op := &ops[sent[i]]
		if isDelete(op.Kind) && (res.Errno == unix.ESRCH || res.Errno == unix.ENOENT) {
			return
		}
		errs[sent[i]] = &OpError{Kind: op.Kind, Item: opItem(op), Errno: res.Errno, Text: res.Text}
	})
	if err != nil {
		for _, i := range sent[:n] {
			if errs[i] == nil {
				errs[i] = fmt.Errorf("%s %s: %w", ops[i].Kind, opItem(&ops[i]), err)
			}
		}
	}
	return taken
}

func opMessage(kind sadb.OpKind) (typ, flags uint16) {
	switch kind {
	case sadb.OpAddSA:
		return msgNewSA, unix.NLM_F_CREATE | unix.NLM_F_EXCL
	case sadb.OpUpdateSA:
		return msgUpdSA, unix.NLM_F_REPLACE
	case sadb.OpDeleteSA:
		return msgDelSA, 0
	case sadb.OpSetCounters:
		return msgNewAE, unix.NLM_F_REPLACE // refused without
	case sadb.OpAddPolicy:
		return msgNewPolicy, unix.NLM_F_CREATE | unix.NLM_F_EXCL
	case sadb.OpUpdatePolicy:
		return msgUpdPolicy, unix.NLM_F_REPLACE
	case sadb.OpDeletePolicy:
		return msgDelPolicy, 0
	}
	return 0, 0
}

func isDelete(kind sadb.OpKind) bool {
	return kind == sadb.OpDeleteSA || kind == sadb.OpDeletePolicy
}

var errIncomplete = errors.New("operation without its sa or policy")

func (k *Kernel) appendOp(b []byte, op *sadb.Op, now int64) ([]byte, error) {
	switch op.Kind {
	case sadb.OpAddSA, sadb.OpUpdateSA, sadb.OpDeleteSA, sadb.OpSetCounters:
		if op.SA == nil {
			return b, fmt.Errorf("%s: %w", op.Kind, errIncomplete)
		}
	case sadb.OpAddPolicy, sadb.OpUpdatePolicy, sadb.OpDeletePolicy:
		if op.Policy == nil {
			return b, fmt.Errorf("%s: %w", op.Kind, errIncomplete)
		}
	default:
		return b, fmt.Errorf("%s: no such operation", op.Kind)
	}
	switch op.Kind {
	case sadb.OpAddSA, sadb.OpUpdateSA:
		tag := op.SA.Tag
		if !IsOurs(tag) {
			tag = k.tags.nextSA()
		}
		return k.encoder.appendSA(b, op.SA, tag, now)
	case sadb.OpDeleteSA:
		return appendSAID(b, op.SA.Key), nil
	case sadb.OpSetCounters:
		return appendCounters(b, op.SA, now)
	case sadb.OpDeletePolicy:
		return k.encoder.appendPolicyID(b, &op.Policy.Key)
	default:
		index := op.Policy.Index
		if !IsOurPolicy(index) && index&tagMask != tagBypass {
			index = k.tags.nextPolicy(op.Policy.Key.Dir)
		}
		return k.encoder.appendPolicy(b, op.Policy, index)
	}
}

func opItem(op *sadb.Op) string {
	switch {
	case op.SA != nil:
		return op.SA.Key.String()
	case op.Policy != nil:
		return op.Policy.Key.String()
	}
	return "?"
}

package daemon

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// The control protocol: a unix stream socket, one JSON object per line. Each
// request is answered by any number of data lines and one last line, in order.
//
//	-> {"verb":"show","args":{"what":"sa"}}
//	<- {"data":{...}}
//	<- {"data":{...}}
//	<- {"ok":true}            or  {"error":"what went wrong","code":"failed"}
//
// A connection may carry several requests, one after the other. A client that
// hangs up cancels the request that is being answered.

// maxRequest limits a request line. Answers are limited per line by what a
// client reads, maxAnswer; a long list is sent as many lines.
const (
	maxRequest = 64 << 10
	maxAnswer  = 16 << 20
)

type request struct {
	Verb string          `json:"verb"`
	Args json.RawMessage `json:"args,omitempty"`
}

type response struct {
	Data  json.RawMessage `json:"data,omitempty"`
	OK    bool            `json:"ok,omitempty"`
	Error string          `json:"error,omitempty"`
	Code  Code            `json:"code,omitempty"`
}

// Code is the kind of a refusal.
type Code string

// Codes of refusals.
const (
	CodeBad     Code = "bad"     // not a request, or arguments that cannot be
	CodeUnknown Code = "unknown" // no such verb
	CodeDenied  Code = "denied"  // the verb changes state and the caller may not
	CodeFailed  Code = "failed"  // tried, did not work
)

// CallError is an answer that refuses a request.
type CallError struct {
	Code    Code
	Message string
}

// Error returns the message.
func (e *CallError) Error() string { return e.Message }

// Bad returns an error that blames the arguments of a request.
func Bad(format string, args ...any) error {
	return &CallError{CodeBad, fmt.Sprintf(format, args...)}
}

// ErrUnreachable means that no daemon answers on the socket.
var ErrUnreachable = errors.New("daemon is not reachable")

// Peer is who is on the other end of the control socket, as the kernel says.
type Peer struct {
	PID      int32
	UID, GID uint32
}

// Call is one request that is being answered.
type Call struct {
	Verb string
	Args json.RawMessage
	Peer Peer

	send func(response) error
}

// Decode reads the arguments into v. Unknown fields and anything behind them
// are refused; without arguments v stays as it is.
func (c *Call) Decode(v any) error {
	if len(c.Args) == 0 {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(c.Args))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return Bad("arguments of %s: %v", c.Verb, err)
	}
	if _, err := d.Token(); err != io.EOF {
		return Bad("arguments of %s: more than one value", c.Verb)
	}
	return nil
}

// Send sends one line of data. An error means that the client is gone.
func (c *Call) Send(v any) error {
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encode answer: %w", err)
	}
	return c.send(response{Data: data})
}

// encode returns one line.
func encode(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	return append(b, '\n'), err
}

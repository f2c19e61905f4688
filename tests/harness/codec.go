package harness

import (
	"bufio"
	"bytes"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"net/rpc"
	"os"
	"path/filepath"
)

// Requests to a machine go by files that both sides see, and only the file's number
// goes over the serial line: user-mode-linux never again listens to a line on
// which more came at once than its reader could take (line_throttle in the
// kernel's arch/um/drivers/line.c, which nothing undoes). Answers go over the
// line, as gob.

// requestFile is the name of a request's file in the directory of requests.
func requestFile(dir string, n uint64) string {
	return filepath.Join(dir, fmt.Sprintf("request-%d", n))
}

// callerCodec is the host's side.
type callerCodec struct {
	*gob.Decoder
	line io.ReadWriteCloser
	dir  string
	last uint64
}

func newCallerCodec(line io.ReadWriteCloser, dir string) rpc.ClientCodec {
	return &callerCodec{Decoder: gob.NewDecoder(line), line: line, dir: dir}
}

func (c *callerCodec) WriteRequest(r *rpc.Request, body any) error {
	c.last++
	f, err := os.OpenFile(requestFile(c.dir, c.last), os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	enc := gob.NewEncoder(f)
	if err := errors.Join(enc.Encode(r), enc.Encode(body), f.Close()); err != nil {
		return err
	}
	_, err = fmt.Fprintf(c.line, "%d\n", c.last)
	return err
}

func (c *callerCodec) ReadResponseHeader(r *rpc.Response) error { return c.Decode(r) }
func (c *callerCodec) ReadResponseBody(body any) error          { return c.Decode(body) }
func (c *callerCodec) Close() error                             { return c.line.Close() }

// agentCodec is the guest's side.
type agentCodec struct {
	numbers *bufio.Reader
	answers *bufio.Writer
	enc     *gob.Encoder
	line    io.ReadWriteCloser
	dir     string
	request *gob.Decoder // of the file that is being read
}

func newAgentCodec(line io.ReadWriteCloser, dir string) rpc.ServerCodec {
	w := bufio.NewWriter(line)
	return &agentCodec{numbers: bufio.NewReader(line), answers: w, enc: gob.NewEncoder(w), line: line, dir: dir}
}

func (c *agentCodec) ReadRequestHeader(r *rpc.Request) error {
	var n uint64
	if _, err := fmt.Fscanf(c.numbers, "%d\n", &n); err != nil {
		return err
	}
	name := requestFile(c.dir, n)
	b, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	if err := os.Remove(name); err != nil {
		return err
	}
	c.request = gob.NewDecoder(bytes.NewReader(b))
	return c.request.Decode(r)
}

func (c *agentCodec) ReadRequestBody(body any) error { return c.request.Decode(body) }

func (c *agentCodec) WriteResponse(r *rpc.Response, body any) error {
	return errors.Join(c.enc.Encode(r), c.enc.Encode(body), c.answers.Flush())
}

func (c *agentCodec) Close() error { return c.line.Close() }

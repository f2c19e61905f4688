package api

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
)

// maxLine is the longest line that is read, in bytes. A status of thousands of
// VIPs fits; more than that is not one of ours.
const maxLine = 4 << 20

var (
	errLine      = errors.New("line is too long")
	errNoRequest = errors.New("line is not a JSON object of ours")
)

// lines reads one JSON object per line.
type lines struct {
	r   *bufio.Reader
	max int
	buf []byte
}

func newLines(r io.Reader, limit int) *lines {
	return &lines{r: bufio.NewReader(r), max: limit}
}

// next decodes the next line into v. Unknown fields are ignored, so that N and
// N-1 interwork.
func (l *lines) next(v any) error {
	l.buf = l.buf[:0]
	for {
		part, err := l.r.ReadSlice('\n')
		l.buf = append(l.buf, part...)
		if len(l.buf) > l.max {
			return errLine
		}
		if err == nil {
			break
		}
		if !errors.Is(err, bufio.ErrBufferFull) {
			return err
		}
	}
	if err := json.Unmarshal(bytes.TrimSpace(l.buf), v); err != nil {
		return fmt.Errorf("decode line: %w: %w", errNoRequest, err)
	}
	return nil
}

// line encodes v as one line.
func line(v any) ([]byte, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode line: %w", err)
	}
	return append(b, '\n'), nil
}

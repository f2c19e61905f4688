// Package ask asks a carpd, as its control program does.
package ask

import (
	"context"
	"fmt"
	"time"

	"sasyncd/carp/api"
)

// Carpd sends a request and returns the answer. The error is that of the socket, or what
// carpd refuses the request with.
func Carpd(socket string, r api.Request, limit time.Duration) (api.Message, error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	c, err := api.Dial(ctx, socket)
	if err != nil {
		return api.Message{}, err
	}
	defer c.Close()
	return c.Call(ctx, r)
}

// Group returns the state of the only group of a carpd.
func Group(socket string, limit time.Duration) (*api.GroupState, error) {
	m, err := Carpd(socket, api.Request{Verb: api.VerbStatus}, limit)
	if err != nil {
		return nil, err
	}
	if len(m.Groups) != 1 {
		return nil, fmt.Errorf("carpd has %d groups, want 1", len(m.Groups))
	}
	return &m.Groups[0], nil
}

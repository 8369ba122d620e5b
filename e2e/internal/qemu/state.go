package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"
)

// Save stops the machine, writes the state of its devices into a file and ends QEMU. The memory is in its file already.
func (p *Process) Save(ctx context.Context, path string) error {
	if err := p.save(ctx, path); err != nil {
		return fmt.Errorf("cannot save the machine: %w", err)
	}
	return nil
}

func (p *Process) save(ctx context.Context, path string) error {
	if err := p.monitor.do(ctx, "stop", nil, nil); err != nil {
		return err
	}
	if err := p.shareMemory(ctx); err != nil {
		return err
	}
	// A machine that was restored has seen a transfer end before.
	before := p.monitor.mark()
	uri := map[string]any{"uri": "exec:cat >" + quote(path)}
	if err := p.monitor.do(ctx, "migrate", uri, nil); err != nil {
		return err
	}
	if err := p.migrated(ctx, before); err != nil {
		return err
	}
	if err := p.monitor.do(ctx, "quit", nil, nil); err != nil {
		return err
	}
	select {
	case <-p.exited:
		return p.Agent.Close()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Restore starts a machine in the state that Save wrote. The boot must name the same kernel and memory file as the
// saved one, and a disk with the same contents.
func Restore(ctx context.Context, h Hardware, b Boot, path string) (*Process, error) {
	p, err := start(ctx, args(h, b, b.words(), true))
	if err != nil {
		return nil, fmt.Errorf("cannot restore the machine: %w", err)
	}
	if err := p.restore(ctx, path); err != nil {
		return nil, errors.Join(fmt.Errorf("cannot restore the machine: %w", err), p.Kill(), p.Err())
	}
	return p, nil
}

func (p *Process) restore(ctx context.Context, path string) error {
	// A bad state makes QEMU exit or hang, and a good one takes a fraction of this.
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	if err := p.shareMemory(ctx); err != nil {
		return err
	}
	before := p.monitor.mark()
	uri := map[string]any{"uri": "exec:cat " + quote(path)}
	if err := p.monitor.do(ctx, "migrate-incoming", uri, nil); err != nil {
		return err
	}
	if err := p.migrated(ctx, before); err != nil {
		return err
	}
	return p.monitor.do(ctx, "cont", nil, nil) // a machine that was saved while stopped arrives stopped
}

// shareMemory leaves the memory out of the state and has QEMU report how the transfer goes.
func (p *Process) shareMemory(ctx context.Context) error {
	on := func(name string) map[string]any { return map[string]any{"capability": name, "state": true} }
	return p.monitor.do(ctx, "migrate-set-capabilities",
		map[string]any{"capabilities": []any{on("x-ignore-shared"), on("events")}}, nil)
}

// migrated waits for the end of the transfer that began after the mark.
func (p *Process) migrated(ctx context.Context, since int) error {
	var last string
	err := p.monitor.await(ctx, since, "MIGRATION", func(data json.RawMessage) bool {
		var status struct {
			Status string `json:"status"`
		}
		if json.Unmarshal(data, &status) != nil {
			return false
		}
		last = status.Status
		return last == "completed" || last == "failed"
	})
	if err == nil && last == "failed" {
		err = errors.New("QEMU could not transfer the state")
	}
	return err
}

// quote makes a path one word for the shell that QEMU's exec: starts.
func quote(path string) string { return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'" }

package audiopriority

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

// Quantum is the forced quantum of one user's PipeWire, which is reached by that
// user's own pw-metadata.
type Quantum struct {
	// Command is pw-metadata; Env is what it runs with, nil for our own.
	Command string
	Env     []string
	// Note is the file that says what was there before, for as long as it is forced.
	Note string
}

// quantumNote is what Note holds.
type quantumNote struct {
	Before int `json:"before"`
	Forced int `json:"forced"`
}

// Hold forces a quantum, calls ready, and returns when ctx ends, with nil, or when
// PipeWire has gone and the quantum with it, with an error. It puts nothing back:
// Release does, after whatever end.
func (q Quantum) Hold(ctx context.Context, samples int, ready func() error) error {
	before, err := q.get(ctx)
	if err != nil {
		return err
	}
	data, err := json.Marshal(quantumNote{before, samples})
	if err == nil {
		err = os.WriteFile(q.Note, data, 0o600)
	}
	if err != nil {
		return fmt.Errorf("cannot note what the quantum was: %w", err)
	}
	if err := q.set(ctx, samples); err != nil {
		return err
	}
	monitor := q.command(ctx, "-m", "-n", "settings", "0", quantumKey)
	if err := monitor.Start(); err != nil {
		return fmt.Errorf("cannot watch PipeWire: %w", err)
	}
	if err := ready(); err != nil {
		return errors.Join(err, monitor.Cancel(), ignoreExit(monitor.Wait()))
	}
	err = monitor.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return fmt.Errorf("PipeWire has gone, and the quantum with it (%v)", err)
}

// Release puts back what was there before Hold, where its value is still forced: a
// person who has changed it since has the last word. Of a PipeWire that has gone
// nothing is to be put back.
func (q Quantum) Release(ctx context.Context) (said string, err error) {
	data, err := os.ReadFile(q.Note)
	if errors.Is(err, fs.ErrNotExist) {
		return "nothing was forced", nil
	}
	var was quantumNote
	if err == nil {
		err = json.Unmarshal(data, &was)
	}
	if err != nil {
		return "", fmt.Errorf("cannot read what the quantum was: %w", err)
	}
	now, err := q.get(ctx)
	switch {
	case err != nil:
		said = "there is nothing to put back: " + err.Error()
	case now != was.Forced:
		said = fmt.Sprintf("left alone, it is %d by now", now)
	default:
		said = fmt.Sprintf("put back to %d", was.Before)
		if err := q.set(ctx, was.Before); err != nil {
			return "", err
		}
	}
	return said, os.Remove(q.Note)
}

const quantumKey = "clock.force-quantum"

// quantumWords are how pw-metadata tells the value.
const quantumWords = "key:'" + quantumKey + "' value:'"

func (q Quantum) get(ctx context.Context) (int, error) {
	out, err := q.run(ctx)
	if err != nil {
		return 0, err
	}
	_, value, _ := strings.Cut(out, quantumWords)
	value, _, told := strings.Cut(value, "'")
	n, err := strconv.ParseUint(value, 10, strconv.IntSize-1)
	if !told || err != nil {
		return 0, fmt.Errorf("cannot read PipeWire's quantum: pw-metadata says %q", out)
	}
	return int(n), nil
}

// set is done when the value has been read back.
func (q Quantum) set(ctx context.Context, samples int) error {
	if _, err := q.run(ctx, strconv.Itoa(samples)); err != nil {
		return err
	}
	now, err := q.get(ctx)
	if err == nil && now != samples {
		err = fmt.Errorf("PipeWire's quantum is %d, not %d", now, samples)
	}
	return err
}

func (q Quantum) run(ctx context.Context, value ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	cmd := q.command(ctx, append([]string{"-n", "settings", "0", quantumKey}, value...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("cannot reach PipeWire: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}

// command is one that ends with our unit, however that ends.
func (q Quantum) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, q.Command, args...)
	cmd.Env = q.Env
	return cmd
}

// ignoreExit takes away that a program ended as it was told to.
func ignoreExit(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil
	}
	return err
}

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

// Quantum is the forced quantum of one user's PipeWire, set by pw-metadata as that user.
type Quantum struct {
	// Command is the path of pw-metadata; Env its environment, nil for that of the process.
	Command string
	Env     []string
	// Note is the path of the file that has the previous quantum while one is forced.
	Note string
}

// quantumNote is the content of Note.
type quantumNote struct {
	Before int `json:"before"`
	Forced int `json:"forced"`
}

// Hold forces a quantum of so many samples, calls ready, and returns nil when ctx ends,
// or an error when PipeWire exits. It does not restore the quantum: Release does, however
// Hold ends.
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
		return fmt.Errorf("cannot save the previous quantum: %w", err)
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
	return fmt.Errorf("PipeWire has exited, and its quantum is lost (%v)", err)
}

// Release restores the quantum from before Hold, unless the user has changed it since or
// PipeWire does not run. outcome describes what it has done.
func (q Quantum) Release(ctx context.Context) (outcome string, err error) {
	data, err := os.ReadFile(q.Note)
	if errors.Is(err, fs.ErrNotExist) {
		return "no quantum was forced", nil
	}
	var was quantumNote
	if err == nil {
		err = json.Unmarshal(data, &was)
	}
	if err != nil {
		return "", fmt.Errorf("cannot read the previous quantum: %w", err)
	}
	now, err := q.get(ctx)
	switch {
	case err != nil:
		outcome = "no quantum to restore: " + err.Error()
	case now != was.Forced:
		outcome = fmt.Sprintf("quantum not restored: it was changed to %d", now)
	default:
		outcome = fmt.Sprintf("quantum restored to %d", was.Before)
		if err := q.set(ctx, was.Before); err != nil {
			return "", err
		}
	}
	return outcome, os.Remove(q.Note)
}

const quantumKey = "clock.force-quantum"

// quantumPrefix is the text before the value in the output of pw-metadata.
const quantumPrefix = "key:'" + quantumKey + "' value:'"

func (q Quantum) get(ctx context.Context) (int, error) {
	out, err := q.run(ctx)
	if err != nil {
		return 0, err
	}
	_, value, _ := strings.Cut(out, quantumPrefix)
	value, _, found := strings.Cut(value, "'")
	n, err := strconv.ParseUint(value, 10, strconv.IntSize-1)
	if !found || err != nil {
		return 0, fmt.Errorf("cannot read PipeWire's quantum: unexpected output of pw-metadata: %q", out)
	}
	return int(n), nil
}

// set sets the quantum and reads it back.
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
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	cmd := q.command(ctx, append([]string{"-n", "settings", "0", quantumKey}, value...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("cannot connect to PipeWire: %w: %s", err, strings.TrimSpace(string(out)))
	}
	return string(out), nil
}

// command runs pw-metadata in the control group of the unit, so that systemd ends it with
// the unit.
func (q Quantum) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, q.Command, args...)
	cmd.Env = q.Env
	return cmd
}

// ignoreExit drops the error of a program that was stopped.
func ignoreExit(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil
	}
	return err
}

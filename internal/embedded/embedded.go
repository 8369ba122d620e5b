// Package embedded runs the real dubniumd, modectl and dubnium-probe over a
// simulated workstation on a private bus: for `make demo` and for the tests that
// try the programs rather than the packages. Nothing of the machine it runs on
// is touched: it refuses the real bus and the real directories.
package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/pelletier/go-toml/v2"

	"github.com/dubnium/dubnium/internal/testhost"
	"github.com/dubnium/dubnium/policy"
)

// Programs is a directory with the three programs.
type Programs string

// Build builds the programs of the module that the caller stands in into dir.
func Build(ctx context.Context, dir string) (Programs, error) {
	cmd := exec.CommandContext(ctx, "go", "build", "-o", dir+"/",
		"github.com/dubnium/dubnium/cmd/dubniumd",
		"github.com/dubnium/dubnium/cmd/modectl",
		"github.com/dubnium/dubnium/cmd/dubnium-probe")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("cannot build the programs: %w\n%s", err, out)
	}
	return Programs(dir), nil
}

func (p Programs) path(name string) string { return filepath.Join(string(p), name) }

// Options shape the workstation and the policy that the daemon has for it.
type Options struct {
	Host testhost.Options
	// Policy changes the policy before it is written.
	Policy func(*policy.Policy)
	// Log gets what the daemon says; nil: nobody does.
	Log io.Writer
}

// Workstation is a simulated machine with the daemon.
type Workstation struct {
	*testhost.Host
	Policy   policy.Policy
	programs Programs
	log      io.Writer
	daemon   *exec.Cmd
	told     chan string   // what the daemon tells systemd
	exited   chan struct{} // closed when the daemon has ended
	exit     error         // how, once exited is closed
}

// Start brings up the machine and the daemon, and returns when the daemon is
// ready.
func Start(ctx context.Context, programs Programs, opts Options) (_ *Workstation, err error) {
	dir, err := os.MkdirTemp("", "dubnium")
	if err != nil {
		return nil, fmt.Errorf("cannot make a directory: %w", err)
	}
	inForce := filepath.Join(dir, "run", "policy.toml") // what the daemon wrote, under Paths.Runtime
	opts.Host.ProbeCommand = []string{programs.path("dubnium-probe")}
	opts.Host.ProbeArgs = map[string][]string{"inference": {"--policy", inForce}, "holders": {"--policy", inForce}}
	host, err := testhost.Start(ctx, opts.Host)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	w := &Workstation{Host: host, programs: programs, log: opts.Log}
	w.Policy = w.policy(dir)
	if opts.Policy != nil {
		opts.Policy(&w.Policy)
	}
	if err := errors.Join(w.refuseReal(), w.writePolicy(), w.StartDaemon(ctx)); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

func (w *Workstation) policy(dir string) policy.Policy {
	p := policy.Default()
	p.Transitions = policy.TrustAll
	p.Paths = policy.Paths{
		Runtime: filepath.Join(dir, "run"), State: filepath.Join(dir, "state"), Probes: w.ProbeDir(),
		RebuildLock: filepath.Join(dir, "switch-to-configuration.lock"), Issue: filepath.Join(dir, "issue.d"),
	}
	p.VLLM.HealthURL, p.VLLM.MetricsURL = w.VLLMURL()+"/health", w.VLLMURL()+"/metrics"
	p.Announce.Grace = 0 // nobody is there to be warned
	p.VLLM.StartTimeout = policy.Duration(30 * time.Second)
	p.Timeouts.Verify = policy.Duration(20 * time.Second)
	return p
}

// refuseReal makes sure that nothing real can be touched.
func (w *Workstation) refuseReal() error {
	return testhost.RefuseRealBus(w.Address(), w.Policy.Paths.Runtime, w.Policy.Paths.State, w.Policy.Paths.Issue)
}

// dir is where the daemon's files are.
func (w *Workstation) dir() string { return filepath.Dir(w.Policy.Paths.State) }

func (w *Workstation) policyFile() string { return filepath.Join(w.dir(), "policy.toml") }

func (w *Workstation) writePolicy() error {
	data, err := toml.Marshal(w.Policy)
	if err != nil {
		return fmt.Errorf("cannot write the policy: %w", err)
	}
	return os.WriteFile(w.policyFile(), data, 0o644)
}

func (w *Workstation) environ() []string {
	return append(os.Environ(), "DBUS_SYSTEM_BUS_ADDRESS="+w.Address())
}

// DaemonCommand is dubniumd, ready to run on the machine.
func (w *Workstation) DaemonCommand(ctx context.Context) *exec.Cmd {
	cmd := exec.CommandContext(ctx, w.programs.path("dubniumd"), "--policy", w.policyFile(), "--proc", filepath.Join(w.Root(), "proc"),
		"--cgroups", filepath.Join(w.Root(), "sys/fs/cgroup"))
	cmd.Env = w.environ()
	return cmd
}

// StartDaemon starts the daemon, as systemd would, and waits until it says that
// it is ready.
func (w *Workstation) StartDaemon(ctx context.Context) error {
	socket := filepath.Join(w.Dir(), "notify")
	if err := os.RemoveAll(socket); err != nil {
		return err
	}
	listener, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("cannot listen for the daemon: %w", err)
	}
	w.daemon = w.DaemonCommand(context.WithoutCancel(ctx))
	w.daemon.Env = append(w.daemon.Env, "NOTIFY_SOCKET="+socket)
	var said bytes.Buffer
	w.daemon.Stderr = &said
	if w.log != nil {
		w.daemon.Stderr = w.log
	}
	if err := w.daemon.Start(); err != nil {
		return errors.Join(fmt.Errorf("cannot start the daemon: %w", err), listener.Close())
	}
	w.exited, w.told = make(chan struct{}), make(chan string, 64)
	go hear(listener, w.told)
	go func() {
		w.exit = w.daemon.Wait()
		_ = listener.Close()
		close(w.exited)
	}()
	if _, err := w.AwaitTold(ctx, "READY=1"); err != nil {
		return fmt.Errorf("the daemon is not ready: %w\n%s", err, &said)
	}
	return nil
}

// hear passes on what the daemon tells systemd, until the socket is closed. What
// nobody takes is dropped.
func hear(socket *net.UnixConn, told chan<- string) {
	message := make([]byte, 4096)
	for {
		n, err := socket.Read(message)
		if err != nil {
			return
		}
		select {
		case told <- string(message[:n]):
		default:
		}
	}
}

// AwaitTold waits until the daemon tells systemd something with this text in it,
// and returns all that it told until then.
func (w *Workstation) AwaitTold(ctx context.Context, text string) (string, error) {
	var all string
	for !strings.Contains(all, text) {
		select {
		case message := <-w.told:
			all += message + "\n"
		case <-w.exited:
			return all, fmt.Errorf("the daemon ended: %v", w.exit)
		case <-ctx.Done():
			return all, fmt.Errorf("the daemon told %q: %w", all, ctx.Err())
		}
	}
	return all, nil
}

// Reload has the daemon read this policy, as `systemctl reload` would, and
// returns what it told systemd until it was ready again.
func (w *Workstation) Reload(ctx context.Context, text string) (string, error) {
	if err := os.WriteFile(w.policyFile(), []byte(text), 0o644); err != nil {
		return "", err
	}
	if err := w.daemon.Process.Signal(syscall.SIGHUP); err != nil {
		return "", fmt.Errorf("cannot signal the daemon: %w", err)
	}
	return w.AwaitTold(ctx, "READY=1")
}

// KillDaemon ends the daemon with SIGKILL and waits until it is gone.
func (w *Workstation) KillDaemon() error { return w.endDaemon(syscall.SIGKILL) }

// StopDaemon ends the daemon as systemd would. Its error is the daemon's exit.
func (w *Workstation) StopDaemon() error { return w.endDaemon(syscall.SIGTERM) }

func (w *Workstation) endDaemon(signal syscall.Signal) error {
	if w.daemon == nil || w.daemon.Process == nil {
		return nil
	}
	err := w.daemon.Process.Signal(signal)
	if errors.Is(err, os.ErrProcessDone) {
		err = nil
	}
	<-w.exited
	w.daemon = nil
	if signal == syscall.SIGKILL {
		return err // its exit says that it was killed
	}
	return errors.Join(err, w.exit)
}

// DaemonPID is the process id of the daemon that StartDaemon started last.
func (w *Workstation) DaemonPID() int { return w.daemon.Process.Pid }

// AwaitDaemonExit waits until the daemon has ended by itself and returns its exit
// code. The error says that it did not end.
func (w *Workstation) AwaitDaemonExit(ctx context.Context) (code int, err error) {
	select {
	case <-w.exited:
		return w.daemon.ProcessState.ExitCode(), nil
	case <-ctx.Done():
		return 0, fmt.Errorf("the daemon still runs: %w", ctx.Err())
	}
}

// Close ends the daemon and the machine.
func (w *Workstation) Close() error {
	return errors.Join(w.KillDaemon(), w.Host.Close(), os.RemoveAll(w.dir()))
}

// ModectlCommand is modectl, ready to run on the machine.
func (w *Workstation) ModectlCommand(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, w.programs.path("modectl"), args...)
	cmd.Env = w.environ()
	return cmd
}

// Program is any of the programs, ready to run on the machine.
func (w *Workstation) Program(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, w.programs.path(name), args...)
	cmd.Env = w.environ()
	return cmd
}

// Modectl runs modectl and returns what it printed and how it exited. The error
// says that it could not be run at all.
func (w *Workstation) Modectl(ctx context.Context, args ...string) (stdout, stderr string, code int, err error) {
	return Run(w.ModectlCommand(ctx, args...))
}

// Run runs a command and returns what it printed and how it exited. The error
// says that it could not be run at all.
func Run(cmd *exec.Cmd) (stdout, stderr string, code int, err error) {
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		err = nil
	}
	if cmd.ProcessState != nil {
		code = cmd.ProcessState.ExitCode()
	}
	return out.String(), errs.String(), code, err
}

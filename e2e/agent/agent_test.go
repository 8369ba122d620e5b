package main

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/dubnium/dubnium/e2e/internal/guest"
	"github.com/dubnium/dubnium/e2e/internal/wire"
)

// begin runs the agent here, with a socket in place of the port, and returns the host's side.
func begin(t *testing.T, boot string) *guest.Client {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	require.NoError(t, err)
	file := os.NewFile(uintptr(fds[0]), "host")
	conn, err := net.FileConn(file)
	require.NoError(t, errors.Join(err, file.Close()))
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() {
		cancel()
		conn.Close()
	})
	s := &server{link: &port{fd: fds[1]}, bootID: boot, streams: map[uint32]*stream{}}
	go func() { _ = s.serve(ctx) }()
	c := guest.NewClient(conn)
	id, err := c.AwaitBoot(t.Context(), "")
	require.NoError(t, err)
	require.Equal(t, boot, id)
	return c
}

// output collects what a stream prints.
type output struct {
	mu   sync.Mutex
	text map[wire.Kind]string
}

func (o *output) take(f wire.Frame) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.text == nil {
		o.text = map[wire.Kind]string{}
	}
	o.text[f.Kind] += string(f.Body)
}

func (o *output) of(kind wire.Kind) string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text[kind]
}

func shell(text string) wire.Request {
	return wire.Request{Exec: &wire.Exec{Argv: []string{"/bin/sh", "-c", text}}}
}

func TestAProgramRunsWithItsOutputsInputAndCode(t *testing.T) {
	c, ctx := begin(t, "b"), t.Context()
	var out output
	req := shell("read word; echo out $word; echo err >&2; exit 5")
	req.Exec.Stdin = true
	s, err := c.Open(ctx, req, out.take)
	require.NoError(t, err)
	require.NoError(t, s.Send(ctx, strings.NewReader("in\n")))
	res, err := s.Wait(ctx)
	require.NoError(t, err)
	assert.Equal(t, 5, res.Code)
	assert.Equal(t, "out in\n", out.of(wire.Output))
	assert.Equal(t, "err\n", out.of(wire.ErrOutput))
}

func TestAProgramThatIsNotThereIsAnError(t *testing.T) {
	c, ctx := begin(t, "b"), t.Context()
	s, err := c.Open(ctx, wire.Request{Exec: &wire.Exec{Argv: []string{"/no/such"}}}, nil)
	require.NoError(t, err)
	_, err = s.Ready(ctx)
	assert.ErrorContains(t, err, "cannot start /no/such")
}

func TestSignalsReachTheWholeSession(t *testing.T) {
	c, ctx := begin(t, "b"), t.Context()
	s, err := c.Open(ctx, shell("sleep 100 & wait"), nil)
	require.NoError(t, err)
	pid, err := s.Ready(ctx)
	require.NoError(t, err)
	assert.NotZero(t, pid)
	require.NoError(t, s.Signal(ctx, syscall.SIGKILL))
	res, err := s.Wait(ctx)
	require.NoError(t, err)
	assert.Equal(t, 128+9, res.Code)
}

func TestWhatIsGivenUpIsKilled(t *testing.T) {
	c := begin(t, "b")
	s, err := c.Open(t.Context(), shell("sleep 100"), nil)
	require.NoError(t, err)
	pid, err := s.Ready(t.Context())
	require.NoError(t, err)
	short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err = s.Wait(short)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	assert.NoError(t, waitProcess(t.Context(), pid))
}

// A program that leaves a child behind with its output open has ended all the same.
func TestAChildThatStaysDoesNotHoldTheResult(t *testing.T) {
	c, ctx := begin(t, "b"), t.Context()
	var out output
	s, err := c.Open(ctx, shell("sleep 30 & echo $!"), out.take)
	require.NoError(t, err)
	began := time.Now()
	res, err := s.Wait(ctx)
	require.NoError(t, err)
	assert.Zero(t, res.Code)
	assert.Less(t, time.Since(began), 10*time.Second)
	s, err = c.Open(ctx, shell("kill "+out.of(wire.Output)), nil)
	require.NoError(t, err)
	_, err = s.Wait(ctx)
	require.NoError(t, err)
}

func TestATerminalIsOne(t *testing.T) {
	c, ctx := begin(t, "b"), t.Context()
	var out output
	req := shell("test -t 0 && stty size; read word; echo got $word")
	req.Exec.Terminal = &wire.Size{Rows: 33, Cols: 99}
	s, err := c.Open(ctx, req, out.take)
	require.NoError(t, err)
	require.NoError(t, s.Type(ctx, []byte("key\r")))
	res, err := s.Wait(ctx)
	require.NoError(t, err)
	assert.Zero(t, res.Code)
	assert.Contains(t, out.of(wire.Output), "33 99")
	assert.Contains(t, out.of(wire.Output), "got key")
}

func TestFilesGoThereAndBack(t *testing.T) {
	c, ctx := begin(t, "b"), t.Context()
	path := filepath.Join(t.TempDir(), "new", "file")
	body := bytes.Repeat([]byte("0123456789"), 10_000)
	s, err := c.Open(ctx, wire.Request{Put: &wire.Put{Path: path, Mode: 0o750}}, nil)
	require.NoError(t, err)
	require.NoError(t, s.Send(ctx, bytes.NewReader(body)))
	_, err = s.Wait(ctx)
	require.NoError(t, err)
	info, err := os.Stat(path)
	require.NoError(t, err)
	assert.Equal(t, fs.FileMode(0o750), info.Mode())

	var out output
	s, err = c.Open(ctx, wire.Request{Get: &wire.Get{Path: path}}, out.take)
	require.NoError(t, err)
	_, err = s.Wait(ctx)
	require.NoError(t, err)
	assert.Equal(t, string(body), out.of(wire.Output))
}

func TestATreeIsLaidOverWhatIsThere(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.Mkdir(filepath.Join(dir, "tmp"), 0o700))
	require.NoError(t, os.Symlink("old", filepath.Join(dir, "link")))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "file"), []byte("a longer text"), 0o600))
	var archive bytes.Buffer
	tw := tar.NewWriter(&archive)
	add := func(h tar.Header, body string) {
		h.Size, h.Uid, h.Gid = int64(len(body)), os.Getuid(), os.Getgid()
		require.NoError(t, tw.WriteHeader(&h))
		_, err := tw.Write([]byte(body))
		require.NoError(t, err)
	}
	add(tar.Header{Name: "tmp/", Typeflag: tar.TypeDir, Mode: 0o755}, "")
	add(tar.Header{Name: "a/b/c", Typeflag: tar.TypeReg, Mode: 0o755}, "x")
	add(tar.Header{Name: "file", Typeflag: tar.TypeReg, Mode: 0o644}, "short")
	add(tar.Header{Name: "link", Typeflag: tar.TypeSymlink, Linkname: "new"}, "")
	add(tar.Header{Name: "../../escape", Typeflag: tar.TypeReg, Mode: 0o644}, "inside")
	require.NoError(t, tw.Close())
	require.NoError(t, untar(wire.Untar{Dir: dir}, &archive))

	read := func(name string) string {
		b, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		return string(b)
	}
	assert.Equal(t, "short", read("file"))
	assert.Equal(t, "x", read("a/b/c"))
	assert.Equal(t, "inside", read("escape"))
	target, err := os.Readlink(filepath.Join(dir, "link"))
	require.NoError(t, err)
	assert.Equal(t, "new", target)
	info, err := os.Stat(filepath.Join(dir, "tmp"))
	require.NoError(t, err)
	assert.Equal(t, fs.FileMode(0o700), info.Mode().Perm(), "a directory that exists stays as it is")
}

func TestWaitsForFiles(t *testing.T) {
	path := filepath.Join(t.TempDir(), "deep", "er")
	time.AfterFunc(50*time.Millisecond, func() { assert.NoError(t, os.MkdirAll(path, 0o755)) })
	require.NoError(t, wait(t.Context(), wire.Wait{Exists: path, Timeout: time.Minute}))
	time.AfterFunc(50*time.Millisecond, func() { assert.NoError(t, os.Remove(path)) })
	require.NoError(t, wait(t.Context(), wire.Wait{Gone: path, Timeout: time.Minute}))
	err := wait(t.Context(), wire.Wait{Exists: path, Timeout: 20 * time.Millisecond})
	assert.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestWaitsForScripts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	time.AfterFunc(50*time.Millisecond, func() { assert.NoError(t, os.WriteFile(path, nil, 0o644)) })
	require.NoError(t, wait(t.Context(), wire.Wait{Script: "test -e " + path, Timeout: time.Minute}))
	err := wait(t.Context(), wire.Wait{Script: "echo saw this; false", Timeout: 2 * time.Second})
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	assert.ErrorContains(t, err, "saw this")
}

func TestARestartedAgentFailsTheStreamsOfTheOneBefore(t *testing.T) {
	ours, theirs := net.Pipe()
	c := guest.NewClient(ours)
	hello := func(boot string) {
		f, err := wire.JSON(wire.Hello, 0, wire.Greeting{BootID: boot})
		require.NoError(t, err)
		b, err := f.Append(nil)
		require.NoError(t, err)
		_, err = theirs.Write(b)
		require.NoError(t, err)
	}
	open := func() *guest.Stream {
		go func() { _, _ = theirs.Read(make([]byte, wire.MaxBody)) }()
		s, err := c.Open(t.Context(), shell("true"), nil)
		require.NoError(t, err)
		return s
	}
	hello("one")
	_, err := c.AwaitBoot(t.Context(), "")
	require.NoError(t, err)
	s := open()
	hello("one")
	_, err = s.Wait(t.Context())
	assert.ErrorContains(t, err, "started again")

	s = open()
	hello("two")
	_, err = s.Wait(t.Context())
	assert.ErrorIs(t, err, guest.ErrRebooted)
	id, err := c.AwaitBoot(t.Context(), "one")
	require.NoError(t, err)
	assert.Equal(t, "two", id)

	s = open()
	theirs.Close()
	_, err = s.Wait(t.Context())
	assert.ErrorContains(t, err, "the machine is gone")
	_, err = c.AwaitBoot(t.Context(), "two")
	assert.ErrorContains(t, err, "the machine is gone")
}

func TestBusValuesBecomeWhatJSONCanSay(t *testing.T) {
	for name, c := range map[string]struct{ value, want any }{
		"word":       {"x", "x"},
		"variant":    {dbus.MakeVariant(uint32(7)), uint32(7)},
		"nested":     {dbus.MakeVariant(dbus.MakeVariant("x")), "x"},
		"dictionary": {map[string]dbus.Variant{"a": dbus.MakeVariant(true)}, map[string]any{"a": true}},
		"numbers":    {map[uint32]string{4: "four"}, map[string]any{"4": "four"}},
		"struct":     {[]any{"a", dbus.MakeVariant([]string{"b"})}, []any{"a", []any{"b"}}},
		"bytes":      {[]byte("abc"), []byte("abc")},
	} {
		assert.Equal(t, c.want, plain(c.value), name)
	}
	iface, member := splitName("org.dubnium.Mode1.StateChanged")
	assert.Equal(t, "org.dubnium.Mode1", iface)
	assert.Equal(t, "StateChanged", member)
}

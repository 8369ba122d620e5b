package server

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/godbus/dbus/v5"
	"go.uber.org/zap"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/internal/busconn"
)

// call is a message without its arguments.
type call struct {
	ctx         context.Context
	path        dbus.ObjectPath
	sender      string
	uid         uint32
	interactive bool // the message permits a password prompt
	flags       uint64
	options     busapi.Dict
	// about is the record of a refusal, as far as the handler has filled it.
	about status.RejectedRequest
}

// method is a method of an interface. Its handler is a func(*call, arguments...)
// (results..., error). In the message flags and options follow the arguments, except for
// the standard interfaces.
type method struct {
	handler any
	// flags and options are the known ones. Others are refused, so that a later version
	// can define them.
	flags   uint64
	options []string
	// changes names the method in the record of a refusal. Empty: refusals are not
	// recorded.
	changes string
	// ration limits the calls of each user except root.
	ration rationClass
	// standard: of an interface of the D-Bus specification.
	standard bool
}

var optionTypes = []reflect.Type{reflect.TypeFor[uint64](), reflect.TypeFor[busapi.Dict]()}

// signature returns the signatures of the arguments and of the results.
func (m method) signature() (in, out string) {
	t := reflect.TypeOf(m.handler)
	types := slices.Collect(t.Ins())[1:]
	if !m.standard {
		types = append(types, optionTypes...)
	}
	return signatureOf(types), signatureOf(slices.Collect(t.Outs())[:t.NumOut()-1])
}

func signatureOf(types []reflect.Type) string {
	var signature string
	for _, t := range types {
		signature += dbus.SignatureOfType(t).String()
	}
	return signature
}

// find returns the method of a message. A message without an interface selects the first
// interface with a method of that name, as the specification permits.
func (s *Server) find(m busconn.Call) (name string, found method, err error) {
	path := dbus.ObjectPath(m.Path)
	for _, table := range s.tables {
		if m.Interface != "" && m.Interface != table.name || !table.serves(path) {
			continue
		}
		if found, known := table.methods[m.Member]; known {
			return table.name + "." + m.Member, found, nil
		}
		if m.Interface != "" {
			return "", method{}, busapi.Refuse(busapi.ErrUnknownMethod, "%s has no method %q", table.name, m.Member)
		}
	}
	switch {
	case path != busapi.Path:
		return "", method{}, unknownObject(path)
	case m.Interface == "":
		return "", method{}, busapi.Refuse(busapi.ErrUnknownMethod, "there is no method %q", m.Member)
	}
	return "", method{}, busapi.Refuse(busapi.ErrUnknownInterface, "%s has no interface %q", busapi.Path, m.Interface)
}

// serve answers a call of a known user. A panic becomes a log line and an error reply,
// since a panic in any goroutine would end the daemon.
func (s *Server) serve(m busconn.Call, uid uint32) {
	c := &call{ctx: m.Context(), path: dbus.ObjectPath(m.Path), sender: m.Sender, uid: uid, interactive: m.Interactive()}
	results, err := s.run(c, m)
	if errors.Is(err, context.DeadlineExceeded) {
		s.log.Warn("a method took too long", zap.String("method", m.Member), zap.Error(err))
		err = fmt.Errorf("%s did not finish in time; see: journalctl -u dubniumd", m.Member)
	}
	if err != nil {
		s.fail(m, err)
		return
	}
	s.sent(m, m.Reply(results...))
}

func (s *Server) run(c *call, m busconn.Call) (results []any, err error) {
	defer func() {
		if fault := recover(); fault != nil {
			s.log.Error(
				"a method failed", zap.String("method", m.Member), zap.Any("panic", fault), zap.ByteString("stack", debug.Stack()),
			)
			results, err = nil, busapi.Refuse(busapi.ErrInternal, "cannot answer %s: internal error", m.Member)
		}
	}()
	name, method, err := s.find(m)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil && method.changes != "" {
			s.refused(c, method.changes, err)
		}
	}()
	if c.uid != 0 && !s.rations[method.ration].Take(c.uid) {
		return nil, busapi.Refuse(busapi.ErrRateLimited, "uid %d calls %s too often", c.uid, m.Member)
	}
	args, err := arguments(c, m, name, method)
	if err != nil {
		return nil, err
	}
	return invoke(c, method, args)
}

// arguments decodes the arguments of a message, and checks its flags and options.
func arguments(c *call, m busconn.Call, name string, method method) ([]any, error) {
	want, _ := method.signature()
	if m.TooLong {
		return nil, busapi.Refuse(busapi.ErrInvalidArgs, "%s accepts at most %d bytes", name, busconn.MaxUnasked)
	}
	if m.Signature != want {
		return nil, busapi.Refuse(busapi.ErrInvalidArgs, "%s takes (%s), not (%s)", name, want, m.Signature)
	}
	args, err := m.Args()
	if err != nil {
		return nil, busapi.Refuse(busapi.ErrInvalidArgs, "cannot decode the arguments of %s: %v", name, err)
	}
	if method.standard {
		return args, nil
	}
	last := len(args) - len(optionTypes)
	c.flags, c.options = args[last].(uint64), args[last+1].(busapi.Dict) // by the signature
	if unknown := c.flags &^ method.flags; unknown != 0 {
		return nil, busapi.Refuse(busapi.ErrBadOption, "unknown flag bits %#x", unknown)
	}
	return args[:last], knownKeys(c.options, method.options)
}

// knownKeys refuses unknown keys: a caller that sets a grace period must not believe
// that it has effect.
func knownKeys(options busapi.Dict, known []string) error {
	var unknown []string
	for key := range options {
		if !slices.Contains(known, key) {
			unknown = append(unknown, key)
		}
	}
	switch {
	case len(unknown) == 0:
		return nil
	case len(known) == 0:
		return busapi.Refuse(busapi.ErrBadOption, "unknown option %q: this method has no options", slices.Min(unknown))
	}
	return busapi.Refuse(
		busapi.ErrBadOption, "unknown option %q: the options are %s", slices.Min(unknown), strings.Join(known, ", "),
	)
}

func invoke(c *call, m method, args []any) ([]any, error) {
	in := []reflect.Value{reflect.ValueOf(c)}
	for _, arg := range args {
		in = append(in, reflect.ValueOf(arg))
	}
	out := reflect.ValueOf(m.handler).Call(in)
	last := len(out) - 1
	if err, _ := out[last].Interface().(error); err != nil {
		return nil, err
	}
	results := make([]any, last)
	for i := range results {
		results[i] = out[i].Interface()
	}
	return results, nil
}

func (s *Server) fail(m busconn.Call, err error) { s.sent(m, m.Fail(busapi.ToDBus(err))) }

// sent logs a reply that could not be sent. The daemon ends by itself when its
// connection ends.
func (s *Server) sent(m busconn.Call, err error) {
	if err != nil && m.Context().Err() == nil {
		s.log.Warn("a reply was lost", zap.String("method", m.Member), zap.Error(err))
	}
}

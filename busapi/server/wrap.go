package server

import (
	"context"
	"reflect"
	"runtime/debug"

	"github.com/godbus/dbus/v5"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/internal/zap"
)

// call is what a handler may know of the message beside its arguments.
type call struct {
	ctx         context.Context
	sender      string
	interactive bool // the caller is prepared to wait for a password prompt
}

var (
	callType    = reflect.TypeFor[call]()
	messageType = reflect.TypeFor[dbus.Message]()
	errorType   = reflect.TypeFor[error]()
	replyType   = reflect.TypeFor[*dbus.Error]()
)

// wrap turns a handler, func(call, arguments...) (results..., error), into the
// function that godbus calls. It does once what every handler needs: the types
// of the message are checked, because godbus converts what Go can convert (a
// number into a string); errors become the contract's names; a panic becomes a
// log line and an error reply.
func (s *Server) wrap(name string, handler any) any {
	fn := reflect.ValueOf(handler)
	in, out := exportedTypes(fn.Type())
	want := signatureOf(in[1:])
	serve := func(args []reflect.Value) (results []reflect.Value) {
		defer func() {
			if fault := recover(); fault != nil {
				s.log.Error("a method failed", zap.String("method", name), zap.Any("panic", fault), zap.ByteString("stack", debug.Stack()))
				results = failure(out, busapi.Refuse(busapi.ErrInternal, "cannot answer %s: internal error", name))
			}
		}()
		msg := args[0].Interface().(dbus.Message)
		if got, _ := msg.Headers[dbus.FieldSignature].Value().(dbus.Signature); got.String() != want {
			return failure(out, busapi.Refuse(busapi.ErrInvalidArgs, "%s takes (%s), not (%s)", name, want, got.String()))
		}
		args[0] = reflect.ValueOf(s.callOf(msg))
		results = fn.Call(args)
		if err, _ := results[len(results)-1].Interface().(error); err != nil {
			return failure(out, err)
		}
		results[len(results)-1] = reflect.Zero(replyType)
		return results
	}
	return reflect.MakeFunc(reflect.FuncOf(in, out, false), serve).Interface()
}

func (s *Server) callOf(msg dbus.Message) call {
	sender, _ := msg.Headers[dbus.FieldSender].Value().(string)
	return call{
		ctx:         s.conn.Context(),
		sender:      sender,
		interactive: msg.Flags&dbus.FlagAllowInteractiveAuthorization != 0,
	}
}

// exportedTypes are the types of the function that godbus sees: the message for
// the call, its own error type for error.
func exportedTypes(handler reflect.Type) (in, out []reflect.Type) {
	for t := range handler.Ins() {
		if t == callType {
			t = messageType
		}
		in = append(in, t)
	}
	for t := range handler.Outs() {
		if t == errorType {
			t = replyType
		}
		out = append(out, t)
	}
	return in, out
}

func signatureOf(types []reflect.Type) string {
	var signature string
	for _, t := range types {
		signature += dbus.SignatureOfType(t).String()
	}
	return signature
}

// failure is the result list of a call that is answered with err.
func failure(out []reflect.Type, err error) []reflect.Value {
	results := make([]reflect.Value, len(out))
	for i, t := range out {
		results[i] = reflect.Zero(t)
	}
	results[len(out)-1] = reflect.ValueOf(busapi.ToDBus(err))
	return results
}

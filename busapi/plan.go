package busapi

import (
	"fmt"
	"maps"

	"github.com/godbus/dbus/v5"

	"github.com/dubnium/dubnium/daemon/status"
	"github.com/dubnium/dubnium/guards"
	"github.com/dubnium/dubnium/observer"
)

// keyGuards holds verdicts, which travel as they do everywhere else.
const keyGuards = "guards"

// EncodePreview is the reply of Plan.
func EncodePreview(p status.Preview) Dict {
	verdicts := p.Guards
	p.Guards = nil
	d := encodeStruct(p)
	d[keyGuards] = dbus.MakeVariant(EncodeVerdicts(verdicts))
	return d
}

// DecodePreview reads what EncodePreview wrote.
func DecodePreview(d Dict) (status.Preview, error) {
	var p status.Preview
	rest := maps.Clone(d)
	delete(rest, keyGuards)
	r := &reader{dict: d}
	r.structure(decodeStruct(rest, &p))
	p.Guards = list(r, keyGuards, decodeVerdict)
	return p, r.finish("the plan")
}

// EncodeObstacle is the details of CanRequest: what is in the way, if anything is, and
// the sessions that would end.
func EncodeObstacle(v guards.Verdict, sessions []observer.Session) Dict {
	d := Dict{"sessions": dbus.MakeVariant(dicts(sessions, func(s observer.Session) Dict { return encodeStruct(s) }))}
	if v.Guard != "" {
		d["guard"], d["code"], d["remedy"] = textVariant(v.Guard), dbus.MakeVariant(int32(v.Code)), textVariant(v.Remedy)
	}
	if v.Reason != "" {
		d["text"] = textVariant(v.Reason)
	}
	return d
}

// Fingerprint reports whether a text has the form of a plan's fingerprint. The
// error says what is wrong with it.
func Fingerprint(text string) error {
	const digits = 32
	if len(text) != digits {
		return fmt.Errorf("%q is not the fingerprint of a plan, which has %d digits", text, digits)
	}
	for _, r := range text {
		if (r < '0' || r > '9') && (r < 'a' || r > 'f') {
			return fmt.Errorf("%q is not the fingerprint of a plan, which has hexadecimal digits", text)
		}
	}
	return nil
}

package policy

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
)

// parseJSON reads one JSON object. It goes token by token, because that is the
// only way in which encoding/json tells where something stands, and the only one
// in which a key that stands there twice is seen.
func parseJSON(data []byte) (*node, []syntaxError) {
	p := jsonParser{data: data, decoder: json.NewDecoder(bytes.NewReader(data))}
	p.decoder.UseNumber()
	root, err := p.value(0)
	var broken syntaxError
	if errors.As(err, &broken) { // there is no going on after it
		return nil, append(p.twice, broken)
	}
	end := p.next()
	if _, err := p.decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, append(p.twice, syntaxError{end, "something follows the end of the policy"})
	}
	return root, p.twice
}

type jsonParser struct {
	data    []byte
	decoder *json.Decoder
	depth   int
	twice   []syntaxError // keys that stand there again
}

// maxDepth is far beyond any policy, and short of what exhausts a stack.
const maxDepth = 64

// next is where the next token begins.
func (p *jsonParser) next() int {
	offset := int(p.decoder.InputOffset())
	return offset + len(p.data[offset:]) - len(bytes.TrimLeft(p.data[offset:], " \t\r\n,:"))
}

func (p *jsonParser) token() (json.Token, int, error) {
	at := p.next()
	token, err := p.decoder.Token()
	var syntax *json.SyntaxError
	switch {
	case errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF):
		return nil, at, syntaxError{len(p.data), "the file ends in the middle of a value"}
	case errors.As(err, &syntax):
		return nil, at, syntaxError{at, strings.TrimPrefix(syntax.Error(), "json: ")}
	case err != nil:
		return nil, at, syntaxError{at, err.Error()}
	}
	return token, at, nil
}

// value reads one value; key is where its key stands.
func (p *jsonParser) value(key int) (*node, error) {
	token, at, err := p.token()
	if err != nil {
		return nil, err
	}
	n := &node{key: key, at: at}
	if p.depth++; p.depth > maxDepth {
		return nil, syntaxError{at, "too many values within values"}
	}
	defer func() { p.depth-- }()
	switch t := token.(type) {
	case nil:
		n.value = nothing{}
	case json.Number:
		n.value, err = number(t, at)
	case json.Delim:
		if t == '{' {
			n.value, err = p.object()
		} else {
			n.value, err = p.array()
		}
	default:
		n.value = token // string or bool
	}
	return n, err
}

func (p *jsonParser) object() (*table, error) {
	t := newTable()
	for p.decoder.More() {
		token, at, err := p.token()
		if err != nil {
			return nil, err
		}
		name, isText := token.(string)
		if !isText {
			return nil, syntaxError{at, "a key has to be text"}
		}
		n, err := p.value(at)
		if err != nil {
			return nil, err
		}
		if !t.add(name, n) {
			p.twice = append(p.twice, syntaxError{at, join("", name) + " stands there twice"})
		}
	}
	_, _, err := p.token()
	return t, err
}

func (p *jsonParser) array() (list, error) {
	l := list{}
	for p.decoder.More() {
		n, err := p.value(p.next())
		if err != nil {
			return nil, err
		}
		l = append(l, n)
	}
	_, _, err := p.token()
	return l, err
}

func number(text json.Number, at int) (any, error) {
	if n, err := text.Int64(); err == nil {
		return n, nil
	}
	f, err := text.Float64()
	if err != nil {
		return nil, syntaxError{at, "the number " + text.String() + " is too large"}
	}
	return f, nil
}

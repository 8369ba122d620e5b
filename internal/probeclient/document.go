package probeclient

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Decode reads data as exactly one JSON document. Keys that document does not
// have are ignored: probe and daemon are replaced one after the other when the
// host is upgraded.
func Decode(data []byte, document any) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	if err := decoder.Decode(document); err != nil {
		return fmt.Errorf("its answer is not a document: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("its answer goes on after the document")
	}
	return nil
}

// Clean makes a string that somebody else chose fit for a terminal and a log
// line: prctl(PR_SET_NAME) and an HTTP server take any bytes, escape sequences
// included. limit is in bytes.
func Clean(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
	for len(s) > limit {
		_, size := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-size]
	}
	return s
}

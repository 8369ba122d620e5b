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

// Decode parses data as exactly one JSON document. Unknown keys are ignored, because probe and
// daemon are not replaced at the same moment when the host is upgraded.
func Decode(data []byte, document any) error {
	decoder := json.NewDecoder(bytes.NewReader(data))
	if err := decoder.Decode(document); err != nil {
		return fmt.Errorf("its answer is not a document: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return errors.New("its answer has data after the document")
	}
	return nil
}

// Clean makes an untrusted string safe for a terminal and a log line: it replaces what is not
// printable by "?" and cuts the string after limit bytes. A process name (PR_SET_NAME) and an HTTP
// answer may contain any bytes, escape sequences included.
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

package wire

import (
	"errors"
	"strings"
)

// The limits of the D-Bus specification on signatures.
const (
	maxSignature = 255
	maxArrays    = 32
	maxStructs   = 32
)

var errSignature = errors.New("the signature is not valid")

// basic are the type codes that may be the key of a dictionary.
const basic = "ybnqiuxtdsogh"

// complete splits the first complete type off a signature.
func complete(signature string) (first, rest string, err error) {
	n, err := lengthOf(signature, 0, 0)
	if err != nil {
		return "", "", err
	}
	return signature[:n], signature[n:], nil
}

// lengthOf is the length of the complete type that signature begins with.
func lengthOf(signature string, arrays, structs int) (int, error) {
	if signature == "" || arrays > maxArrays || structs > maxStructs {
		return 0, errSignature
	}
	switch code := signature[0]; {
	case code == 'v' || strings.IndexByte(basic, code) >= 0:
		return 1, nil
	case code == 'a' && strings.HasPrefix(signature[1:], "{"):
		return dictionaryLength(signature, arrays+1, structs+1)
	case code == 'a':
		n, err := lengthOf(signature[1:], arrays+1, structs)
		return 1 + n, err
	case code == '(':
		return structLength(signature, arrays, structs+1)
	}
	return 0, errSignature
}

// dictionaryLength is that of a{KV}, whose key is basic.
func dictionaryLength(signature string, arrays, structs int) (int, error) {
	const opening = len("a{K")
	if len(signature) <= opening || strings.IndexByte(basic, signature[2]) < 0 {
		return 0, errSignature
	}
	n, err := lengthOf(signature[opening:], arrays, structs)
	if err != nil || !strings.HasPrefix(signature[opening+n:], "}") {
		return 0, errSignature
	}
	return opening + n + 1, nil
}

// structLength is that of (...), which holds at least one type.
func structLength(signature string, arrays, structs int) (int, error) {
	at := 1
	for !strings.HasPrefix(signature[at:], ")") {
		n, err := lengthOf(signature[at:], arrays, structs)
		if err != nil {
			return 0, err
		}
		at += n
	}
	if at == 1 {
		return 0, errSignature
	}
	return at + 1, nil
}

// alignment is that of a type (D-Bus specification, "Summary of D-Bus marshaling").
func alignment(code byte) int {
	switch code {
	case 'n', 'q':
		return 2
	case 'b', 'i', 'u', 'h', 's', 'o', 'a':
		return 4
	case 'x', 't', 'd', '(', '{':
		return 8
	}
	return 1 // y, g, v
}

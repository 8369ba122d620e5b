package wire

import (
	"bufio"
	"bytes"
	"io"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

func encode(t require.TestingT, frames ...Frame) []byte {
	var buf []byte
	for _, f := range frames {
		var err error
		buf, err = f.Append(buf)
		require.NoError(t, err)
	}
	return buf
}

func genFrame(t *rapid.T) Frame {
	return Frame{
		Kind: Kind(rapid.IntRange(1, int(kindEnd)-1).Draw(t, "kind")),
		ID:   rapid.Uint32().Draw(t, "id"),
		Body: rapid.SliceOfN(rapid.Byte(), 0, 200).Draw(t, "body"),
	}
}

func TestWhatIsWrittenIsRead(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		want := rapid.SliceOfN(rapid.Custom(genFrame), 1, 10).Draw(t, "frames")
		r := bufio.NewReaderSize(bytes.NewReader(encode(t, want...)), 64)
		for _, f := range want {
			got, err := Read(r)
			require.NoError(t, err)
			require.Equal(t, f.Kind, got.Kind)
			require.Equal(t, f.ID, got.ID)
			require.True(t, bytes.Equal(f.Body, got.Body))
		}
		_, err := Read(r)
		require.ErrorIs(t, err, io.EOF)
	})
}

// A guest that reboots leaves the rest of a frame, or anything else, on the link.
func TestAReaderThatLostItsPlaceFindsTheNextFrame(t *testing.T) {
	next := Frame{Kind: Hello, ID: 7, Body: []byte(`{"boot_id":"x"}`)}
	long := encode(t, Frame{Kind: Output, ID: 1, Body: make([]byte, 100)})
	for name, rubbish := range map[string][]byte{
		"nothing":                  nil,
		"the end of a frame":       long[40:],
		"noise":                    []byte("[    0.000000] Linux version"),
		"half a mark":              []byte(mark[:2]),
		"a mark and a wild length": []byte(mark + "\xff\xff\xff\xff\x01\x00\x00\x00\x00"),
		"a mark and no known kind": []byte(mark + "\x00\x00\x00\x01\xee\x00\x00\x00\x00"),
	} {
		t.Run(name, func(t *testing.T) {
			got, err := Read(bufio.NewReader(bytes.NewReader(append(rubbish, encode(t, next)...))))
			require.NoError(t, err)
			assert.Equal(t, next, got)
		})
	}
}

func TestAFrameFitsIntoOneWriteOfTheDriver(t *testing.T) {
	assert.Len(t, encode(t, Frame{Kind: Output, Body: make([]byte, MaxBody)}), 32<<10)
	_, err := Frame{Kind: Output, Body: make([]byte, MaxBody+1)}.Append(nil)
	assert.Error(t, err)
}

func TestChunksAreTheWholeInOrder(t *testing.T) {
	data := bytes.Repeat([]byte("0123456789abcdef!"), 5000)
	var got []byte
	require.NoError(t, Chunks(data, func(part []byte) error {
		assert.LessOrEqual(t, len(part), MaxBody)
		got = append(got, part...)
		return nil
	}))
	assert.Equal(t, data, got)
}

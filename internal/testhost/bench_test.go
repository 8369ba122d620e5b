package testhost_test

import (
	"testing"

	"github.com/dubnium/dubnium/internal/testhost"
)

func BenchmarkStart(b *testing.B) {
	for b.Loop() {
		h, err := testhost.Start(b.Context(), testhost.Options{})
		if err != nil {
			b.Fatal(err)
		}
		if err := h.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

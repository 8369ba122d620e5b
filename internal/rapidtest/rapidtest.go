// Package rapidtest sets how much a test of properties tries.
package rapidtest

import (
	"flag"
	"os"
	"strconv"
	"sync"
	"testing"
)

// given are the flags that the command line or the environment sets. It is read once,
// since flag.Visit visits what Quick sets as well.
var given = sync.OnceValue(func() map[string]bool {
	names := map[string]bool{
		"rapid.checks": os.Getenv("RAPID_CHECKS") != "", "rapid.steps": os.Getenv("RAPID_STEPS") != "",
	}
	flag.Visit(func(f *flag.Flag) { names[f.Name] = true })
	return names
})

// Quick makes rapid.Check try so many cases of so many steps until the test ends, 0 for
// rapid's own number. A flag on the command line and RAPID_CHECKS and RAPID_STEPS in the
// environment go before it: a soak sets them. The numbers hold for the whole process, so
// that no two tests that call Quick may run in parallel.
func Quick(tb testing.TB, checks, steps int) {
	tb.Helper()
	fixed := given()
	for name, n := range map[string]int{"rapid.checks": checks, "rapid.steps": steps} {
		if n == 0 || fixed[name] {
			continue
		}
		before := flag.Lookup(name).Value.String()
		set(tb, name, strconv.Itoa(n))
		tb.Cleanup(func() { set(tb, name, before) })
	}
}

func set(tb testing.TB, name, value string) {
	tb.Helper()
	if err := flag.Set(name, value); err != nil {
		tb.Fatal(err)
	}
}

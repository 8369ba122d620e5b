package eventlog

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

var errBroken = errors.New("broken on purpose")

// large limits never rotate.
var large = Limits{MaxBytes: 1 << 30, Keep: 1}

func gapLine(n int) []byte { return fmt.Appendf(nil, "gap %d", n) }

func open(t require.TestingT, path string, limits Limits) *Log {
	l, _ := Open(path, limits, gapLine)
	_, _, err := l.Fault()
	require.NoError(t, err)
	return l
}

// lines are all lines that readers see, the oldest first.
func lines(t require.TestingT, l *Log) []string {
	var all []string
	require.NoError(t, l.Backward(func(text []byte) bool {
		all = append(all, string(text))
		return true
	}))
	slices.Reverse(all)
	return all
}

func add(t require.TestingT, l *Log, texts ...string) {
	for _, text := range texts {
		require.NoError(t, l.Append([]byte(text), true))
	}
}

func TestLinesAreReadInTheOrderInWhichTheyWereWritten(t *testing.T) {
	l := open(t, filepath.Join(t.TempDir(), "log"), large)
	assert.Empty(t, lines(t, l), "there is no file yet")
	long := strings.Repeat("x", 3*chunk+17)
	add(t, l, "one", "", long, "three")
	assert.Equal(t, []string{"one", "", long, "three"}, lines(t, l))
	var last []string
	require.NoError(t, l.Backward(func(text []byte) bool { last = append(last, string(text)); return false }))
	assert.Equal(t, []string{"three"}, last, "a reader may have had enough")
}

// Random lines, torn at a random byte: what was whole is there, and what comes
// afterwards stands on lines of its own.
func TestATornTailIsCutOffWhereverItWasTorn(t *testing.T) {
	dir := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		path := filepath.Join(dir, fmt.Sprint(rapid.Uint64().Draw(t, "name")))
		defer os.Remove(path)
		texts := rapid.SliceOf(rapid.OneOf(rapid.StringMatching(`[a-z]{0,5}`),
			rapid.Map(rapid.SampledFrom([]int{4095, 4096, 5000, chunk, chunk + 1}),
				func(n int) string { return strings.Repeat("x", n) }))).Draw(t, "lines")
		whole := strings.Join(append(slices.Clone(texts), ""), "\n")
		torn := rapid.IntRange(0, len(whole)).Draw(t, "torn after")
		require.NoError(t, os.WriteFile(path, []byte(whole[:torn]), 0o600))
		kept := strings.Count(whole[:torn], "\n")

		l, cut := Open(path, large, gapLine)
		assert.Equal(t, torn-(strings.LastIndexByte(whole[:torn], '\n')+1), cut)
		add(t, l, "afterwards")
		assert.Equal(t, append(slices.Clone(texts[:kept]), "afterwards"), lines(t, l))
	})
}

// TestARotationThatIsCutOffAnywhereLosesNothing: random lines in small files, and
// death before a random one of the changes on disk; the next process goes on. At
// the end the lines that were promised are there, in order, but for those of the
// oldest file.
func TestARotationThatIsCutOffAnywhereLosesNothing(t *testing.T) {
	shelf := t.TempDir()
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp(shelf, "")
		require.NoError(t, err)
		path := filepath.Join(dir, "log")
		limits := Limits{MaxBytes: 64, Keep: rapid.IntRange(1, 4).Draw(t, "keep")}
		var promised []string
		for run := range rapid.IntRange(1, 8).Draw(t, "runs") {
			l := open(t, path, limits)
			left := rapid.IntRange(0, 40).Draw(t, "changes until it dies")
			l.hook = func(string) error {
				if left--; left < 0 {
					return errBroken
				}
				return nil
			}
			for i := range 12 {
				text := fmt.Sprintf("run %d line %d", run, i)
				if l.Append([]byte(text), true) != nil {
					break
				}
				promised = append(promised, text)
			}
		}
		l := open(t, path, limits)
		numbers, err := l.numbers()
		require.NoError(t, err)
		require.LessOrEqual(t, len(numbers), limits.Keep)
		got := lines(t, l)
		require.LessOrEqual(t, len(got), len(promised))
		require.Equal(t, promised[len(promised)-len(got):], got)
		// At most four such lines fit in a file: what is missing is older than keep files of three.
		require.GreaterOrEqual(t, len(got), min(len(promised), 3*limits.Keep))
	})
}

func TestFilesBeyondTheLimitsGo(t *testing.T) {
	dir := t.TempDir()
	l := open(t, filepath.Join(dir, "log"), Limits{MaxBytes: 8, Keep: 5})
	for i := range 9 {
		add(t, l, fmt.Sprintf("line %d", i))
	}
	assert.Equal(t, []string{"line 3", "line 4", "line 5", "line 6", "line 7", "line 8"}, lines(t, l))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "log.old"), nil, 0o600))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "log.007"), nil, 0o600))
	l.SetLimits(Limits{MaxBytes: 8, Keep: 2})
	add(t, l, "line 9")
	assert.Equal(t, []string{"line 7", "line 8", "line 9"}, lines(t, l))
	assert.FileExists(t, filepath.Join(dir, "log.old"), "it is none of ours")
	assert.FileExists(t, filepath.Join(dir, "log.007"), "nor is this")
}

// What the disk does not take is seen all the same, and is written once it does, in order and once.
func TestWhatCannotBeWrittenWaits(t *testing.T) {
	for _, what := range []string{"open", "write", "sync"} {
		t.Run(what, func(t *testing.T) {
			l := open(t, filepath.Join(t.TempDir(), "log"), large)
			add(t, l, "before")
			l.hook = func(asked string) error {
				if asked == what {
					return errBroken
				}
				return nil
			}
			require.ErrorIs(t, l.Append([]byte("one"), true), errBroken)
			require.ErrorIs(t, l.Append([]byte("two"), true), errBroken)
			waiting, lost, err := l.Fault()
			require.ErrorIs(t, err, errBroken)
			assert.Equal(t, []int{2, 0}, []int{waiting, lost})
			assert.Equal(t, []string{"before", "one", "two"}, lines(t, l))

			l.hook = nil
			require.NoError(t, l.Flush())
			waiting, _, err = l.Fault()
			require.NoError(t, err)
			assert.Zero(t, waiting)
			add(t, l, "after")
			assert.Equal(t, []string{"before", "one", "two", "after"}, lines(t, open(t, l.path, large)))
		})
	}
}

func TestMemoryIsBoundedAndWhatIsGivenUpIsSaid(t *testing.T) {
	l := open(t, filepath.Join(t.TempDir(), "log"), large)
	l.hook = func(string) error { return errBroken }
	big := strings.Repeat("x", MaxLine/2)
	for i := range 12 {
		require.Error(t, l.Append([]byte(fmt.Sprint(i, big)), i < 2))
	}
	waiting, lost, _ := l.Fault()
	assert.Equal(t, 12, waiting+lost)
	assert.Equal(t, 7, waiting)
	l.hook = nil
	add(t, l, "at last")
	var begins []string
	for _, text := range lines(t, l) {
		begins = append(begins, strings.TrimRight(text, "x"))
	}
	assert.Equal(
		t, []string{"0", "1", "7", "8", "9", "10", "11", "at last", "gap 5"}, begins,
		"the important ones are the last to go",
	)
	_, lost, err := l.Fault()
	require.NoError(t, err)
	assert.Zero(t, lost)
}

func TestALineThatIsTooLongIsRefusedAndPassedOver(t *testing.T) {
	l := open(t, filepath.Join(t.TempDir(), "log"), large)
	require.ErrorIs(t, l.Append(make([]byte, MaxLine), true), ErrTooLong)
	longest := strings.Repeat("y", MaxLine-1)
	add(t, l, "before", longest)
	f, err := os.OpenFile(l.path, os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteString(strings.Repeat("z", 3*MaxLine) + "\n")
	require.NoError(t, errors.Join(err, f.Close()))
	add(t, l, "after")
	assert.Equal(t, []string{"before", longest, "after"}, lines(t, l))
}

// A log that cannot be looked at says so and goes on from memory.
func TestALogThatCannotBeOpenedIsAFaultAndNoMore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	require.NoError(t, os.Mkdir(path, 0o755))
	l, _ := Open(path, large, gapLine)
	_, _, err := l.Fault()
	require.Error(t, err)
	require.Error(t, l.Append([]byte("one"), true))
	require.NoError(t, os.Remove(path))
	add(t, l, "two")
	assert.Equal(t, []string{"one", "two"}, lines(t, l))
}

//go:build e2e && soak

package e2e

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/e2e/bed"
)

func TestAnAudioServerThatDiesDegradesTheDesktopAndItsReturnMendsIt(t *testing.T) {
	w := onDesktop(t)
	w.userctl("stop pipewire-pulse.socket pipewire-pulse.service")
	w.becomes("degraded-desktop")
	assert.Equal(t, false, w.signal("audio_stack_running"))
	w.userctl("start pipewire-pulse.socket")
	w.becomes("desktop")

	w.sh("pkill -KILL -u alice -x pipewire-pulse") // systemd starts it again
	w.evidence("audio_stack_running", "true", "answers")
	w.becomes("desktop")

	w.sh("systemctl kill --signal=KILL dubnium-probe-audio@1000.service")
	w.evidence("audio_stack_running", "true", "answers")
	w.becomes("desktop")
}

func TestAStreamThatPlaysNothingIsSilent(t *testing.T) {
	w := onDesktop(t)
	w.silent()
	p := w.start("pw-cat -p --target 0 " + w.silence()) // linked to nothing: corked
	w.WaitForAs(w.ctx, bed.User, "the stream", "pactl list sink-inputs | grep -q 'Corked: yes'")
	w.silent()
	require.NoError(t, p.Kill(w.ctx))
}

func TestADAWCountsWhileItIsSilent(t *testing.T) {
	w := onDesktop(t)
	w.silent()
	for _, name := range []string{"reaper", ".reaper-wrapped"} {
		w.sh("cp /usr/bin/sleep /usr/local/bin/" + name)
		p := w.start("/usr/local/bin/" + name + " 1000")
		w.playing(name + " (pid ")
		require.NoError(t, p.Kill(w.ctx))
		w.silent()
	}
}

// hostileServer takes the place of alice's audio server and says the same to
// everybody.
const hostileServer = `perl -e '
	use IO::Socket::UNIX;
	my $path = "/run/user/1000/pulse/native"; unlink $path; $SIG{PIPE} = "IGNORE";
	my $s = IO::Socket::UNIX->new(Local => $path, Listen => 100) or die;
	while (my $c = $s->accept) { push @kept, $c; syswrite $c, SAYS }'`

func TestAHostileAudioServerIsUnknownAndCostsNothing(t *testing.T) {
	w := onDesktop(t)
	w.userctl("stop pipewire-pulse.socket pipewire-pulse.service")
	w.becomes("degraded-desktop")
	for _, says := range []string{`"garbage!" x 100000`, `chr(255) x 20`, `""`} {
		t.Log(says)
		p := w.start(strings.Replace(hostileServer, "SAYS", says, 1))
		w.evidence("audio_stack_running", "unknown", "uid 1000") // it may take the probe down before that can say why
		require.NoError(t, p.Kill(w.ctx))
	}
	w.sh("rm -f /run/user/1000/pulse/native")
	w.userctl("start pipewire-pulse.socket")
	w.becomes("desktop")
}

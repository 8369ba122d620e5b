package polkit

import (
	"context"
	"os"
	"testing"

	"github.com/godbus/dbus/v5"
	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/internal/testhost"
	"github.com/dubnium/dubnium/internal/testhost/hosttest"
)

const action = "org.dubnium.mode1.request-compute"

// answering is a host whose polkit always answers so.
func answering(t *testing.T, answer testhost.PolkitAnswer) *testhost.Host {
	return hosttest.Start(t, testhost.Options{
		Authorize: func(context.Context, testhost.PolkitRequest) testhost.PolkitAnswer { return answer },
	})
}

func TestTheUserIsTheOneTheBusKnows(t *testing.T) {
	host := answering(t, testhost.PolkitAnswer{})
	sender, authority := hosttest.Connect(t, host), New(hosttest.Connect(t, host))
	uid, err := authority.UID(t.Context(), sender.Names()[0])
	require.NoError(t, err)
	require.Equal(t, uint32(os.Getuid()), uid)
}

func TestASenderWhoLeftHasNoUser(t *testing.T) {
	host := answering(t, testhost.PolkitAnswer{})
	sender, authority := hosttest.Connect(t, host), New(hosttest.Connect(t, host))
	name := sender.Names()[0]
	require.NoError(t, sender.Close())
	for { // the bus notices in its own time
		if _, err := authority.UID(t.Context(), name); err != nil {
			require.ErrorContains(t, err, "cannot read the user of "+name)
			return
		}
	}
}

func TestOnlyAClearYesIsAYes(t *testing.T) {
	failed := dbus.NewError("org.freedesktop.PolicyKit1.Error.Failed", []any{"no such action"})
	cases := map[string]struct {
		answer      testhost.PolkitAnswer
		interactive bool
		sentinel    error
		text        string
	}{
		"yes": {testhost.PolkitAnswer{Authorized: true}, false, nil, ""},
		"no": {
			testhost.PolkitAnswer{}, false, busapi.ErrAccessDenied, action + " was not granted",
		},
		"a password would help": {
			testhost.PolkitAnswer{Challenge: true}, false, busapi.ErrInteractionRequired, action + " needs authentication",
		},
		"the password was wrong": {
			testhost.PolkitAnswer{Challenge: true}, true, busapi.ErrAccessDenied, action + " was not granted",
		},
		"polkit fails": {
			testhost.PolkitAnswer{Err: failed}, true, busapi.ErrAccessDenied, "cannot call polkit: no such action",
		},
		"polkit fails and says yes too": {
			testhost.PolkitAnswer{Authorized: true, Err: failed}, true, busapi.ErrAccessDenied, "cannot call polkit",
		},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			host := answering(t, c.answer)
			err := New(hosttest.Connect(t, host)).Authorize(t.Context(), ":1.42", action, nil, c.interactive)
			if c.sentinel == nil {
				require.NoError(t, err)
			} else {
				require.ErrorIs(t, err, c.sentinel)
				require.ErrorContains(t, err, c.text)
			}
			asked := host.PolkitRequests()
			require.Len(t, asked, 1)
			require.Equal(t, "system-bus-name", asked[0].SubjectKind)
			require.Equal(t, ":1.42", asked[0].BusName)
			require.Equal(t, action, asked[0].Action)
			require.Equal(t, c.interactive, asked[0].Flags == 1)
		})
	}
}

func TestAPolkitThatIsNotThereDenies(t *testing.T) {
	host := hosttest.Start(t, testhost.Options{NoPolkit: true})
	err := New(hosttest.Connect(t, host)).Authorize(t.Context(), ":1.42", action, nil, true)
	require.ErrorIs(t, err, busapi.ErrAccessDenied)
	require.ErrorContains(t, err, "cannot call polkit")
}

func TestAPromptThatNobodyAnswersIsTakenAway(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	taken := make(chan struct{})
	host := hosttest.Start(t, testhost.Options{Authorize: func(prompt context.Context, _ testhost.PolkitRequest) testhost.PolkitAnswer {
		cancel()
		<-prompt.Done()
		close(taken)
		return testhost.PolkitAnswer{Authorized: true}
	}})
	err := New(hosttest.Connect(t, host)).Authorize(ctx, ":1.42", action, nil, true)
	require.ErrorIs(t, err, busapi.ErrAccessDenied)
	require.ErrorContains(t, err, "no answer in time")
	<-taken
}

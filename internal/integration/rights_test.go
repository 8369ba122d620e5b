//go:build integration

package integration

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/busapi"
	"github.com/dubnium/dubnium/policy"
)

// right is what a caller gets.
type right string

// The rights, from the most to the least.
const (
	yes      right = "yes"
	kept     right = "password, kept" // polkit remembers it for a few minutes
	password right = "password"
	no       right = "no"
)

var fromBest = []right{yes, kept, password, no}

// asker is a kind of caller: a column of the table.
type asker struct {
	name  string
	who   caller
	rules []string
}

// The columns. The last one is a member of the operators' group of the example rules,
// where those are installed.
const (
	byRoot = iota
	byActive
	byInactive
	byRemote
	bySessionless
	byOperator
	allAskers
)

var askers = [allAskers]asker{
	byRoot:        {"root", caller{0, nowhere}, nil},
	byActive:      {"active session", caller{dave, atSeat}, nil},
	byInactive:    {"inactive session", caller{bob, atSeat}, nil},
	byRemote:      {"ssh", caller{bob, remote}, nil},
	bySessionless: {"no session", caller{bob, nowhere}, nil},
	byOperator:    {"operator", caller{carol, remote}, []string{operatorsRules}},
}

// each is what each kind of caller gets.
type each [allAskers]right

// granted is what polkit grants with the actions that are installed. It is asked about
// nothing for root.
var granted = map[string]each{
	busapi.ActionRequest(policy.Desktop):     {yes, kept, password, password, password, yes},
	busapi.ActionRequest(policy.StudioLocal): {yes, yes, password, password, password, yes},
	busapi.ActionRequest(policy.Compute):     {yes, kept, password, password, password, yes},
	busapi.ActionEndOtherSessions:            {yes, password, password, password, password, password},
	busapi.ActionForce:                       {yes, password, password, password, password, password},
	busapi.ActionCancel:                      {yes, kept, password, password, password, password},
	busapi.ActionInhibitBlock:                {yes, kept, password, password, password, password},
	busapi.ActionInhibitDelay:                {yes, yes, yes, no, no, no},
}

// line is a line of the table: calls that need the same, in the modes from which they
// are made.
type line struct {
	call string
	from []policy.Mode
	asks []string // the actions that polkit is asked about
	each
	ways []way
	// can is the mode about which CanRequest says the same; empty for none.
	can policy.Mode
	// besides: alice has a graphical session meanwhile.
	besides bool
}

var (
	inDesktop     = []policy.Mode{policy.Desktop}
	inStudio      = []policy.Mode{policy.StudioLocal}
	inCompute     = []policy.Mode{policy.Compute}
	besideCompute = []policy.Mode{policy.Desktop, policy.StudioLocal}
	anywhere      = policy.Modes()

	toDesktop = busapi.ActionRequest(policy.Desktop)
	toStudio  = busapi.ActionRequest(policy.StudioLocal)
	toCompute = busapi.ActionRequest(policy.Compute)

	everybody = each{yes, yes, yes, yes, yes, yes}
	onlyRoot  = each{yes, no, no, no, no, no}
)

// rights is the table of docs/security.md.
var rights = slices.Concat(requestLines, forceLines, termLines, otherLines)

var requestLines = []line{
	{
		call: "request desktop", from: anywhere,
		asks: []string{toDesktop},
		each: each{yes, kept, password, password, password, yes},
		ways: requests(policy.Desktop),
		can:  policy.Desktop,
	},
	{
		call: "request studio-local", from: besideCompute,
		asks: []string{toStudio},
		each: each{yes, yes, password, password, password, yes},
		ways: requests(policy.StudioLocal),
		can:  policy.StudioLocal,
	},
	{
		call: "request studio-local", from: inCompute,
		asks: []string{toStudio, toDesktop},
		each: each{yes, kept, password, password, password, yes},
		ways: requests(policy.StudioLocal),
		can:  policy.StudioLocal,
	},
	{
		call: "request compute", from: anywhere,
		asks: []string{toCompute},
		each: each{yes, kept, password, password, password, yes},
		ways: requests(policy.Compute),
		can:  policy.Compute,
	},
	{
		call: "request compute, which ends another person's session", from: besideCompute,
		asks: []string{toCompute, busapi.ActionEndOtherSessions},
		each: each{yes, password, password, password, password, password},
		ways: requests(policy.Compute),
		can:  policy.Compute, besides: true,
	},
	{
		call: "request without a wait for delay inhibitors", from: anywhere,
		each: onlyRoot,
		ways: []way{
			withoutWait,
		},
	},
}

var forceLines = []line{
	{
		call: "force a mode", from: besideCompute,
		asks: []string{busapi.ActionForce},
		each: each{yes, password, password, password, password, password},
		ways: forces(anywhere...),
	},
	{
		call: "force desktop or studio-local", from: inCompute,
		asks: []string{busapi.ActionForce, toDesktop},
		each: each{yes, password, password, password, password, password},
		ways: forces(besideCompute...),
	},
	{
		call: "force compute", from: inCompute,
		asks: []string{busapi.ActionForce},
		each: each{yes, password, password, password, password, password},
		ways: forces(inCompute...),
	},
	{
		call: "force compute, which ends another person's session", from: besideCompute,
		asks:    []string{busapi.ActionForce, busapi.ActionEndOtherSessions},
		each:    each{yes, password, password, password, password, password},
		ways:    forces(inCompute...),
		besides: true,
	},
}

var termLines = []line{
	{
		call: "request studio-local on terms", from: inDesktop,
		asks: []string{toStudio},
		each: each{yes, yes, password, password, password, yes},
		ways: []way{
			onTerms(policy.StudioLocal),
		},
	},
	{
		call: "request compute on terms", from: besideCompute,
		asks: []string{toCompute},
		each: each{yes, kept, password, password, password, yes},
		ways: []way{
			onTerms(policy.Compute),
		},
	},
	{
		call: "set terms for studio-local, which is there", from: inStudio,
		asks: []string{toStudio, toDesktop},
		each: each{yes, kept, password, password, password, yes},
		ways: []way{
			onTerms(policy.StudioLocal), leasedTo(other, onTerms(policy.StudioLocal)),
		},
	},
	{
		call: "request studio-local on terms", from: inCompute,
		asks: []string{toStudio, toDesktop},
		each: each{yes, kept, password, password, password, yes},
		ways: []way{
			onTerms(policy.StudioLocal),
		},
	},
	{
		call: "set terms for compute, which is there", from: inCompute,
		asks: []string{toCompute, toDesktop},
		each: each{yes, kept, password, password, password, yes},
		ways: []way{
			onTerms(policy.Compute), leasedTo(other, onTerms(policy.Compute)),
		},
	},
	{
		call: "renew or end one's own terms, or confirm", from: inStudio,
		asks: []string{toStudio},
		each: each{yes, yes, password, password, password, yes},
		ways: []way{
			leasedTo(self, onTerms(policy.StudioLocal)), leasedTo(self, requests(policy.StudioLocal)[0]), leasedTo(self, confirm),
		},
	},
	{
		call: "renew or end one's own terms, or confirm", from: inCompute,
		asks: []string{toCompute},
		each: each{yes, kept, password, password, password, yes},
		ways: []way{
			leasedTo(self, onTerms(policy.Compute)), leasedTo(self, requests(policy.Compute)[0]), leasedTo(self, confirm),
		},
	},
	{
		call: "end another user's terms, or confirm", from: inStudio,
		asks: []string{toStudio, toDesktop},
		each: each{yes, kept, password, password, password, yes},
		ways: []way{
			leasedTo(other, requests(policy.StudioLocal)[0]), leasedTo(other, confirm),
		},
	},
	{
		call: "end another user's terms, or confirm", from: inCompute,
		asks: []string{toCompute, toDesktop},
		each: each{yes, kept, password, password, password, yes},
		ways: []way{
			leasedTo(other, requests(policy.Compute)[0]), leasedTo(other, confirm),
		},
	},
	{
		call: "reconcile, which leaves another user's terms", from: inStudio,
		asks: []string{toStudio},
		each: each{yes, yes, password, password, password, yes},
		ways: []way{
			leasedTo(other, reconcile),
		},
	},
}

var otherLines = []line{
	{
		call: "cancel one's own transition", from: anywhere,
		each: everybody,
		ways: []way{announcedBy(self, cancel)},
	},
	{
		call: "cancel another user's transition", from: anywhere,
		asks: []string{busapi.ActionCancel},
		each: each{yes, kept, password, password, password, password},
		ways: []way{
			announcedBy(other, cancel),
		},
	},
	{
		call: "postpone what ends one's graphical session", from: besideCompute,
		each: everybody,
		ways: []way{announcedBy(other, postpone)},
	},
	{
		call: "postpone what ends another person's only", from: inDesktop,
		each:    onlyRoot,
		ways:    []way{announcedBy(other, away(postpone))},
		besides: true,
	},
	{
		call: "postpone what ends none", from: inCompute,
		each: onlyRoot,
		ways: []way{announcedBy(other, postpone)},
	},
	{
		call: "inhibit, block", from: anywhere,
		asks: []string{busapi.ActionInhibitBlock},
		each: each{yes, kept, password, password, password, password},
		ways: []way{
			inhibit("block"),
		},
	},
	{
		call: "inhibit, delay", from: anywhere,
		asks: []string{busapi.ActionInhibitDelay},
		each: each{yes, yes, yes, no, no, no},
		ways: []way{
			inhibit("delay"),
		},
	},
	{
		call: "release one's own inhibitor", from: anywhere,
		each: everybody,
		ways: []way{heldBy(self, release)},
	},
	{
		call: "release another's inhibitor", from: anywhere,
		each: onlyRoot,
		ways: []way{heldBy(other, release)},
	},
	{
		call: "look: every other method", from: anywhere,
		each: everybody,
		ways: reads(),
	},
}

// What a line says of a caller follows from the actions, but for root, who is let.
func TestTheTableFollowsFromTheActions(t *testing.T) {
	for _, l := range rights {
		require.Equal(t, yes, l.each[byRoot], l.call)
		for who := byRoot + 1; who < allAskers && len(l.asks) > 0; who++ {
			worst := yes
			for _, action := range l.asks {
				worst = fromBest[max(slices.Index(fromBest, worst), slices.Index(fromBest, granted[action][who]))]
			}
			require.Equal(t, worst, l.each[who], "%s, %s", l.call, askers[who].name)
		}
	}
}

const (
	securityDoc = "../../docs/security.md"
	tableBegins = "<!-- Written by UPDATE_GOLDEN=1 go test -tags integration ./internal/integration -run TableOfRights -->\n"
	tableEnds   = "<!-- The end of what is written. -->\n"
)

func TestTheDocumentHasTheTableOfRights(t *testing.T) {
	doc := readFile(t, securityDoc)
	before, rest, begins := strings.Cut(doc, tableBegins)
	_, after, ends := strings.Cut(rest, tableEnds)
	require.True(t, begins && ends, "the marks of the table are missing")
	wanted := before + tableBegins + renderTable() + tableEnds + after
	if os.Getenv("UPDATE_GOLDEN") == "1" {
		require.NoError(t, os.WriteFile(securityDoc, []byte(wanted), 0o644))
		return
	}
	require.Equal(t, wanted, doc, "UPDATE_GOLDEN=1 writes it")
}

func renderTable() string {
	var b strings.Builder
	b.WriteString("| call | from | polkit is asked for |")
	for _, k := range askers {
		fmt.Fprintf(&b, " %s |", k.name)
	}
	b.WriteString("\n|---|---|---|" + strings.Repeat("---|", len(askers)) + "\n")
	for _, l := range rights {
		from := "any mode"
		if len(l.from) < len(policy.Modes()) {
			from = words(l.from)
		}
		asks := "nothing"
		if len(l.asks) > 0 {
			asks = strings.ReplaceAll(words(l.asks), "org.dubnium.mode1.", "")
		}
		fmt.Fprintf(&b, "| %s | %s | %s |", l.call, from, asks)
		for _, right := range l.each {
			fmt.Fprintf(&b, " %s |", right)
		}
		b.WriteString("\n")
	}
	return b.String()
}

func words[T ~string](list []T) string {
	var all []string
	for _, one := range list {
		all = append(all, string(one))
	}
	return strings.Join(all, ", ")
}

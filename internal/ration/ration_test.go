package ration

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestEachUserHasABurstAndThenOneAtATime(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	r := New(Ration{Burst: 3, Every: time.Second}, func() time.Time { return now })
	for range 3 {
		require.True(t, r.Take(1000))
	}
	require.False(t, r.Take(1000))
	require.True(t, r.Take(1001), "another user has tokens of their own")
	now = now.Add(time.Second)
	require.True(t, r.Take(1000))
	require.False(t, r.Take(1000))
	now = now.Add(-time.Hour) // the clock was set
	require.False(t, r.Take(1000))
}

func TestUsersWithFullBucketsAreForgotten(t *testing.T) {
	now := time.Unix(1_800_000_000, 0)
	r := New(Ration{Burst: 2, Every: time.Second}, func() time.Time { return now })
	for uid := range uint32(100) {
		require.True(t, r.Take(uid))
	}
	require.Len(t, r.users, 100)
	now = now.Add(time.Second)
	require.True(t, r.Take(1000))
	require.Len(t, r.users, 1)
}

package vllmstandin

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	r, err := client.Get(url)
	if err != nil {
		return 0, err.Error()
	}
	defer r.Body.Close()
	body, err := io.ReadAll(r.Body)
	require.NoError(t, err)
	return r.StatusCode, string(body)
}

// start serves on a listener of the test's, so that no port is guessed.
func start(t *testing.T, opts Options) (*Server, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	opts.Listen = func() (net.Listener, error) { return l, nil }
	s := New(opts)
	require.NoError(t, s.Start())
	t.Cleanup(s.Stop)
	return s, "http://" + l.Addr().String()
}

func TestLoadingAnswers503UntilHealthy(t *testing.T) {
	s, url := start(t, Options{NeverHealthy: true})
	code, _ := get(t, url+"/health")
	require.Equal(t, http.StatusServiceUnavailable, code)
	s.SetHealthy(true)
	code, _ = get(t, url+"/health")
	require.Equal(t, http.StatusOK, code)
}

func TestAPortMayStayClosedWhileLoading(t *testing.T) {
	opened := make(chan struct{})
	s := New(Options{
		RefuseUntilHealthy: true, HealthyAfter: time.Millisecond,
		Listen: func() (net.Listener, error) { defer close(opened); return net.Listen("tcp", "127.0.0.1:0") },
	})
	require.NoError(t, s.Start())
	defer s.Stop()
	<-opened
}

func TestMetricsLookLikeVLLMs(t *testing.T) {
	s, url := start(t, Options{Model: "m"})
	s.SetEngines(Load{Running: []int{5, 3}, Waiting: []int{2, 0}})
	code, page := get(t, url+"/metrics")
	require.Equal(t, http.StatusOK, code)
	for _, line := range []string{
		`# TYPE vllm:num_requests_running gauge`,
		`vllm:num_requests_running{engine="0",model_name="m"} 5.0`,
		`vllm:num_requests_running{engine="1",model_name="m"} 3.0`,
		`vllm:num_requests_waiting{engine="0",model_name="m"} 2.0`,
		`vllm:num_requests_waiting_by_reason{engine="0",model_name="m",reason="capacity"} 2.0`,
	} {
		require.Contains(t, strings.Split(page, "\n"), line)
	}
	s.BreakMetrics(true)
	code, _ = get(t, url+"/metrics")
	require.Equal(t, http.StatusInternalServerError, code)
}

func TestAStoppedServerRefuses(t *testing.T) {
	s, url := start(t, Options{})
	s.Stop()
	code, text := get(t, url+"/health")
	require.Zero(t, code)
	require.Contains(t, text, "refused")
}

func TestControlChangesOnlyWhatItNames(t *testing.T) {
	s := New(Options{})
	put := func(body string) int {
		w := httptest.NewRecorder()
		s.ControlHandler().ServeHTTP(w, httptest.NewRequest(http.MethodPut, "/_control", strings.NewReader(body)))
		return w.Code
	}
	require.Equal(t, http.StatusOK, put(`{"running":[4]}`))
	require.Equal(t, http.StatusOK, put(`{"healthy":true}`))
	require.Equal(t, Load{Running: []int{4}, Waiting: []int{0}}, s.load)
	require.True(t, s.healthy)
	require.Equal(t, http.StatusBadRequest, put(`{"runing":[4]}`))
}

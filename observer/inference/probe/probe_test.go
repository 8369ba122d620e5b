package probe

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/dubnium/dubnium/observer/inference"
)

const page = `# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="m"} 2.0
vllm:num_requests_running{engine="1",model_name="m"} 1.0
# TYPE vllm:num_requests_running_total counter
vllm:num_requests_running_total 99
# TYPE vllm:num_requests_waiting gauge
vllm:num_requests_waiting{engine="0",model_name="m"} 0.0
`

// ask asks a server that answers /health and /metrics with the given handlers.
func ask(t *testing.T, health, metrics http.HandlerFunc) inference.Document {
	t.Helper()
	mux := http.NewServeMux()
	mux.HandleFunc("/health", health)
	mux.HandleFunc("/metrics", metrics)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return Read(t.Context(), server.URL+"/health", server.URL+"/metrics")
}

func says(code int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		fmt.Fprint(w, body)
	}
}

func TestAHealthyServerWithItsRequests(t *testing.T) {
	d := ask(t, says(200, ""), says(200, page))
	require.True(t, *d.Healthy)
	require.Empty(t, d.HealthText)
	require.InDelta(t, 3, *d.Running, 0)
	require.InDelta(t, 0, *d.Waiting, 0)
}

func TestOnlyA200IsHealthy(t *testing.T) {
	for _, code := range []int{204, 302, 404, 500, 503} {
		d := ask(t, says(code, ""), says(200, page))
		require.False(t, *d.Healthy)
		require.Equal(t, fmt.Sprintf("/health answered %d", code), d.HealthText)
	}
}

func TestNoRedirectIsFollowed(t *testing.T) {
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("followed") }))
	defer elsewhere.Close()
	redirect := http.RedirectHandler(elsewhere.URL, http.StatusFound).ServeHTTP
	d := ask(t, redirect, redirect)
	require.Equal(t, "/health answered 302", d.HealthText)
	require.Nil(t, d.Running)
}

func TestNoProxyOfTheEnvironmentIsUsed(t *testing.T) {
	require.Nil(t, newClient().Transport.(*http.Transport).Proxy)
}

func TestAServerThatIsNotThereIsNotHealthy(t *testing.T) {
	server := httptest.NewServer(nil)
	server.Close()
	d := Read(t.Context(), server.URL+"/health", server.URL+"/metrics")
	require.False(t, *d.Healthy)
	require.Contains(t, d.HealthText, "/health cannot be read: dial tcp")
	require.Nil(t, d.Running)
}

func TestAServerThatHangsDoesNotHangTheProbe(t *testing.T) {
	hang := func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush()
		<-r.Context().Done()
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/health", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	mux.HandleFunc("/metrics", hang)
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	d := Read(ctx, server.URL+"/health", server.URL+"/metrics")
	require.Contains(t, d.HealthText, "no answer within")
	require.Nil(t, d.Running)
}

func TestAMetricThatCannotBeReadIsMissingAndNotZero(t *testing.T) {
	cases := map[string]http.HandlerFunc{
		"no such metric": says(200, "# TYPE up gauge\nup 1\n"),
		"a longer name":  says(200, "vllm:num_requests_running_total 1\n"),
		"other case":     says(200, "vllm:Num_Requests_Running 1\n"),
		"not a number":   says(200, "vllm:num_requests_running NaN\n"),
		"infinite":       says(200, "vllm:num_requests_running +Inf\n"),
		"negative":       says(200, "vllm:num_requests_running -1\n"),
		"a histogram":    says(200, "# TYPE vllm:num_requests_running histogram\nvllm:num_requests_running_count 1\n"),
		"broken later":   says(200, page+"\nfoo{ 1\n"),
		"cut off": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100000")
			fmt.Fprint(w, page)
		},
		"not the page":   says(404, page),
		"a web page":     says(200, "<html>hello</html>"),
		"too much of it": says(200, strings.Repeat("# x\n", maxMetrics/4)+page),
	}
	for name, metrics := range cases {
		t.Run(name, func(t *testing.T) {
			d := ask(t, says(200, ""), metrics)
			require.True(t, *d.Healthy)
			require.Nil(t, d.Running)
		})
	}
}

func TestOneMetricAloneIsOne(t *testing.T) {
	d := ask(t, says(200, ""), says(200, "vllm:num_requests_waiting 4\n"))
	require.Nil(t, d.Running)
	require.InDelta(t, 4, *d.Waiting, 0)
}

// FuzzParse: no page crashes the probe, and no sum is less than nothing.
func FuzzParse(f *testing.F) {
	f.Add(page)
	f.Add("vllm:num_requests_running{a=\"\\\\\"} 1e309\n")
	f.Add("# TYPE vllm:num_requests_running summary\nvllm:num_requests_running{quantile=\"0.5\"} 1\n")
	f.Add("{}0")
	f.Add("{\"vllm:num_requests_running\",x=\"y\"} 1\n")
	f.Fuzz(func(t *testing.T, text string) {
		running, waiting := parse(strings.NewReader(text), 1<<20)
		for _, n := range []*float64{running, waiting} {
			if n != nil {
				require.GreaterOrEqual(t, *n, 0.0)
				require.False(t, math.IsInf(*n, 0))
			}
		}
	})
}

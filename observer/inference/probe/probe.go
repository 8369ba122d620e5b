// Package probe reads vLLM: its health check, and the requests in flight from its Prometheus page.
//
// The result comes within the deadline and is bounded, whether the server is slow, endless,
// redirecting or broken. A server that cannot be read is not healthy, with the error as the text. A
// metric that cannot be read is missing, never zero.
package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"syscall"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/dubnium/dubnium/observer/inference"
)

// Deadline bounds both requests together.
const Deadline = 5 * time.Second

// maxMetrics bounds the page of metrics; vLLM's has some tens of kilobytes.
const maxMetrics = 4 << 20

// The metrics' names (vLLM, vllm/v1/metrics/loggers.py).
const (
	runningMetric = "vllm:num_requests_running"
	waitingMetric = "vllm:num_requests_waiting"
)

// Read reads the server at these addresses.
func Read(ctx context.Context, healthURL, metricsURL string) inference.Document {
	ctx, cancel := context.WithTimeout(ctx, Deadline)
	defer cancel()
	client := newClient()
	defer client.CloseIdleConnections()

	var d inference.Document
	d.HealthText, d.NotListening = health(ctx, client, healthURL)
	healthy := d.HealthText == ""
	d.Healthy = &healthy
	d.Running, d.Waiting = requests(ctx, client, metricsURL)
	return d
}

// newClient connects to the requested address only: it uses no proxy and follows no redirect.
func newClient() *http.Client {
	return &http.Client{
		Transport: &http.Transport{
			Proxy:                  nil,
			DisableKeepAlives:      true,
			DisableCompression:     true, // a small answer could decompress to a huge one
			MaxResponseHeaderBytes: 64 << 10,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// health returns what is wrong, empty if the status is 200, and whether the port is closed.
func health(ctx context.Context, client *http.Client, address string) (fault string, closed bool) {
	response, err := get(ctx, client, address)
	if err != nil {
		return "/health cannot be read: " + err.Error(), errors.Is(err, syscall.ECONNREFUSED)
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Sprintf("/health answered %d", response.StatusCode), false
	}
	return "", false
}

func get(ctx context.Context, client *http.Client, address string) (*http.Response, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, address, http.NoBody)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if ctx.Err() != nil {
		return nil, fmt.Errorf("no answer within %s", Deadline)
	}
	// The text of url.Error repeats method and address.
	if wrapped := (*url.Error)(nil); errors.As(err, &wrapped) {
		return nil, wrapped.Err
	}
	return response, err
}

// requests reads both metrics from one page, so that they are of the same moment.
func requests(ctx context.Context, client *http.Client, address string) (running, waiting *float64) {
	response, err := get(ctx, client, address)
	if err != nil {
		return nil, nil
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return nil, nil
	}
	return parse(io.LimitReader(response.Body, maxMetrics+1), maxMetrics)
}

// parse parses a page in the text format of Prometheus. A page that is cut off, too long, or invalid
// in any line gives neither metric, since the sum could be incomplete.
func parse(page io.Reader, limit int64) (running, waiting *float64) {
	// A line with braces and no name, "{}0", panics in the parser (expfmt 0.67,
	// startLabelName; found by FuzzParse).
	defer func() {
		if recover() != nil {
			running, waiting = nil, nil
		}
	}()
	counted := &countingReader{reader: page}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(counted)
	if err != nil || counted.n > limit {
		return nil, nil
	}
	sum := func(name string) *float64 {
		family, ok := families[name]
		if !ok {
			return nil
		}
		total := 0.0
		for _, m := range family.GetMetric() {
			switch {
			case m.Gauge != nil:
				total += m.Gauge.GetValue()
			case m.Counter != nil:
				total += m.Counter.GetValue()
			case m.Untyped != nil:
				total += m.Untyped.GetValue()
			default:
				return nil // a histogram of that name is another metric
			}
		}
		if math.IsNaN(total) || math.IsInf(total, 0) || total < 0 {
			return nil
		}
		return &total
	}
	return sum(runningMetric), sum(waitingMetric)
}

type countingReader struct {
	reader io.Reader
	n      int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.reader.Read(p)
	c.n += int64(n)
	return n, err
}

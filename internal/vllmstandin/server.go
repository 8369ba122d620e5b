// Package vllmstandin is an HTTP server that looks like vLLM to whoever asks
// after its health and its load. The simulated workstation runs it in-process;
// cmd/vllm-standin is the same as a program, for a real machine's vllm.service.
//
// It promises what vLLM's own pages do: the port refuses until the engine is
// up, or answers 503 where asked to; /metrics is Prometheus text with the
// labels and the neighbouring names that a careless parser would add up.
package vllmstandin

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"
)

// Options is how the server behaves.
type Options struct {
	// Addr is where to listen.
	Addr string
	// Listen opens the listener; nil: net.Listen on Addr.
	Listen func() (net.Listener, error)
	// HealthyAfter is how long the engine takes to load.
	HealthyAfter time.Duration
	// NeverHealthy never loads.
	NeverHealthy bool
	// RefuseUntilHealthy keeps the port closed while loading, as vLLM does;
	// otherwise /health answers 503, as it does with a dead engine.
	RefuseUntilHealthy bool
	// Model is the model_name label; empty: a made-up one.
	Model string
}

// Load is what the engines report. Each element is one engine.
type Load struct {
	Running []int `json:"running"`
	Waiting []int `json:"waiting"`
}

// Server is one run of the server; a stopped one can be started again.
type Server struct {
	opts Options

	mu      sync.Mutex
	load    Load
	broken  bool // metrics answer an error
	healthy bool
	http    *http.Server
	timer   *time.Timer
	served  sync.WaitGroup
	run     int // tells a timer of an earlier run from this one's
}

// New makes a server that does not serve yet.
func New(opts Options) *Server {
	if opts.Listen == nil {
		opts.Listen = func() (net.Listener, error) { return net.Listen("tcp", opts.Addr) }
	}
	if opts.Model == "" {
		opts.Model = "dubnium/stand-in-8b"
	}
	return &Server{opts: opts, load: Load{Running: []int{0}, Waiting: []int{0}}}
}

// Configure changes the behaviour of the next start.
func (s *Server) Configure(change func(*Options)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	change(&s.opts)
}

// SetLoad sets the requests of one engine.
func (s *Server) SetLoad(running, waiting int) {
	s.SetEngines(Load{Running: []int{running}, Waiting: []int{waiting}})
}

// SetEngines sets the requests of several engines.
func (s *Server) SetEngines(load Load) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.load = load
}

// SetHealthy ends or begins the loading phase now. A port that is still closed
// opens only by itself.
func (s *Server) SetHealthy(healthy bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.healthy = healthy
}

// BreakMetrics makes /metrics answer 500.
func (s *Server) BreakMetrics(broken bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.broken = broken
}

// Start begins to load, and to serve when that is due.
func (s *Server) Start() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.http != nil || s.timer != nil {
		return fmt.Errorf("cannot start the stand-in: it runs already")
	}
	s.run++
	s.healthy = s.opts.HealthyAfter <= 0 && !s.opts.NeverHealthy
	if s.healthy || !s.opts.RefuseUntilHealthy {
		if err := s.serve(); err != nil {
			return err
		}
	}
	if !s.healthy && !s.opts.NeverHealthy {
		run := s.run
		s.timer = time.AfterFunc(s.opts.HealthyAfter, func() { s.loaded(run) })
	}
	return nil
}

// loaded runs when the engine is up.
func (s *Server) loaded(run int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if run != s.run {
		return
	}
	s.timer, s.healthy = nil, true
	if s.http == nil {
		// Nobody is there to tell; a port that stays closed says it.
		_ = s.serve()
	}
}

func (s *Server) serve() error {
	l, err := s.opts.Listen()
	if err != nil {
		return fmt.Errorf("cannot listen for the stand-in: %w", err)
	}
	server := &http.Server{Handler: s.Handler(), ReadHeaderTimeout: 5 * time.Second}
	s.http = server
	s.served.Go(func() { _ = server.Serve(l) }) // ends with ErrServerClosed
	return nil
}

// Stop drops every connection, as vLLM aborts its requests on SIGTERM.
func (s *Server) Stop() {
	s.mu.Lock()
	if s.timer != nil {
		s.timer.Stop()
	}
	server := s.http
	s.http, s.timer, s.healthy = nil, nil, false
	s.run++
	s.mu.Unlock()
	if server != nil {
		_ = server.Close()
	}
	s.served.Wait()
}

// Handler serves vLLM's two pages.
func (s *Server) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if !s.healthy {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, _ *http.Request) {
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.broken {
			w.WriteHeader(http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		_, _ = w.Write([]byte(metrics(s.opts.Model, s.load)))
	})
	return mux
}

// metrics prints the page in vLLM's words (vllm/v1/metrics/loggers.py). The
// by_reason series is there because its name begins like the one that counts.
func metrics(model string, load Load) string {
	var b strings.Builder
	gauge := func(name, label, help string, values []int) {
		fmt.Fprintf(&b, "# HELP %s %s\n# TYPE %s gauge\n", name, help, name)
		for engine, v := range values {
			fmt.Fprintf(&b, "%s{engine=\"%d\",model_name=\"%s\"%s} %d.0\n", name, engine, model, label, v)
		}
	}
	gauge("vllm:num_requests_running", "", "Number of requests in model execution batches.", load.Running)
	gauge("vllm:num_requests_waiting", "", "Number of requests waiting to be processed.", load.Waiting)
	gauge("vllm:num_requests_waiting_by_reason", `,reason="capacity"`,
		"Number of requests waiting, by reason.", load.Waiting)
	gauge("vllm:kv_cache_usage_perc", "", "KV-cache usage. 1 means 100 percent usage.", make([]int, len(load.Running)))
	b.WriteString("# HELP vllm:num_preemptions_total Cumulative number of preemption from the engine.\n" +
		"# TYPE vllm:num_preemptions_total counter\n")
	fmt.Fprintf(&b, "vllm:num_preemptions_total{engine=\"0\",model_name=\"%s\"} 0.0\n", model)
	return b.String()
}

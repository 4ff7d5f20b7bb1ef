package server

import (
	"fmt"
	"math"
	"net/http"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A Gauge is a further figure for /metrics.
type Gauge struct {
	Name   string // with its unit at the end, as Prometheus wants it; _total where it only grows
	Help   string
	Labels string // as they stand between braces; "": none
	Value  func() float64
}

// slower are the bounds of the histogram, in seconds.
var slower = [...]float64{0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30}

// metrics count answers. The text is written here: the usual library makes a program
// 2.8 MB larger (8.8 in place of 6.0, stripped), for some fifty lines.
type metrics struct {
	began  time.Time
	direct atomic.Int64 // answers that net/http has not seen

	mu       sync.Mutex
	requests map[request]int64  // guarded by mu
	bytes    int64              // guarded by mu
	took     [len(slower)]int64 // no longer than the bound, and longer than the one before; guarded by mu
	all      int64              // guarded by mu
	seconds  float64            // guarded by mu
}

// A request is what requests are counted by.
type request struct {
	method string
	status int
}

func (m *metrics) count(r request, bytes int64, took time.Duration) {
	switch r.method {
	case http.MethodGet, http.MethodHead, http.MethodPut:
	default:
		r.method = "other" // a stranger may think of any number of them
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.requests == nil {
		m.requests = make(map[request]int64)
	}
	m.requests[r]++
	m.bytes += bytes
	m.all++
	m.seconds += took.Seconds()
	for i, bound := range slower {
		if took.Seconds() <= bound {
			m.took[i]++
			break
		}
	}
}

// serveMetrics writes all figures in the text format of Prometheus.
func (s *Server) serveMetrics(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Cache-Control", never)
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	var p page
	s.metrics.write(&p)
	open, resting, evicted := s.conns.counts()
	p.one("caravel_http_direct_total", "counter", "Requests for chunks that were answered by the short way.", float64(s.metrics.direct.Load()))
	p.one("caravel_http_connections", "gauge", "Connections of clients.", float64(open))
	p.one("caravel_http_connections_idle", "gauge", "Connections that serve no request.", float64(resting))
	p.one("caravel_http_connections_max", "gauge", "The most connections that there may be.", float64(s.opt.Conns))
	p.one("caravel_http_connections_evicted_total", "counter", "Idle connections that had to go for others.", float64(evicted))
	var further []Gauge
	if s.opt.Gauge != nil {
		further = s.opt.Gauge()
	}
	for _, g := range further {
		kind := "gauge"
		if strings.HasSuffix(g.Name, "_total") {
			kind = "counter"
		}
		p.head(g.Name, kind, g.Help)
		p.line(g.Name, g.Labels, g.Value())
	}
	var mem runtime.MemStats
	runtime.ReadMemStats(&mem)
	p.one("go_goroutines", "gauge", "Goroutines.", float64(runtime.NumGoroutine()))
	p.one("go_memstats_sys_bytes", "gauge", "Bytes of memory that were had from the system.", float64(mem.Sys))
	p.one("process_start_time_seconds", "gauge", "When it began, in seconds since 1970.", float64(s.metrics.began.UnixMilli())/1e3)
	_, _ = w.Write([]byte(p.String())) // who asked may have gone
}

func (m *metrics) write(p *page) {
	m.mu.Lock()
	defer m.mu.Unlock()
	p.head("caravel_http_requests_total", "counter", "Requests that were answered.")
	var kinds []request
	for k := range m.requests {
		kinds = append(kinds, k)
	}
	slices.SortFunc(kinds, func(x, y request) int {
		if x.method != y.method {
			return strings.Compare(x.method, y.method)
		}
		return x.status - y.status
	})
	for _, k := range kinds {
		p.line("caravel_http_requests_total", fmt.Sprintf("method=%q,code=\"%d\"", k.method, k.status), float64(m.requests[k]))
	}
	p.one("caravel_http_response_bytes_total", "counter", "Bytes of the bodies of answers.", float64(m.bytes))
	const name = "caravel_http_request_duration_seconds"
	p.head(name, "histogram", "How long answers took.")
	n := int64(0)
	for i, bound := range slower {
		n += m.took[i]
		p.line(name+"_bucket", `le="`+number(bound)+`"`, float64(n))
	}
	p.line(name+"_bucket", `le="+Inf"`, float64(m.all))
	p.line(name+"_sum", "", m.seconds)
	p.line(name+"_count", "", float64(m.all))
}

// A page is a text of figures.
type page struct {
	strings.Builder
	last string // the figure that was explained
}

func (p *page) head(name, kind, help string) {
	if p.last == name {
		return
	}
	p.last = name
	fmt.Fprintf(p, "# HELP %s %s\n# TYPE %[1]s %[3]s\n", name, help, kind)
}

func (p *page) line(name, labels string, value float64) {
	p.WriteString(name)
	if labels != "" {
		p.WriteString("{" + labels + "}")
	}
	p.WriteString(" " + number(value) + "\n")
}

func (p *page) one(name, kind, help string, value float64) {
	p.head(name, kind, help)
	p.line(name, "", value)
}

func number(v float64) string {
	if v == math.Trunc(v) && math.Abs(v) < 1<<53 {
		return strconv.FormatInt(int64(v), 10)
	}
	return strconv.FormatFloat(v, 'g', -1, 64)
}

package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"

	"github.com/vmware/govmomi/vim25/types"
)

// fault is one thing that goes wrong, as a test orders it (POST /faults).
type fault struct {
	ID int `json:"id"`
	// Kind of NFC bodies: cut, truncate, stall, status, corrupt, slow. Of leases: lease_error.
	// Of SOAP calls: method_fault, task_fault, method_delay. Of the SDK's HTTP: sdk_status, sdk_cut.
	Kind string `json:"kind"`
	// VM (name or MoRef) and Disk (device key or target) that are hit; empty means any.
	VM   string `json:"vm"`
	Disk string `json:"disk"`
	// AfterBytes: where in the body it happens (cut, truncate, stall, corrupt), or begins (slow).
	AfterBytes int64 `json:"after_bytes"`
	// BytesPerSecond of a slow body.
	BytesPerSecond int64 `json:"bytes_per_second"`
	// Status of an HTTP answer (status, sdk_status).
	Status int `json:"status"`
	// Method that is hit (method_fault, task_fault, method_delay).
	Method string `json:"method"`
	// Fault is the name of a vSphere fault, Detail its fields.
	Fault  string          `json:"fault"`
	Detail json.RawMessage `json:"detail,omitempty"`
	// DelaySeconds of a method_delay, or of a stall (default: until the order is removed).
	DelaySeconds float64 `json:"delay_seconds"`
	// Count is how often it happens; negative: until it is removed. Default 1.
	Count int `json:"count"`
	// Fired is how often it has happened.
	Fired int `json:"fired"`

	cleared chan struct{}
}

var nfcKinds = map[string]bool{
	"cut": true, "truncate": true, "stall": true, "status": true, "corrupt": true, "slow": true,
}

var otherKinds = map[string]bool{
	"lease_error": true, "method_fault": true, "task_fault": true, "method_delay": true,
	"sdk_status": true, "sdk_cut": true,
}

func (f *fault) check() error {
	if !nfcKinds[f.Kind] && !otherKinds[f.Kind] {
		return fmt.Errorf("unknown kind of fault %q", f.Kind)
	}
	switch f.Kind {
	case "method_fault", "task_fault", "lease_error":
		if _, err := f.build(); err != nil {
			return err
		}
	}
	if f.Kind == "slow" && f.BytesPerSecond <= 0 {
		return fmt.Errorf("a slow body needs bytes_per_second")
	}
	if f.Kind == "task_fault" && !gateMethods[f.Method] {
		return fmt.Errorf("task_fault is not possible for %q", f.Method)
	}
	return nil
}

// build makes the vSphere fault that the order names.
func (f *fault) build() (types.BaseMethodFault, error) {
	made := faultNamed(f.Fault)
	if made == nil {
		return nil, fmt.Errorf("no vSphere fault is called %q", f.Fault)
	}
	if len(f.Detail) > 0 {
		if err := json.Unmarshal(f.Detail, made); err != nil {
			return nil, fmt.Errorf("detail of %s: %w", f.Fault, err)
		}
	}
	return made, nil
}

func (f *fault) hits(names ...string) bool {
	if f.VM == "" {
		return true
	}
	for _, name := range names {
		if name == f.VM {
			return true
		}
	}
	return false
}

func (f *fault) isCleared() bool {
	select {
	case <-f.cleared:
		return true
	default:
		return false
	}
}

// faultBook holds the orders that are not used up.
type faultBook struct {
	mu     sync.Mutex
	next   int
	orders []*fault
}

func newFaultBook() *faultBook { return &faultBook{next: 1} }

func (b *faultBook) add(order *fault) {
	b.mu.Lock()
	defer b.mu.Unlock()
	order.ID = b.next
	b.next++
	if order.Count == 0 {
		order.Count = 1
	}
	order.Fired = 0
	order.cleared = make(chan struct{})
	b.orders = append(b.orders, order)
}

// clear forgets all orders and lets stalled and slow bodies go on.
func (b *faultBook) clear() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, order := range b.orders {
		close(order.cleared)
	}
	b.orders = nil
}

func (b *faultBook) list() []fault {
	b.mu.Lock()
	defer b.mu.Unlock()
	orders := make([]fault, 0, len(b.orders))
	for _, order := range b.orders {
		orders = append(orders, *order)
	}
	return orders
}

// take finds the first order that matches and still has to happen, and counts it as happened.
func (b *faultBook) take(match func(*fault) bool) *fault {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, order := range b.orders {
		if (order.Count < 0 || order.Fired < order.Count) && match(order) {
			order.Fired++
			return order
		}
	}
	return nil
}

func (b *faultBook) delayMethod(method, moid, name string) {
	order := b.take(func(f *fault) bool {
		return f.Kind == "method_delay" && f.Method == method && f.hits(moid, name)
	})
	if order == nil {
		return
	}
	select {
	case <-time.After(seconds(order.DelaySeconds)):
	case <-order.cleared:
	}
}

func (b *faultBook) failMethod(method, moid, name string) types.BaseMethodFault {
	order := b.take(func(f *fault) bool {
		return f.Kind == "method_fault" && f.Method == method && f.hits(moid, name)
	})
	return built(order)
}

// failTask is for calls whose fault comes in the task, as most of a real vCenter's do.
func (b *faultBook) failTask(method, moid, name string) types.BaseMethodFault {
	order := b.take(func(f *fault) bool {
		return f.Kind == "task_fault" && f.Method == method && f.hits(moid, name)
	})
	return built(order)
}

func (b *faultBook) failLease(moid, name string) types.BaseMethodFault {
	order := b.take(func(f *fault) bool { return f.Kind == "lease_error" && f.hits(moid, name) })
	return built(order)
}

func (b *faultBook) body(target *exportedFile, moid, name string) *fault {
	return b.take(func(f *fault) bool {
		hit := f.Disk == "" || f.Disk == target.id || f.Disk == strconv.Itoa(int(target.deviceKey))
		return nfcKinds[f.Kind] && hit && f.hits(moid, name)
	})
}

func built(order *fault) types.BaseMethodFault {
	if order == nil {
		return nil
	}
	made, _ := order.build() // checked when it was ordered
	return made
}

// sdkFaults spoils the HTTP of the SDK.
func (l *lab) sdkFaults(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			order := l.faults.take(func(f *fault) bool { return f.Kind == "sdk_status" || f.Kind == "sdk_cut" })
			if order != nil && order.Kind == "sdk_cut" {
				panic(http.ErrAbortHandler)
			}
			if order != nil {
				http.Error(w, http.StatusText(order.Status), order.Status)
				return
			}
		}
		next.ServeHTTP(w, r)
	})
}

// outage breaks every request while the lab is down.
func (l *lab) outage(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if l.knobs().Down {
			panic(http.ErrAbortHandler)
		}
		next.ServeHTTP(w, r)
	})
}

func seconds(n float64) time.Duration { return time.Duration(n * float64(time.Second)) }

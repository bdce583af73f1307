package fastworker

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	"github.com/fastworker/fastworker/guest-sdk/go/internal/host"
)

// cancelPoll is how often an attempt that waits for the end of its context asks the host.
const cancelPoll = 20 * time.Millisecond

// An Attempt is one run of a task.
type Attempt struct {
	// TaskID is the same for each attempt of the task: use it as the idempotency key of effects that must happen
	// only once.
	TaskID string
	// Name is the task name.
	Name string
	// Number counts the attempts of the task from 1.
	Number int
	// Deadline is when the host stops the attempt.
	Deadline time.Time
	// Priority is "critical", "high", "normal" or "low".
	Priority string
	// Parent is the id of the task that submitted this one as a follow-up. It may be empty.
	Parent string
	// Tags are those that the client set.
	Tags []string
	// TraceParent is the trace context of the task, as in W3C Trace Context. It may be empty.
	TraceParent string
	// Metadata has these and all other keys of the task's metadata.
	Metadata map[string]json.RawMessage
}

var current *host.Invocation

// Current returns the running attempt. Outside of one it is a first attempt without an id, and with a day left.
func Current() Attempt {
	call := current
	if call == nil {
		call = &host.Invocation{Attempt: 1, Deadline: time.Now().Add(24 * time.Hour)}
	}
	attempt := Attempt{TaskID: call.TaskID, Name: call.Name, Number: int(call.Attempt), Deadline: call.Deadline}
	_ = json.Unmarshal([]byte(call.Metadata), &attempt.Metadata)
	attempt.Priority = Normal
	keys := map[string]any{
		"priority":    &attempt.Priority,
		"parent":      &attempt.Parent,
		"tags":        &attempt.Tags,
		"traceparent": &attempt.TraceParent,
	}
	for key, target := range keys {
		if value, ok := attempt.Metadata[key]; ok {
			_ = json.Unmarshal(value, target)
		}
	}
	return attempt
}

// Progress reports that done of total steps are done, and what the current one is. A total of 0 means that it is
// unknown.
func Progress(done, total uint64, message string) {
	if host.Current != nil {
		host.Current.Progress(done, total, message)
	}
}

// Cancelled returns whether the attempt is about to be stopped: cancelled, or past its deadline. An attempt that
// checks this can clean up before it ends; one that does not is stopped all the same. The context of a task function
// ends then, too.
func Cancelled() bool { return host.Current != nil && host.Current.IsCancelled() }

// An attemptContext is the context of an attempt. It asks the host instead of running a timer, until someone waits.
type attemptContext struct {
	deadline time.Time
	once     sync.Once
	done     chan struct{}
}

func newContext(deadline time.Time) context.Context {
	return &attemptContext{deadline: deadline, done: make(chan struct{})}
}

func (c *attemptContext) Deadline() (time.Time, bool) { return c.deadline, true }
func (c *attemptContext) Value(any) any               { return nil }

func (c *attemptContext) Err() error {
	switch {
	case !time.Now().Before(c.deadline):
		return context.DeadlineExceeded
	case Cancelled():
		return context.Canceled
	}
	return nil
}

func (c *attemptContext) Done() <-chan struct{} {
	c.once.Do(func() { go c.watch() })
	return c.done
}

func (c *attemptContext) watch() {
	for c.Err() == nil {
		time.Sleep(cancelPoll)
	}
	close(c.done)
}

// Package fastworkertest runs tasks in tests, with `go test` alone: as the host would, from JSON to JSON.
//
//	func TestAdd(t *testing.T) {
//		got := fastworkertest.Run(t, "add", 2, 3)
//		if got.Result != "5" { … }
//	}
package fastworkertest

import (
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/fastworker/fastworker/guest-sdk/go/internal/host"
)

// A Call is one attempt to run a task. Zero fields have defaults.
type Call struct {
	Name   string
	Args   []any
	Kwargs map[string]any
	// Attempt counts from 1.
	Attempt int
	TaskID  string
	// Deadline is in a day if it is zero.
	Deadline time.Time
	// Metadata is the priority, parent, tags and traceparent of the task.
	Metadata map[string]any
	// Cancelled is asked by fastworker.Cancelled and the context. It may be nil.
	Cancelled func() bool
	// RefuseFollowUps makes every follow-up fail with this message.
	RefuseFollowUps string
}

// A Case is whether another attempt may follow a failure.
type Case int

// The cases of a failure.
const (
	BadArguments  = Case(host.BadArguments)
	Failed        = Case(host.Failed)
	TryAgainAfter = Case(host.TryAgainAfter)
	GiveUp        = Case(host.GiveUp)
)

// A Failure is why an attempt failed.
type Failure struct {
	Case          Case
	Message, Kind string
	// Details are JSON, or empty.
	Details string
	Delay   time.Duration
}

// A FollowUp is a task that the attempt submitted. All but its name are JSON.
type FollowUp struct{ Name, Args, Kwargs, Options string }

// An Outcome is how an attempt ended.
type Outcome struct {
	// Result is JSON. It is empty if the attempt failed.
	Result    string
	Failure   *Failure
	Log       []string
	Progress  []string
	FollowUps []FollowUp
}

// Run runs one attempt of the task with these arguments by position.
func Run(t testing.TB, name string, args ...any) Outcome {
	t.Helper()
	return Call{Name: name, Args: args}.Run(t)
}

// running is held by the attempt that runs: there is one in each instance of a module.
var running sync.Mutex

// Run runs the attempt.
func (c Call) Run(t testing.TB) Outcome {
	t.Helper()
	running.Lock()
	defer running.Unlock()
	if c.Args == nil {
		c.Args = []any{}
	}
	if c.Kwargs == nil {
		c.Kwargs = map[string]any{}
	}
	if c.Metadata == nil {
		c.Metadata = map[string]any{}
	}
	if c.Deadline.IsZero() {
		c.Deadline = time.Now().Add(24 * time.Hour)
	}
	attempt := &attempt{call: c}
	previous := host.Current
	host.Current = attempt
	defer func() { host.Current = previous }()
	result, failure := host.Run(host.Invocation{
		TaskID:   c.TaskID,
		Name:     c.Name,
		Attempt:  uint32(max(c.Attempt, 1)),
		Deadline: c.Deadline,
		Args:     text(t, c.Args),
		Kwargs:   text(t, c.Kwargs),
		Metadata: text(t, c.Metadata),
	})
	attempt.lock.Lock()
	defer attempt.lock.Unlock()
	outcome := attempt.outcome
	outcome.Result = result
	if failure != nil {
		outcome.Failure = &Failure{Case(failure.Case), failure.Message, failure.Kind, failure.Details, failure.Delay}
	}
	return outcome
}

// A Descriptor describes a task to the host. Schema and Policy are JSON.
type Descriptor struct{ Name, Documentation, Schema, Policy string }

// Describe returns the description of a task for the host.
func Describe(t testing.TB, name string) Descriptor {
	t.Helper()
	for _, task := range host.Register() {
		if task.Name == name {
			return Descriptor(task)
		}
	}
	t.Fatalf("there is no task %q", name)
	return Descriptor{}
}

func text(t testing.TB, value any) string {
	t.Helper()
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatalf("cannot be written as JSON: %v", err)
	}
	return string(text)
}

// An attempt is the host of one attempt.
type attempt struct {
	call    Call
	lock    sync.Mutex
	outcome Outcome
}

var levels = [...]string{"trace", "debug", "info", "warn", "error"}

func (a *attempt) Log(level host.Level, message string) {
	a.lock.Lock()
	defer a.lock.Unlock()
	a.outcome.Log = append(a.outcome.Log, levels[level]+" "+message)
}

func (a *attempt) Progress(done, total uint64, message string) {
	a.lock.Lock()
	defer a.lock.Unlock()
	a.outcome.Progress = append(a.outcome.Progress, fmt.Sprintf("%d/%d %s", done, total, message))
}

func (a *attempt) IsCancelled() bool { return a.call.Cancelled != nil && a.call.Cancelled() }

func (a *attempt) Submit(task host.FollowUp) (string, error) {
	a.lock.Lock()
	defer a.lock.Unlock()
	if a.call.RefuseFollowUps != "" {
		return "", errors.New(a.call.RefuseFollowUps)
	}
	a.outcome.FollowUps = append(a.outcome.FollowUps, FollowUp(task))
	return fmt.Sprintf("follow-up-%d", len(a.outcome.FollowUps)-1), nil
}

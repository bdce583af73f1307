// Package host is the interface between a module and the host, in plain Go types: in a module the bindings
// implement it, in tests the package fastworkertest.
package host

import "time"

// A Descriptor describes a task to the host.
type Descriptor struct {
	Name, Documentation, Schema, Policy string
}

// An Invocation is one attempt to run a task.
type Invocation struct {
	TaskID, Name           string
	Attempt                uint32
	Deadline               time.Time
	Args, Kwargs, Metadata string
}

// A FollowUp is a task to submit when the attempt succeeds.
type FollowUp struct {
	Name, Args, Kwargs, Options string
}

// FailureCase is whether another attempt may follow.
type FailureCase int

// The cases of a failure in the contract.
const (
	BadArguments FailureCase = iota
	Failed
	TryAgainAfter
	GiveUp
)

// A Failure is why an attempt failed.
type Failure struct {
	Case                   FailureCase
	Message, Kind, Details string
	// Delay is the minimum delay before the next attempt, for TryAgainAfter.
	Delay time.Duration
}

// Level is the severity of a log line.
type Level uint8

// The levels of the contract.
const (
	Trace Level = iota
	Debug
	Info
	Warn
	Error
)

// Functions are the functions of the host that an attempt can call.
type Functions interface {
	Log(level Level, message string)
	Progress(done, total uint64, message string)
	IsCancelled() bool
	Submit(task FollowUp) (id string, err error)
}

// Current is the host. It is nil outside of a module and of a test with fastworkertest.
var Current Functions

// The functions of the module, for fastworkertest. The package fastworker sets them.
var (
	Register func() []Descriptor
	Run      func(Invocation) (string, *Failure)
)

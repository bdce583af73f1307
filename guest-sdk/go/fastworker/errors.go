package fastworker

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/fastworker/fastworker/guest-sdk/go/internal/host"
)

// An ArgumentError is returned by [BadArguments].
type ArgumentError struct{ Message string }

func (e *ArgumentError) Error() string { return e.Message }

// BadArguments returns an error for arguments that do not match the parameters. The task is never retried.
func BadArguments(format string, args ...any) error {
	return &ArgumentError{fmt.Sprintf(format, args...)}
}

// A RetryError is returned by [RetryAfter].
type RetryError struct {
	Err   error
	Delay time.Duration
}

func (e *RetryError) Error() string { return e.Err.Error() }

// Unwrap returns the error of the attempt.
func (e *RetryError) Unwrap() error { return e.Err }

// RetryAfter returns err as an error after which the next attempt must wait for the delay. The policy of the task
// decides whether there is one.
func RetryAfter(delay time.Duration, err error) error { return &RetryError{notNil(err), delay} }

// A GiveUpError is returned by [GiveUp].
type GiveUpError struct{ Err error }

func (e *GiveUpError) Error() string { return e.Err.Error() }

// Unwrap returns the error of the attempt.
func (e *GiveUpError) Unwrap() error { return e.Err }

// GiveUp returns err as an error after which the task is never retried, regardless of its policy.
func GiveUp(err error) error { return &GiveUpError{notNil(err)} }

// A DetailedError is an error with a machine-readable kind and details, which are part of the task's result.
type DetailedError struct {
	Err error
	// Kind is a name such as "AccountClosed": at most 128 bytes without control characters. If it is empty, it is
	// the type of the error.
	Kind string
	// Details is any value that encoding/json can write, at most 2 KiB of JSON. It may be nil.
	Details any
}

func (e *DetailedError) Error() string { return e.Err.Error() }

// Unwrap returns the error without the details.
func (e *DetailedError) Unwrap() error { return e.Err }

func notNil(err error) error {
	if err == nil {
		return errors.New("no reason given")
	}
	return err
}

// failureOf turns the error of a task function into the failure of the attempt.
func failureOf(err error) *host.Failure {
	failure := &host.Failure{Case: host.Failed, Message: err.Error(), Kind: kindOf(err)}
	if isModule && isOfNetwork(err) {
		failure.Message += noSockets
	}
	var detailed *DetailedError
	if errors.As(err, &detailed) {
		if detailed.Kind != "" {
			failure.Kind = detailed.Kind
		}
		failure.Details = detailsOf(detailed)
	}
	var bad *ArgumentError
	var retry *RetryError
	var giveUp *GiveUpError
	switch {
	case errors.As(err, &bad):
		failure.Case = host.BadArguments
	case errors.As(err, &giveUp):
		failure.Case = host.GiveUp
	case errors.As(err, &retry):
		failure.Case, failure.Delay = host.TryAgainAfter, max(retry.Delay, 0)
	}
	return failure
}

// noSockets is added to errors of the network in a module.
const noSockets = " (Go in WebAssembly has no sockets, whatever is granted: fetch in a task in another language, such as " +
	"Rust, Python or TypeScript, and pass its result on as an argument)"

// isOfNetwork returns whether an error comes from the package net. A module that does not import it stays without it.
func isOfNetwork(err error) bool {
	for ; err != nil; err = errors.Unwrap(err) {
		kind := reflect.TypeOf(err)
		if kind.Kind() == reflect.Pointer {
			kind = kind.Elem()
		}
		if kind.PkgPath() == "net" {
			return true
		}
	}
	return false
}

func detailsOf(err *DetailedError) string {
	if err.Details == nil {
		return ""
	}
	text, problem := json.Marshal(err.Details)
	if problem != nil {
		Warnf("the details of an error cannot be written as JSON: %v", problem)
		return ""
	}
	return string(text)
}

// kindOf returns the name of the first type in the chain of an error that is specific.
func kindOf(err error) string {
	name := "error"
	for err != nil {
		kind := reflect.TypeOf(err)
		if kind.Kind() == reflect.Pointer {
			kind = kind.Elem()
		}
		switch err.(type) {
		case *ArgumentError:
			name = "BadArguments"
		case *RetryError, *GiveUpError, *DetailedError:
		default:
			if kind.Name() != "" && kind.PkgPath() != "errors" && kind.PkgPath() != "fmt" {
				return kind.Name()
			}
		}
		err = errors.Unwrap(err)
	}
	return name
}

// trimmed returns the message of an error of encoding/json without its package.
func trimmed(err error) string { return strings.TrimPrefix(err.Error(), "json: ") }

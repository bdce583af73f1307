// Package fastworker turns Go functions into tasks of a fastworker module.
//
//	package main
//
//	import "github.com/fastworker/fastworker/guest-sdk/go/fastworker"
//
//	// add returns the sum of two numbers.
//	func add(x, y int) int { return x + y }
//
//	func init() { fastworker.Task("add", add) }
//
//	func main() {}
//
// `fastworker build` makes a WebAssembly component of it. It takes the names of the parameters and the
// documentation from the source; the types become the JSON Schema with which calls are checked before they are
// queued.
//
// A task function takes any values that encoding/json can read, optionally after a [context.Context], and returns
// nothing, a value, an error, or a value and an error. A parameter of a pointer type is optional. Printed text goes to
// the log of the task. An error, or a panic, is a failure of the attempt: the policy of the task decides whether it
// is retried. [BadArguments], [RetryAfter] and [GiveUp] decide otherwise.
//
// Every attempt runs in a new instance of the module, in which package variables are as they were after
// initialization: nothing of one attempt reaches another.
package fastworker

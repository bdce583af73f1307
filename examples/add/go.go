// The task of `fastworker bench`, in Go.
package main

import "github.com/fastworker/fastworker/guest-sdk/go/fastworker"

func init() { fastworker.Task("add", add) }

func main() {}

// add adds two numbers.
func add(x, y int64) int64 { return x + y }

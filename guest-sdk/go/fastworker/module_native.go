//go:build !wasip1

package fastworker

import "github.com/fastworker/fastworker/guest-sdk/go/internal/host"

// isModule is whether this is a module, not a test.
const isModule = false

func init() {
	host.Register = register
	host.Run = run
}

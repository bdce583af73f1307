//go:build !wasip1

package fastworker

import "github.com/fastworker/fastworker/guest-sdk/go/internal/host"

func init() {
	host.Register = register
	host.Run = run
}

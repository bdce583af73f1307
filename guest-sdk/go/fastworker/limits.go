package fastworker

import (
	"slices"
	"strings"
	"time"
)

// maxNeeds is the maximum number of needs, as in the host.
const maxNeeds = 100

// Needs sets the names of grants without which no worker runs the task: "env:NAME", "secret:NAME", "dir:/data:ro",
// "http:api.example.com" or "tcp:db:5432".
func Needs(grants ...string) TaskOption {
	return taskOption(func(t *task) {
		if len(grants) > maxNeeds {
			t.panicf("it has at most %d needs", maxNeeds)
		}
		for _, grant := range grants {
			// The host checks what comes after the kind.
			kind, name, _ := strings.Cut(grant, ":")
			if name == "" || !slices.Contains([]string{"env", "secret", "dir", "http", "tcp"}, kind) {
				t.panicf("%q names no grant: write it like \"env:NAME\", \"secret:NAME\", \"dir:/data:ro\", "+
					"\"http:api.example.com\" or \"tcp:db:5432\"", grant)
			}
		}
		if len(grants) > 0 {
			t.policy["needs"] = slices.Clone(grants)
		}
	})
}

// limit sets a limit of one attempt, whose option is named for the message.
func limit(option, key string, isValid bool, value any) TaskOption {
	return taskOption(func(t *task) {
		if !isValid {
			t.panicf("%s must be more than zero; without it, the limit is that of the operator", option)
		}
		t.policy[key] = value
	})
}

// MaxMemory sets the maximum linear memory of one attempt, in bytes, such as 64 << 20. The limits of the operator
// apply as well; this is so for all limits.
func MaxMemory(bytes int64) TaskOption { return limit("MaxMemory", "max_memory", bytes > 0, bytes) }

// MaxCPUTime sets the maximum CPU time of one attempt.
func MaxCPUTime(maximum time.Duration) TaskOption {
	return limit("MaxCPUTime", "max_cpu_time", maximum > 0, maximum.Seconds())
}

// MaxHostTime sets the maximum time that one attempt waits for the host: for files, and while it sleeps.
func MaxHostTime(maximum time.Duration) TaskOption {
	return limit("MaxHostTime", "max_host_time", maximum > 0, maximum.Seconds())
}

// MaxOutput sets the maximum size of what one attempt prints, in bytes.
func MaxOutput(bytes int64) TaskOption { return limit("MaxOutput", "max_output", bytes > 0, bytes) }

// MaxLog sets the maximum size of the log lines of one attempt, in bytes.
func MaxLog(bytes int64) TaskOption { return limit("MaxLog", "max_log", bytes > 0, bytes) }

// MaxResult sets the maximum size of the result and the follow-ups of one attempt, in bytes.
func MaxResult(bytes int64) TaskOption { return limit("MaxResult", "max_result", bytes > 0, bytes) }

// MaxConnections sets the maximum number of connections of one attempt at a time.
func MaxConnections(count uint32) TaskOption {
	return limit("MaxConnections", "max_connections", count > 0, count)
}

// MaxReceived sets the maximum size of what one attempt receives through the network, in bytes.
func MaxReceived(bytes int64) TaskOption {
	return limit("MaxReceived", "max_received", bytes > 0, bytes)
}

// MaxSent sets the maximum size of what one attempt sends through the network, in bytes.
func MaxSent(bytes int64) TaskOption { return limit("MaxSent", "max_sent", bytes > 0, bytes) }

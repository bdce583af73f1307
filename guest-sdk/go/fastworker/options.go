package fastworker

import (
	"slices"
	"time"
)

// The priorities of waiting tasks.
const (
	Critical = "critical"
	High     = "high"
	Normal   = "normal"
	Low      = "low"
)

// A TaskOption is an option of [Task].
type TaskOption interface{ applyToTask(*task) }

// A FollowUpOption is an option of [FollowUp].
type FollowUpOption interface{ applyToFollowUp(*followUp) }

// A PolicyOption is an option of both [Task], where it is a default, and [FollowUp].
type PolicyOption struct {
	key   string
	value any
}

func (o PolicyOption) applyToTask(t *task)         { t.policy[o.key] = o.value }
func (o PolicyOption) applyToFollowUp(f *followUp) { f.options[o.key] = o.value }

// Priority sets the priority among the waiting tasks: [Critical], [High], [Normal] or [Low].
func Priority(priority string) PolicyOption {
	if !slices.Contains([]string{Critical, High, Normal, Low}, priority) {
		panic("fastworker: " + callerPlace(2) + ": the priority is critical, high, normal or low, not " + priority)
	}
	return PolicyOption{"priority", priority}
}

// Timeout sets the timeout of each attempt.
func Timeout(timeout time.Duration) PolicyOption { return PolicyOption{"timeout", timeout.Seconds()} }

// MaxRetries sets the maximum number of attempts after the first one.
func MaxRetries(retries uint) PolicyOption { return PolicyOption{"max_retries", retries} }

// RetryDelay sets the delay before the second attempt.
func RetryDelay(delay time.Duration) PolicyOption {
	return PolicyOption{"retry_delay", delay.Seconds()}
}

// RetryBackoff sets the factor of the delay before each further attempt.
func RetryBackoff(factor float64) PolicyOption { return PolicyOption{"retry_backoff", factor} }

// RetryBackoffMax sets the maximum delay between two attempts.
func RetryBackoffMax(delay time.Duration) PolicyOption {
	return PolicyOption{"retry_backoff_max", delay.Seconds()}
}

type taskOption func(*task)

func (o taskOption) applyToTask(t *task) { o(t) }

func policy(key string, value any) TaskOption {
	return taskOption(func(t *task) { t.policy[key] = value })
}

// Every runs the task again and again, at this interval. A task with a schedule has no required parameters.
func Every(interval time.Duration) TaskOption { return policy("every", interval.Seconds()) }

// Cron runs the task at the times of a cron pattern, in a time zone such as "Europe/Berlin" or "UTC".
func Cron(pattern, timeZone string) TaskOption {
	return taskOption(func(t *task) { t.policy["cron"], t.policy["tz"] = pattern, timeZone })
}

// Overlap sets what happens if the scheduled task is still running when it is due again: "skip" or "queue".
func Overlap(overlap string) TaskOption { return policy("overlap", overlap) }

// Count sets the maximum number of runs of the schedule.
func Count(runs uint) TaskOption { return policy("count", runs) }

// Until sets the end of the schedule.
func Until(end time.Time) TaskOption { return policy("until", end.Format(time.RFC3339)) }

// Doc sets the documentation of the task, in place of the comment of its function.
func Doc(documentation string) TaskOption {
	return taskOption(func(t *task) { t.documentation = documentation })
}

// Params sets the names of the parameters, in place of those in the source. It does not name the context.
func Params(names ...string) TaskOption {
	return taskOption(func(t *task) {
		if len(names) != len(t.parameters) {
			t.panicf("there are %d names for %d parameters", len(names), len(t.parameters))
		}
		for i, name := range names {
			t.parameters[i].name = name
		}
	})
}

// Default makes a parameter optional: it has this value if there is no argument for it.
func Default(parameter string, value any) TaskOption {
	return taskOption(func(t *task) {
		if t.defaults == nil {
			t.defaults = map[string]any{}
		}
		t.defaults[parameter] = value
	})
}

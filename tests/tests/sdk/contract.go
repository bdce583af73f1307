package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/fastworker/fastworker/guest-sdk/go/fastworker"
)

// OutOfStock has a kind of its own.
type OutOfStock struct{ left int }

func (e *OutOfStock) Error() string { return fmt.Sprintf("only %d left", e.left) }

func init() {
	fastworker.Task("add", add, fastworker.Priority(fastworker.High), fastworker.Timeout(90*time.Second),
		fastworker.MaxRetries(3))
	fastworker.Task("join", join, fastworker.Default("separator", ", "))
	fastworker.Task("fail", fail)
	fastworker.Task("whole", whole)
	fastworker.Task("nightly", func() {}, fastworker.Cron("0 3 * * *", "Europe/Berlin"))
}

func main() {}

// add returns the sum of two numbers.
func add(x, y int64) int64 { return x + y }

func join(words []string, separator string) string { return strings.Join(words, separator) }

func fail(how string) error {
	switch how {
	case "bad":
		return fastworker.BadArguments("no %d", 7)
	case "retry":
		return fastworker.RetryAfter(time.Millisecond, errors.New("later"))
	case "give-up":
		details := map[string]int{"account": 17}
		return fastworker.GiveUp(&fastworker.DetailedError{Err: errors.New("closed"), Details: details})
	case "crash":
		return fail(how[len(how):][1:])
	}
	return fmt.Errorf("%w", &OutOfStock{2})
}

func whole() (string, error) {
	attempt := fastworker.Current()
	fastworker.Warnf("slow")
	fmt.Println("printed")
	fastworker.Progress(1, 2, "half")
	if _, err := fastworker.FollowUp("add", fastworker.Args(1, 2), fastworker.Countdown(time.Minute)); err != nil {
		return "", err
	}
	cancelled := 0
	if fastworker.Cancelled() {
		cancelled = 1
	}
	return fmt.Sprint(attempt.Name, " ", attempt.Number, " ", attempt.Priority, " ", cancelled), nil
}

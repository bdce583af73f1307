package fastworker_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/fastworker/fastworker/guest-sdk/go/fastworker"
	"github.com/fastworker/fastworker/guest-sdk/go/fastworkertest"
)

// add returns the sum of two numbers.
func add(x, y int) int { return x + y }

type Line struct {
	SKU   string  `json:"sku"`
	Price float64 `json:"price"`
	Note  *string `json:"note"`
}

type audit struct {
	By string `json:"by"`
}

type Order struct {
	audit
	ID      uint32            `json:"id"`
	Lines   []Line            `json:"lines"`
	Labels  map[string]string `json:"labels,omitempty"`
	Placed  time.Time         `json:"placed"`
	Raw     json.RawMessage   `json:"raw,omitempty"`
	Blob    []byte            `json:"blob,omitempty"`
	Large   int64             `json:"large,string,omitempty"`
	Replace *Order            `json:"replace,omitempty"`
	Hidden  int               `json:"-"`
}

func total(order Order, factor *float64) (float64, error) {
	sum := 0.0
	for _, line := range order.Lines {
		sum += line.Price
	}
	if factor != nil {
		sum *= *factor
	}
	return sum, nil
}

type NotFound struct{ Name string }

func (e *NotFound) Error() string { return e.Name + " is not there" }

func fail(how string) error {
	switch how {
	case "plain":
		return errors.New("plain")
	case "typed":
		return fmt.Errorf("reading: %w", &NotFound{"x"})
	case "file":
		_, err := os.Open("/no/such/file")
		return err
	case "bad":
		return fastworker.BadArguments("no %s", how)
	case "retry":
		return fmt.Errorf("later: %w", fastworker.RetryAfter(1500*time.Millisecond, &NotFound{"y"}))
	case "give up":
		return fastworker.GiveUp(errors.New("closed"))
	case "details":
		return &fastworker.DetailedError{Err: errors.New("closed"), Kind: "AccountClosed", Details: map[string]int{"account": 17}}
	case "panic":
		panic("broken")
	case "index":
		return fail(how[len(how):][1:])
	}
	return nil
}

type Counter struct{ step int }

// Count returns the next number.
func (c *Counter) Count(number int) int { return number + c.step }

func whole(ctx context.Context, limit int) (string, error) {
	attempt := fastworker.Current()
	slog.New(fastworker.LogHandler()).Warn("slow", "limit", limit)
	fastworker.Debugf("limit %d", limit)
	fastworker.Progress(1, 2, "half")
	id, err := fastworker.FollowUp("mail", fastworker.Args("ada", 3), fastworker.Kwargs(map[string]any{"now": true}),
		fastworker.Countdown(time.Minute), fastworker.Priority(fastworker.Low), fastworker.MaxRetries(2))
	if err != nil {
		return "", err
	}
	deadline, _ := ctx.Deadline()
	if !deadline.Equal(attempt.Deadline) {
		return "", errors.New("two deadlines")
	}
	return fmt.Sprintf("%s %s %d %s %s %v %s %s", attempt.TaskID, attempt.Name, attempt.Number, attempt.Priority,
		attempt.Parent, attempt.Tags, attempt.TraceParent, id), nil
}

func wait(ctx context.Context) error {
	<-ctx.Done()
	return context.Cause(ctx)
}

func init() {
	fastworker.Task("add", add, fastworker.MaxRetries(3), fastworker.Timeout(90*time.Second), fastworker.Priority(fastworker.High))
	fastworker.Task("total", total, fastworker.Doc("Adds the prices."))
	fastworker.Task("fail", fail)
	fastworker.Task("whole", whole)
	fastworker.Task("wait", wait)
	fastworker.Task("count", (&Counter{2}).Count)
	fastworker.Task("literal", func(first string, rest ...int) int { return len(first) + len(rest) })
	fastworker.Task("named", func(_ int, _ any) {}, fastworker.Params("a", "b"), fastworker.Default("a", 7))
	fastworker.Task("nothing", func() {}, fastworker.Every(time.Hour), fastworker.Overlap("skip"), fastworker.Count(3),
		fastworker.Until(time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)))
	fastworker.Task("nightly", func() {}, fastworker.Cron("0 3 * * *", "Europe/Berlin"), fastworker.RetryDelay(time.Second),
		fastworker.RetryBackoff(2), fastworker.RetryBackoffMax(time.Minute))
	fastworker.Task("confined", func() {}, fastworker.Needs("http:api.example.com", "secret:KEY"), fastworker.MaxMemory(64<<20),
		fastworker.MaxCPUTime(500*time.Millisecond), fastworker.MaxHostTime(time.Minute), fastworker.MaxOutput(1<<10),
		fastworker.MaxLog(2<<10), fastworker.MaxResult(1<<20), fastworker.MaxConnections(4), fastworker.MaxReceived(1<<40),
		fastworker.MaxSent(1000))
	fastworker.Task("html", func(text string) string { return text })
	fastworker.Task("nan", func() float64 { var zero float64; return zero / zero })
	fastworker.Task("sized", func(a int8, b uint16, c [2]bool, d map[int]string, e time.Duration) any { return e })
}

func wantJSON(t *testing.T, got, want string) {
	t.Helper()
	var gotValue, wantValue any
	if err := errors.Join(json.Unmarshal([]byte(got), &gotValue), json.Unmarshal([]byte(want), &wantValue)); err != nil {
		t.Fatalf("%v: %s", err, got)
	}
	if !reflect.DeepEqual(gotValue, wantValue) {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestATaskIsDescribedByItsSource(t *testing.T) {
	task := fastworkertest.Describe(t, "add")
	if task.Documentation != "Returns the sum of two numbers." {
		t.Error(task.Documentation)
	}
	wantJSON(t, task.Policy, `{"max_retries": 3, "timeout": 90, "priority": "high"}`)
	wantJSON(t, task.Schema, `{"parameters": [
		{"name": "x", "type": "int", "required": true, "schema": {"type": "integer", "format": "int64"}},
		{"name": "y", "type": "int", "required": true, "schema": {"type": "integer", "format": "int64"}}],
		"result": {"type": "int", "schema": {"type": "integer", "format": "int64"}}}`)
	if got := fastworkertest.Describe(t, "count"); got.Documentation != "Returns the next number." || !strings.Contains(got.Schema, `"number"`) {
		t.Error(got)
	}
	if got := fastworkertest.Describe(t, "total").Documentation; got != "Adds the prices." {
		t.Error(got)
	}
}

func TestStructsBecomeSchemas(t *testing.T) {
	var signature struct {
		Parameters []struct {
			Name     string
			Type     string
			Required bool
			Schema   json.RawMessage
		}
	}
	if err := json.Unmarshal([]byte(fastworkertest.Describe(t, "total").Schema), &signature); err != nil {
		t.Fatal(err)
	}
	order, factor := signature.Parameters[0], signature.Parameters[1]
	if order.Name != "order" || !order.Required || factor.Name != "factor" || factor.Required {
		t.Error(signature)
	}
	wantJSON(t, string(factor.Schema), `{"type": ["number", "null"], "format": "double"}`)
	wantJSON(t, string(order.Schema), `{"$ref": "#/$defs/Order", "$defs": {
		"Line": {"type": "object", "required": ["sku", "price"], "properties": {
			"sku": {"type": "string"}, "price": {"type": "number", "format": "double"}, "note": {"type": ["string", "null"]}}},
		"Order": {"type": "object", "required": ["id", "lines", "placed", "by"], "properties": {
			"by": {"type": "string"},
			"id": {"type": "integer", "format": "uint32", "minimum": 0, "maximum": 4294967295},
			"lines": {"type": ["array", "null"], "items": {"$ref": "#/$defs/Line"}},
			"labels": {"type": ["object", "null"], "additionalProperties": {"type": "string"}},
			"placed": {"type": "string", "format": "date-time"},
			"raw": {},
			"blob": {"type": ["string", "null"], "contentEncoding": "base64"},
			"large": {"type": "string"},
			"replace": {"anyOf": [{"$ref": "#/$defs/Order"}, {"type": "null"}]}}}}}`)
	sized := fastworkertest.Describe(t, "sized").Schema
	for _, part := range []string{`"minimum":-128`, `"maximum":127`, `"maximum":65535`, `"minItems":2`, `"type":"time.Duration"`} {
		if !strings.Contains(sized, part) {
			t.Errorf("no %s in %s", part, sized)
		}
	}
}

func TestPoliciesAndSchedules(t *testing.T) {
	wantJSON(t, fastworkertest.Describe(t, "nothing").Policy,
		`{"every": 3600, "overlap": "skip", "count": 3, "until": "2030-01-02T03:04:05Z"}`)
	wantJSON(t, fastworkertest.Describe(t, "nightly").Policy,
		`{"cron": "0 3 * * *", "tz": "Europe/Berlin", "retry_delay": 1, "retry_backoff": 2, "retry_backoff_max": 60}`)
	wantJSON(t, fastworkertest.Describe(t, "confined").Policy, `{"needs": ["http:api.example.com", "secret:KEY"],
		"max_memory": 67108864, "max_cpu_time": 0.5, "max_host_time": 60, "max_output": 1024, "max_log": 2048,
		"max_result": 1048576, "max_connections": 4, "max_received": 1099511627776, "max_sent": 1000}`)
}

func TestWrongLimitsAndNeedsAreRefused(t *testing.T) {
	for _, wrong := range []struct {
		option  fastworker.TaskOption
		message string
	}{
		{fastworker.MaxMemory(0), `task "wrong": MaxMemory must be more than zero`},
		{fastworker.MaxSent(-1), "MaxSent must be more than zero"},
		{fastworker.MaxCPUTime(0), "MaxCPUTime must be more than zero"},
		{fastworker.MaxHostTime(-time.Second), "MaxHostTime must be more than zero"},
		{fastworker.MaxConnections(0), "MaxConnections must be more than zero"},
		{fastworker.Needs("disk"), `"disk" names no grant: write it like "env:NAME"`},
		{fastworker.Needs("env:A", "env:"), `"env:" names no grant`},
		{fastworker.Needs(strings.Split(strings.Repeat("env:A,", 100)+"env:A", ",")...), "at most 100 needs"},
	} {
		func() {
			defer func() {
				if message := fmt.Sprint(recover()); !strings.Contains(message, wrong.message) {
					t.Errorf("want %s, got %s", wrong.message, message)
				}
			}()
			fastworker.Task("wrong", func() {}, wrong.option)
		}()
	}
}

func TestArgumentsByPositionAndByName(t *testing.T) {
	for _, call := range []fastworkertest.Call{
		{Name: "add", Args: []any{2, 3}},
		{Name: "add", Kwargs: map[string]any{"x": 2, "y": 3}},
		{Name: "add", Args: []any{2}, Kwargs: map[string]any{"y": 3}},
	} {
		if got := call.Run(t); got.Result != "5" || got.Failure != nil {
			t.Error(call, got)
		}
	}
	order := map[string]any{"lines": []Line{{Price: 2}, {Price: 3}}}
	if got := fastworkertest.Run(t, "total", order, 10); got.Result != "50" {
		t.Error(got)
	}
	if got := fastworkertest.Run(t, "total", order); got.Result != "5" {
		t.Error(got)
	}
	if got := fastworkertest.Run(t, "literal", "ab", []int{1, 2, 3}); got.Result != "5" {
		t.Error(got)
	}
	if got := fastworkertest.Run(t, "literal", "ab"); got.Result != "2" {
		t.Error(got)
	}
	if got := (fastworkertest.Call{Name: "named", Kwargs: map[string]any{"b": nil}}).Run(t); got.Result != "null" {
		t.Error(got.Failure)
	}
	if got := fastworkertest.Run(t, "html", "<&>"); got.Result != `"<&>"` {
		t.Error(got)
	}
}

func TestWrongArgumentsAreRefused(t *testing.T) {
	for _, wrong := range []struct {
		call    fastworkertest.Call
		message string
	}{
		{fastworkertest.Call{Name: "add"}, "add() missing 2 required arguments: 'x' and 'y'"},
		{fastworkertest.Call{Name: "add", Args: []any{1}}, "add() missing 1 required argument: 'y'"},
		{fastworkertest.Call{Name: "add", Args: []any{1, 2, 3}}, "add() takes 2 arguments but 3 were given"},
		{fastworkertest.Call{Name: "nothing", Args: []any{1}}, "nothing() takes 0 arguments but 1 was given"},
		{fastworkertest.Call{Name: "named", Args: []any{1, 2, 3}}, "named() takes from 1 to 2 arguments but 3 were given"},
		{fastworkertest.Call{Name: "add", Args: []any{1, 2}, Kwargs: map[string]any{"x": 1}}, "add() got multiple values for argument 'x'"},
		{fastworkertest.Call{Name: "add", Args: []any{1, 2}, Kwargs: map[string]any{"z": 1}}, "add() got an unexpected keyword argument 'z'"},
		{fastworkertest.Call{Name: "add", Args: []any{1, "2"}}, "argument 'y': a string is no int"},
		{fastworkertest.Call{Name: "add", Args: []any{1, 2.5}}, "argument 'y': a number 2.5 is no int"},
		{fastworkertest.Call{Name: "add", Args: []any{1, nil}}, "argument 'y': null is no int"},
		{fastworkertest.Call{Name: "total", Args: []any{map[string]any{"lines": []any{map[string]any{"price": "x"}}}}}, "argument 'order': a string is no float64 (lines."},
		{fastworkertest.Call{Name: "absent"}, "this module has no task 'absent'"},
	} {
		got := wrong.call.Run(t)
		if got.Failure == nil || got.Failure.Case != fastworkertest.BadArguments || !strings.HasPrefix(got.Failure.Message, wrong.message) {
			t.Errorf("want %s, got %+v", wrong.message, got.Failure)
		}
	}
}

func TestErrorsBecomeFailures(t *testing.T) {
	for how, want := range map[string]fastworkertest.Failure{
		"plain":   {Case: fastworkertest.Failed, Message: "plain", Kind: "error"},
		"typed":   {Case: fastworkertest.Failed, Message: "reading: x is not there", Kind: "NotFound"},
		"file":    {Case: fastworkertest.Failed, Message: "open /no/such/file: no such file or directory", Kind: "PathError"},
		"bad":     {Case: fastworkertest.BadArguments, Message: "no bad", Kind: "BadArguments"},
		"retry":   {Case: fastworkertest.TryAgainAfter, Message: "later: y is not there", Kind: "NotFound", Delay: 1500 * time.Millisecond},
		"give up": {Case: fastworkertest.GiveUp, Message: "closed", Kind: "error"},
		"details": {Case: fastworkertest.Failed, Message: "closed", Kind: "AccountClosed", Details: `{"account":17}`},
		"panic":   {Case: fastworkertest.Failed, Message: "broken", Kind: "panic"},
		"index":   {Case: fastworkertest.Failed, Message: "runtime error: slice bounds out of range [1:0]", Kind: "panic"},
	} {
		if got := fastworkertest.Run(t, "fail", how).Failure; got == nil || *got != want {
			t.Errorf("%s: want %+v, got %+v", how, want, got)
		}
	}
	got := fastworkertest.Run(t, "nan").Failure
	if got == nil || got.Message != "the result cannot be written as JSON: unsupported value: NaN" || got.Kind != "ResultError" {
		t.Errorf("%+v", got)
	}
}

func TestAPanicIsLoggedWithItsStack(t *testing.T) {
	log := strings.Join(fastworkertest.Run(t, "fail", "panic").Log, "\n")
	if !strings.HasPrefix(log, "error panic: broken\n") || !strings.Contains(log, "fastworker_test.go:") || strings.Contains(log, "reflect.") {
		t.Error(log)
	}
}

func TestAnAttemptKnowsItselfAndTalksToTheHost(t *testing.T) {
	got := fastworkertest.Call{Name: "whole", Args: []any{4}, Attempt: 3, TaskID: "t1", Metadata: map[string]any{
		"priority": "low", "parent": "p1", "tags": []string{"a", "b"}, "traceparent": "00-1", "other": 1}}.Run(t)
	if got.Result != `"t1 whole 3 low p1 [a b] 00-1 follow-up-0"` {
		t.Errorf("%+v %+v", got, got.Failure)
	}
	if log := []string{"warn slow limit=4", "debug limit 4"}; !reflect.DeepEqual(got.Log, log) {
		t.Error(got.Log)
	}
	if !reflect.DeepEqual(got.Progress, []string{"1/2 half"}) {
		t.Error(got.Progress)
	}
	wantJSON(t, got.FollowUps[0].Options, `{"countdown": 60, "priority": "low", "max_retries": 2}`)
	wantJSON(t, got.FollowUps[0].Args, `["ada", 3]`)
	wantJSON(t, got.FollowUps[0].Kwargs, `{"now": true}`)
	refused := fastworkertest.Call{Name: "whole", Args: []any{4}, RefuseFollowUps: "too many"}.Run(t)
	if refused.Failure == nil || refused.Failure.Message != "the follow-up 'mail' cannot be submitted: too many" {
		t.Error(refused.Failure)
	}
}

func TestTheContextEndsWithTheAttempt(t *testing.T) {
	asked := 0
	cancelled := func() bool { asked++; return asked > 2 }
	if got := (fastworkertest.Call{Name: "wait", Cancelled: cancelled}).Run(t).Failure; got == nil || got.Message != "context canceled" {
		t.Error(got)
	}
	late := fastworkertest.Call{Name: "wait", Deadline: time.Now().Add(-time.Second)}.Run(t).Failure
	if late == nil || late.Message != "context deadline exceeded" {
		t.Error(late)
	}
}

func TestFunctionsThatCannotBeTasksAreRefused(t *testing.T) {
	for message, register := range map[string]func(){
		`task "add": the task at fastworker_test.go:`:               func() { fastworker.Task("add", add) },
		`fastworker: fastworker_test.go:358: task "line": it is no`: func() { fastworker.Task("line", 3) },
		`task "two": it must return nothing, a value, an error, or`: func() { fastworker.Task("two", func() (int, int) { return 1, 2 }) },
		`task "none": it is no function`:                            func() { fastworker.Task("none", 3) },
		`task "late": the context must be its first parameter`:      func() { fastworker.Task("late", func(int, context.Context) {}) },
		`task "": a task name has 1 to 128 bytes`:                   func() { fastworker.Task("", func() {}) },
		`task "names": there are 1 names for 2 parameters`:          func() { fastworker.Task("names", add, fastworker.Params("x")) },
		`the priority is critical, high, normal or low, not urgent`: func() { fastworker.Priority("urgent") },
	} {
		func() {
			defer func() {
				if got := fmt.Sprint(recover()); !strings.Contains(got, message) {
					t.Errorf("want %s, got %s", message, got)
				}
			}()
			register()
		}()
	}
}

package fastworker

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/fastworker/fastworker/guest-sdk/go/internal/host"
)

type followUp struct {
	kwargs  map[string]any
	options map[string]any
}

// FollowUp submits a task when this attempt succeeds, and returns its id. It is discarded if the attempt fails.
//
// The id is derived from the id of this task and the number of the call: an attempt that runs twice submits it
// once. The options [Kwargs], [Countdown] and those of the policy, such as [Timeout], follow [Args].
//
//	id, err := fastworker.FollowUp("mail", fastworker.Args("ada@example.org"), fastworker.Priority(fastworker.Low))
func FollowUp(name string, args Arguments, options ...FollowUpOption) (string, error) {
	call := followUp{kwargs: map[string]any{}, options: map[string]any{}}
	for _, option := range options {
		option.applyToFollowUp(&call)
	}
	if args == nil {
		args = Arguments{}
	}
	texts := [3]string{}
	for i, value := range []any{args, call.kwargs, call.options} {
		text, err := json.Marshal(value)
		if err != nil {
			return "", fmt.Errorf("the follow-up '%s' cannot be submitted: %s", name, trimmed(err))
		}
		texts[i] = string(text)
	}
	if host.Current == nil {
		return "", errors.New("there is no attempt: use the package fastworkertest in tests")
	}
	id, err := host.Current.Submit(host.FollowUp{Name: name, Args: texts[0], Kwargs: texts[1], Options: texts[2]})
	if err != nil {
		return "", fmt.Errorf("the follow-up '%s' cannot be submitted: %w", name, err)
	}
	return id, nil
}

// Arguments are the arguments of a call, by position.
type Arguments []any

// Args returns its arguments. They may be any values that encoding/json can write.
func Args(args ...any) Arguments { return args }

type followUpOption func(*followUp)

func (o followUpOption) applyToFollowUp(f *followUp) { o(f) }

// Kwargs adds arguments of a follow-up by name.
func Kwargs(kwargs map[string]any) FollowUpOption {
	return followUpOption(func(f *followUp) {
		for name, value := range kwargs {
			f.kwargs[name] = value
		}
	})
}

// Countdown sets the delay before the first attempt of a follow-up.
func Countdown(delay time.Duration) FollowUpOption {
	return followUpOption(func(f *followUp) { f.options["countdown"] = delay.Seconds() })
}

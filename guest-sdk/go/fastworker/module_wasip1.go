//go:build wasip1

package fastworker

import (
	"errors"
	"time"

	exports "github.com/fastworker/fastworker/guest-sdk/go/internal/bindings/export_fastworker_task_tasks"
	_ "github.com/fastworker/fastworker/guest-sdk/go/internal/bindings/exports"
	imports "github.com/fastworker/fastworker/guest-sdk/go/internal/bindings/fastworker_task_host"
	bindings "github.com/fastworker/fastworker/guest-sdk/go/internal/bindings/fastworker_task_tasks"
	"github.com/fastworker/fastworker/guest-sdk/go/internal/host"
	witTypes "github.com/fastworker/fastworker/guest-sdk/go/internal/wit/types"
)

// isModule is whether this is a module, not a test.
const isModule = true

func init() {
	host.Current = imported{}
	exports.Register = exportRegister
	exports.Run = exportRun
}

// fromSource finds nothing: a module has no source.
func fromSource(string, string, int, *task) ([]string, string) { return nil, "" }

func exportRegister() []bindings.Descriptor {
	list := []bindings.Descriptor{}
	for _, task := range register() {
		list = append(list, bindings.Descriptor(task))
	}
	return list
}

func exportRun(call bindings.Invocation) witTypes.Result[string, bindings.Failure] {
	result, failure := run(host.Invocation{
		TaskID:   call.TaskId,
		Name:     call.Name,
		Attempt:  call.Attempt,
		Deadline: time.UnixMilli(int64(call.DeadlineMs)),
		Args:     call.Args,
		Kwargs:   call.Kwargs,
		Metadata: call.Metadata,
	})
	if failure == nil {
		return witTypes.Ok[string, bindings.Failure](result)
	}
	return witTypes.Err[string](exportFailure(failure))
}

func exportFailure(failure *host.Failure) bindings.Failure {
	err := bindings.TaskError{Message: failure.Message, Kind: failure.Kind, Details: failure.Details}
	switch failure.Case {
	case host.BadArguments:
		return bindings.MakeFailureBadArguments(err)
	case host.TryAgainAfter:
		return bindings.MakeFailureTryAgainAfter(bindings.Retry{Error: err, DelayMs: uint64(failure.Delay.Milliseconds())})
	case host.GiveUp:
		return bindings.MakeFailureGiveUp(err)
	}
	return bindings.MakeFailureFailed(err)
}

// imported are the functions of the host.
type imported struct{}

func (imported) Log(level host.Level, message string) { imports.Log(uint8(level), message) }

func (imported) Progress(done, total uint64, message string) { imports.Progress(done, total, message) }

func (imported) IsCancelled() bool { return imports.IsCancelled() }

func (imported) Submit(task host.FollowUp) (string, error) {
	id := imports.Submit(imports.FollowUp(task))
	if id.IsErr() {
		return "", errors.New(id.Err())
	}
	return id.Ok(), nil
}

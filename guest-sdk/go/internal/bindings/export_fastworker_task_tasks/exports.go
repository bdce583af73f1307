//go:build wasip1

// Package export_fastworker_task_tasks is where the generated bindings look for the functions of a module.
package export_fastworker_task_tasks

import (
	"github.com/fastworker/fastworker/guest-sdk/go/internal/bindings/fastworker_task_tasks"
	witTypes "github.com/fastworker/fastworker/guest-sdk/go/internal/wit/types"
)

// The functions of the module. The package fastworker sets them when it is initialized.
var (
	Register func() []fastworker_task_tasks.Descriptor
	Run      func(fastworker_task_tasks.Invocation) witTypes.Result[string, fastworker_task_tasks.Failure]
)

package fastworker

import (
	"context"
	"fmt"
	"path"
	"reflect"
	"runtime"
	"strconv"
	"strings"
)

// maxNameBytes is the maximum length of a task name.
const maxNameBytes = 128

// A task is a registered function. Its schema is only made when the host asks for it.
type task struct {
	name          string
	function      reflect.Value
	documentation string
	parameters    []parameter
	takesContext  bool
	// returns is nil if the function returns no value.
	returns reflect.Type
	policy  map[string]any
	// defaults are the values of arguments that are missing, by parameter.
	defaults map[string]any
	// definedIn is the file that registers the task, and line where.
	definedIn  string
	line       int
	isPrepared bool
}

type parameter struct {
	name     string
	kind     reflect.Type
	required bool
	// fallback is the value of an argument that is missing, if there is one.
	fallback *reflect.Value
}

var (
	tasks       []*task
	errorType   = reflect.TypeFor[error]()
	contextType = reflect.TypeFor[context.Context]()
)

// Task registers function as the task name. Call it in init functions.
//
// It panics if the function cannot be a task: the module is then not loaded, with the reason.
func Task(name string, function any, options ...TaskOption) {
	added := &task{name: name, function: reflect.ValueOf(function), policy: map[string]any{}}
	_, added.definedIn, added.line, _ = runtime.Caller(1)
	if name == "" || len(name) > maxNameBytes || strings.ContainsFunc(name, isControl) {
		added.panicf("a task name has 1 to %d bytes and no control characters", maxNameBytes)
	}
	if other := find(name); other != nil {
		added.panicf("the task at %s has this name, too: rename one of them", other.place())
	}
	added.setFunction()
	for _, option := range options {
		option.applyToTask(added)
	}
	tasks = append(tasks, added)
}

func find(name string) *task {
	for _, task := range tasks {
		if task.name == name {
			return task
		}
	}
	return nil
}

func isControl(r rune) bool { return r < 0x20 || r >= 0x7f && r < 0xa0 }

// panicf stops the registration of the task.
func (t *task) panicf(format string, args ...any) {
	panic(fmt.Sprintf("fastworker: %s: task %q: ", t.place(), t.name) + fmt.Sprintf(format, args...))
}

// place returns where the task is registered, as "tasks.go:12".
func (t *task) place() string { return placeOf(t.definedIn, t.line) }

func placeOf(file string, line int) string { return path.Base(file) + ":" + strconv.Itoa(line) }

// callerPlace returns the place of a call, this many calls above.
func callerPlace(skip int) string {
	_, file, line, _ := runtime.Caller(skip)
	return placeOf(file, line)
}

// setFunction reads the signature of the function.
func (t *task) setFunction() {
	if t.function.Kind() != reflect.Func || t.function.IsNil() {
		t.panicf("it is no function")
	}
	signature := t.function.Type()
	first := 0
	if signature.NumIn() > 0 && signature.In(0) == contextType {
		t.takesContext = true
		first = 1
	}
	for i := first; i < signature.NumIn(); i++ {
		kind := signature.In(i)
		if kind == contextType {
			t.panicf("the context must be its first parameter")
		}
		isOptional := kind.Kind() == reflect.Pointer || signature.IsVariadic() && i == signature.NumIn()-1
		t.parameters = append(t.parameters, parameter{kind: kind, required: !isOptional})
	}
	results := signature.NumOut()
	if results > 0 && signature.Out(0) != errorType {
		t.returns = signature.Out(0)
	}
	if results > 2 || results == 2 && (t.returns == nil || signature.Out(1) != errorType) {
		t.panicf("it must return nothing, a value, an error, or a value and an error")
	}
}

// describe adds what is only in the source: the names of the parameters and the documentation.
func (t *task) describe() {
	names, documentation := described(t)
	if t.documentation == "" {
		t.documentation = documentation
	}
	if t.takesContext && len(names) > 0 {
		names = names[1:]
	}
	if len(names) != len(t.parameters) {
		return
	}
	for i := range t.parameters {
		if t.parameters[i].name == "" {
			t.parameters[i].name = names[i]
		}
	}
}

// prepare completes the parameters. It panics if they have no names or no values.
func (t *task) prepare() {
	if t.isPrepared {
		return
	}
	t.isPrepared = true
	t.describe()
	known := map[string]bool{}
	for i := range t.parameters {
		name := t.parameters[i].name
		if name == "" || name == "_" {
			t.panicf("its parameters have no names: build it with `fastworker build`, or add fastworker.Params(…)")
		}
		if known[name] {
			t.panicf("two parameters are named %q", name)
		}
		known[name] = true
	}
	for name, value := range t.defaults {
		t.setDefault(name, value)
	}
}

// setDefault makes a parameter optional.
func (t *task) setDefault(name string, value any) {
	for i := range t.parameters {
		if t.parameters[i].name != name {
			continue
		}
		fallback := reflect.ValueOf(value)
		kind := t.parameters[i].kind
		if !fallback.IsValid() || !fallback.CanConvert(kind) {
			t.panicf("the default of %q is no %v", name, kind)
		}
		converted := fallback.Convert(kind)
		t.parameters[i].fallback = &converted
		t.parameters[i].required = false
		return
	}
	t.panicf("there is no parameter %q to have a default", name)
}

package fastworker

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"runtime/debug"
	"strings"

	"github.com/fastworker/fastworker/guest-sdk/go/internal/host"
)

// register returns the tasks of the module.
func register() []host.Descriptor {
	list := make([]host.Descriptor, 0, len(tasks))
	for _, task := range tasks {
		task.prepare()
		policy, err := json.Marshal(task.policy)
		if err != nil {
			task.panicf("its policy cannot be written as JSON: %v", err)
		}
		list = append(list, host.Descriptor{
			Name:          task.name,
			Documentation: task.documentation,
			Schema:        task.schema(),
			Policy:        string(policy),
		})
	}
	return list
}

// run runs one attempt, and returns its result as JSON.
func run(call host.Invocation) (result string, failure *host.Failure) {
	task := find(call.Name)
	if task == nil {
		return "", failureOf(BadArguments("this module has no task '%s'", call.Name))
	}
	previous := current
	current = &call
	defer func() {
		current = previous
		if value := recover(); value != nil {
			failure = panicFailure(value)
		}
	}()
	task.prepare()
	arguments, err := task.bind(call.Args, call.Kwargs)
	if err != nil {
		return "", failureOf(err)
	}
	if task.takesContext {
		arguments = append([]reflect.Value{reflect.ValueOf(newContext(call.Deadline))}, arguments...)
	}
	result, err = task.call(arguments)
	if err != nil {
		return "", failureOf(err)
	}
	return result, nil
}

// call calls the function, and returns its result as JSON.
func (t *task) call(arguments []reflect.Value) (string, error) {
	function := t.function.Call
	if t.function.Type().IsVariadic() {
		function = t.function.CallSlice
	}
	returned := function(arguments)
	if count := len(returned); count > 0 && returned[count-1].Type() == errorType {
		if err, _ := returned[count-1].Interface().(error); err != nil {
			return "", err
		}
	}
	if t.returns == nil {
		return "null", nil
	}
	text := &bytes.Buffer{}
	encoder := json.NewEncoder(text)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(returned[0].Interface()); err != nil {
		return "", &DetailedError{Err: fmt.Errorf("the result cannot be written as JSON: %s", trimmed(err)), Kind: "ResultError"}
	}
	return strings.TrimSuffix(text.String(), "\n"), nil
}

func panicFailure(value any) *host.Failure {
	Errorf("panic: %v\n%s", value, stack())
	if err, ok := value.(error); ok {
		failure := failureOf(err)
		failure.Kind = "panic"
		return failure
	}
	return &host.Failure{Case: host.Failed, Message: fmt.Sprint(value), Kind: "panic"}
}

// stack returns the calls of the task function that panicked, without those of the SDK.
func stack() string {
	text := string(debug.Stack())
	if _, below, found := strings.Cut(text, "\npanic("); found {
		if _, calls, found := strings.Cut(below, "\n\t"); found {
			if _, calls, found = strings.Cut(calls, "\n"); found {
				text = calls
			}
		}
	}
	text, _, _ = strings.Cut(text, "\nreflect.Value.call(")
	return strings.TrimSpace(text)
}

// bind assigns the arguments of a call to the parameters, by Python's rules.
func (t *task) bind(args, kwargs string) ([]reflect.Value, error) {
	given := make([]json.RawMessage, len(t.parameters))
	var positional []json.RawMessage
	if err := json.Unmarshal([]byte(args), &positional); err != nil {
		return nil, BadArguments("the positional arguments are not a JSON array: %s", trimmed(err))
	}
	copy(given, positional)
	if err := t.bindNamed(given, kwargs); err != nil {
		return nil, err
	}
	if len(positional) > len(given) {
		return nil, t.tooMany(len(positional))
	}
	if missing := t.missing(given); len(missing) > 0 {
		return nil, BadArguments("%s() missing %s: %s", t.name, counted(len(missing), "required argument"), listed(missing))
	}
	values := make([]reflect.Value, len(given))
	for i, parameter := range t.parameters {
		value, err := parameter.read(given[i])
		if err != nil {
			return nil, err
		}
		values[i] = value
	}
	return values, nil
}

func (t *task) bindNamed(given []json.RawMessage, kwargs string) error {
	decoder := json.NewDecoder(strings.NewReader(kwargs))
	if token, err := decoder.Token(); err != nil || token != json.Delim('{') {
		return BadArguments("the named arguments are not a JSON object")
	}
	// Not into a map: a name that is there twice must be refused.
	for decoder.More() {
		key, _ := decoder.Token()
		name, _ := key.(string)
		var value json.RawMessage
		if err := decoder.Decode(&value); err != nil {
			return BadArguments("the named arguments are not a JSON object: %s", trimmed(err))
		}
		index := t.index(name)
		if index < 0 {
			return BadArguments("%s() got an unexpected keyword argument '%s'", t.name, name)
		}
		if given[index] != nil {
			return BadArguments("%s() got multiple values for argument '%s'", t.name, name)
		}
		given[index] = value
	}
	return nil
}

func (t *task) index(name string) int {
	for i, parameter := range t.parameters {
		if parameter.name == name {
			return i
		}
	}
	return -1
}

func (t *task) missing(given []json.RawMessage) (names []string) {
	for i, parameter := range t.parameters {
		if parameter.required && given[i] == nil {
			names = append(names, "'"+parameter.name+"'")
		}
	}
	return names
}

func (t *task) tooMany(given int) error {
	least, most := 0, len(t.parameters)
	for _, parameter := range t.parameters {
		if parameter.required {
			least++
		}
	}
	takes := counted(most, "argument")
	if least < most {
		takes = fmt.Sprintf("from %d to %s", least, takes)
	}
	were := "were"
	if given == 1 {
		were = "was"
	}
	return BadArguments("%s() takes %s but %d %s given", t.name, takes, given, were)
}

// read reads an argument, which is nil if there is none.
func (p *parameter) read(argument json.RawMessage) (reflect.Value, error) {
	value := reflect.New(p.kind)
	if argument == nil {
		if p.fallback != nil {
			return *p.fallback, nil
		}
		return value.Elem(), nil
	}
	if string(argument) == "null" && !p.takesNull() {
		return value, BadArguments("argument '%s': null is no %v", p.name, typeName(p.kind))
	}
	if err := json.Unmarshal(argument, value.Interface()); err != nil {
		var kind *json.UnmarshalTypeError
		if errors.As(err, &kind) {
			err = fmt.Errorf("a %s is no %s%s", kind.Value, typeName(kind.Type), within(kind.Field))
		}
		return value, BadArguments("argument '%s': %s", p.name, trimmed(err))
	}
	return value.Elem(), nil
}

func within(field string) string {
	if field == "" {
		return ""
	}
	return " (" + field + ")"
}

func (p *parameter) takesNull() bool {
	switch p.kind.Kind() {
	case reflect.Pointer, reflect.Interface, reflect.Slice, reflect.Map:
		return true
	}
	return implements(p.kind, unmarshalerType)
}

func counted(count int, noun string) string {
	if count == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", count, noun)
}

func listed(names []string) string {
	if len(names) == 1 {
		return names[0]
	}
	last := len(names) - 1
	return strings.Join(names[:last], ", ") + " and " + names[last]
}

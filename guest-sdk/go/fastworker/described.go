package fastworker

import (
	"path"
	"runtime"
	"strconv"
	"strings"
)

// A description is what the source has about a function.
type description struct {
	parameters    []string
	documentation string
}

// descriptions are those that `fastworker build` adds, by symbol ("main.add"), or by place for functions without a
// name ("main/tasks.go:12").
var descriptions = map[string]description{}

// Described adds the names of a function's parameters and its documentation. The code that `fastworker build` adds
// to a module calls it.
func Described(function string, parameters []string, documentation string) {
	descriptions[function] = description{parameters, documentation}
}

// described returns what is known of the task's function.
func described(t *task) (parameters []string, documentation string) {
	function := runtime.FuncForPC(t.function.Pointer())
	if function == nil {
		return nil, ""
	}
	symbol, _, _ := strings.Cut(function.Name(), "[")
	symbol = strings.TrimSuffix(symbol, "-fm")
	file, line := function.FileLine(function.Entry())
	place := packageOf(symbol) + "/" + path.Base(file) + ":" + strconv.Itoa(line)
	for _, key := range []string{symbol, place} {
		if found, ok := descriptions[key]; ok {
			return found.parameters, found.documentation
		}
	}
	return fromSource(symbol[len(packageOf(symbol))+1:], file, line, t)
}

// packageOf returns the package of a symbol, such as "example.org/shop" of "example.org/shop.(*Cart).Add".
func packageOf(symbol string) string {
	last := strings.LastIndex(symbol, "/") + 1
	name, _, _ := strings.Cut(symbol[last:], ".")
	return symbol[:last] + name
}

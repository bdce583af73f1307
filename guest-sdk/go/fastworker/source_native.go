//go:build !wasip1

package fastworker

import (
	"path/filepath"

	"github.com/fastworker/fastworker/guest-sdk/go/internal/source"
)

// fromSource reads the source of a function: tests run where it is.
func fromSource(name, file string, line int, t *task) (parameters []string, documentation string) {
	files, _ := filepath.Glob(filepath.Join(filepath.Dir(t.definedIn), "*.go"))
	for _, path := range append([]string{file}, files...) {
		functions, err := source.Functions(path, nil)
		if err != nil {
			continue
		}
		for _, function := range functions {
			if path == file && function.Line == line || function.Name != "" && function.Name == name {
				return function.Parameters, function.Documentation
			}
		}
	}
	return nil, ""
}

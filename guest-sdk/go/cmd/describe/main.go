// Describe writes Go code that adds to a module what is only in its source: the names of parameters, and
// comments. `fastworker build` runs it, and compiles the code with the module.
//
//	describe FILE
//	describe DIRECTORY MODULE MAIN
//
// FILE is the only file of a main package. DIRECTORY is the root of the module with the path MODULE, and MAIN the
// directory of its main package.
package main

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/fastworker/fastworker/guest-sdk/go/internal/source"
)

// opening is the start of the code, and closing its end.
const (
	opening = "package main\n\nimport fastworkerDescribed " +
		"\"github.com/fastworker/fastworker/guest-sdk/go/fastworker\"\n\nfunc init() {\n"
	closing = "}\n"
)

func main() {
	code := &strings.Builder{}
	code.WriteString(opening)
	switch len(os.Args) {
	case 2:
		writeFile(code, os.Args[1], "main")
	case 4:
		if err := writeModule(code, os.Args[1], os.Args[2], os.Args[3]); err != nil {
			fmt.Fprintln(os.Stderr, "error:", err)
			os.Exit(1)
		}
	default:
		fmt.Fprintln(os.Stderr, "usage: describe FILE, or describe DIRECTORY MODULE MAIN")
		os.Exit(2)
	}
	code.WriteString(closing)
	fmt.Print(code)
}

// writeModule writes the code for all packages of a module.
func writeModule(code *strings.Builder, root, module, main string) error {
	return filepath.WalkDir(root, func(file string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() && file != root && isOther(file, entry.Name()) {
			return filepath.SkipDir
		}
		if entry.Type().IsRegular() && strings.HasSuffix(file, ".go") && !strings.HasSuffix(file, "_test.go") {
			writeFile(code, file, packageOf(root, module, main, file))
		}
		return nil
	})
}

// isOther returns whether a directory has no packages of the module.
func isOther(directory, name string) bool {
	if name == "vendor" || name == "testdata" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") {
		return true
	}
	_, err := os.Stat(filepath.Join(directory, "go.mod"))
	return err == nil
}

// packageOf returns the path of a file's package, as symbols have it.
func packageOf(root, module, main, file string) string {
	directory := filepath.Dir(file)
	if directory == filepath.Clean(main) {
		return "main"
	}
	below, err := filepath.Rel(root, directory)
	if err != nil {
		return module
	}
	return path.Join(module, filepath.ToSlash(below))
}

func writeFile(code *strings.Builder, file, packagePath string) {
	// The compiler reports files with errors.
	functions, err := source.Functions(file, nil)
	if err != nil {
		return
	}
	for _, function := range functions {
		if len(function.Parameters) == 0 && function.Documentation == "" {
			continue
		}
		key := packagePath + "." + function.Name
		if function.Name == "" {
			key = fmt.Sprintf("%s/%s:%d", packagePath, filepath.Base(file), function.Line)
		}
		fmt.Fprintf(code, "\tfastworkerDescribed.Described(%q, %#v, %q)\n", key, function.Parameters, function.Documentation)
	}
}

// Describe writes Go code that adds to a module what is only in its source: the names of parameters, and
// comments. `fastworker build` runs it, and compiles the code with the module.
//
//	describe MAIN [DIRECTORY MODULE]…
//
// MAIN is the directory of a main package, or its only file, and DIRECTORY the root of a module with the path MODULE.
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
		"\"github.com/fastworker/fastworker/guest-sdk/go/fastworker\"\n\nfunc init() {\n\t_ = fastworkerDescribed.Described\n"
	closing = "}\n"
)

func main() {
	code := &strings.Builder{}
	code.WriteString(opening)
	if len(os.Args)%2 != 0 {
		fmt.Fprintln(os.Stderr, "usage: describe MAIN [DIRECTORY MODULE]…")
		os.Exit(2)
	}
	main := filepath.Clean(os.Args[1])
	if strings.HasSuffix(main, ".go") {
		writeFile(code, main, "main")
	}
	for i := 2; i < len(os.Args); i += 2 {
		if err := writeModule(code, os.Args[i], os.Args[i+1], main); err != nil {
			fmt.Fprintln(os.Stderr, "error:", err)
			os.Exit(1)
		}
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
		if file != main && entry.Type().IsRegular() && strings.HasSuffix(file, ".go") && !strings.HasSuffix(file, "_test.go") {
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
	if directory == main {
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

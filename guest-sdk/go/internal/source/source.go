// Package source reads from Go source what reflection does not know: the names of parameters, and comments.
package source

import (
	"go/ast"
	"go/parser"
	"go/token"
	"strings"
)

// A Function is a declared function, a method, or a function literal.
type Function struct {
	// Name is as in symbols: "add", "Cart.Add", "(*Cart).Add". It is empty for a literal.
	Name string
	// Line is that of the keyword func.
	Line int
	// Parameters are the names, "" where there is none.
	Parameters    []string
	Documentation string
}

// Functions returns the functions of a file, whose text may be given as for [parser.ParseFile].
func Functions(path string, text any) ([]Function, error) {
	files := token.NewFileSet()
	file, err := parser.ParseFile(files, path, text, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return nil, err
	}
	var found []Function
	ast.Inspect(file, func(node ast.Node) bool {
		switch function := node.(type) {
		case *ast.FuncDecl:
			found = append(found, Function{
				Name:          symbol(function),
				Line:          files.Position(function.Type.Func).Line,
				Parameters:    parameters(function.Type),
				Documentation: documentation(function),
			})
		case *ast.FuncLit:
			line := files.Position(function.Type.Func).Line
			found = append(found, Function{Line: line, Parameters: parameters(function.Type)})
		}
		return true
	})
	return withoutAmbiguous(found), nil
}

// symbol returns the name of a function in the symbol table of a program.
func symbol(function *ast.FuncDecl) string {
	if function.Recv == nil || len(function.Recv.List) == 0 {
		return function.Name.Name
	}
	receiver := function.Recv.List[0].Type
	format := func(name string) string { return name }
	if star, ok := receiver.(*ast.StarExpr); ok {
		receiver = star.X
		format = func(name string) string { return "(*" + name + ")" }
	}
	name, ok := receiver.(*ast.Ident)
	if !ok {
		return ""
	}
	return format(name.Name) + "." + function.Name.Name
}

func parameters(function *ast.FuncType) []string {
	names := []string{}
	for _, field := range function.Params.List {
		if len(field.Names) == 0 {
			names = append(names, "")
		}
		for _, name := range field.Names {
			names = append(names, name.Name)
		}
	}
	return names
}

// documentation returns the comment of a function, without the function's name at its start.
func documentation(function *ast.FuncDecl) string {
	text := strings.TrimSpace(function.Doc.Text())
	rest, found := strings.CutPrefix(text, function.Name.Name+" ")
	if !found || rest == "" {
		return text
	}
	return strings.ToUpper(rest[:1]) + rest[1:]
}

// withoutAmbiguous drops literals that share a line, because nothing distinguishes them.
func withoutAmbiguous(functions []Function) []Function {
	lines := map[int]int{}
	for _, function := range functions {
		lines[function.Line]++
	}
	kept := []Function{}
	for _, function := range functions {
		if function.Name != "" || lines[function.Line] == 1 {
			kept = append(kept, function)
		}
	}
	return kept
}

package fastworker

import (
	"encoding"
	"encoding/json"
	"math"
	"reflect"
	"strings"
	"time"
)

var (
	timeType            = reflect.TypeFor[time.Time]()
	numberType          = reflect.TypeFor[json.Number]()
	marshalerType       = reflect.TypeFor[json.Marshaler]()
	unmarshalerType     = reflect.TypeFor[json.Unmarshaler]()
	textMarshalerType   = reflect.TypeFor[encoding.TextMarshaler]()
	textUnmarshalerType = reflect.TypeFor[encoding.TextUnmarshaler]()
)

type object = map[string]any

// schema returns the signature of the task as JSON.
func (t *task) schema() string {
	parameters := []object{}
	for _, parameter := range t.parameters {
		entry := object{
			"name":     parameter.name,
			"type":     typeName(parameter.kind),
			"required": parameter.required,
			"schema":   t.schemaOf(parameter.kind, reads),
		}
		if parameter.fallback != nil {
			entry["default"] = parameter.fallback.Interface()
		}
		parameters = append(parameters, entry)
	}
	signature := object{"parameters": parameters, "result": "null"}
	if t.returns != nil {
		signature["result"] = object{"type": typeName(t.returns), "schema": t.schemaOf(t.returns, writes)}
	}
	text, err := json.Marshal(signature)
	if err != nil {
		t.panicf("its signature cannot be written as JSON: %v", err)
	}
	return string(text)
}

// typeName returns a type as Go code of its module names it.
func typeName(kind reflect.Type) string { return strings.ReplaceAll(kind.String(), "main.", "") }

// direction is whether encoding/json reads a type, or writes it.
type direction bool

const (
	reads  direction = false
	writes direction = true
)

// A schemaWriter makes the JSON Schema of one parameter or result.
type schemaWriter struct {
	task      *task
	direction direction
	// definitions has the structs with a name: these may contain themselves.
	definitions map[string]any
	names       map[reflect.Type]string
}

func (t *task) schemaOf(kind reflect.Type, direction direction) object {
	writer := schemaWriter{task: t, direction: direction, definitions: object{}, names: map[reflect.Type]string{}}
	schema := writer.of(kind)
	if len(writer.definitions) > 0 {
		schema["$defs"] = writer.definitions
	}
	return schema
}

func (w *schemaWriter) of(kind reflect.Type) object {
	switch {
	case kind == timeType:
		return object{"type": "string", "format": "date-time"}
	case kind == numberType:
		return object{"type": "number"}
	case w.isJSON(kind):
		return object{}
	case w.isText(kind):
		return object{"type": "string"}
	}
	switch kind.Kind() {
	case reflect.Bool:
		return object{"type": "boolean"}
	case reflect.String:
		return object{"type": "string"}
	case reflect.Float32:
		return object{"type": "number", "format": "float"}
	case reflect.Float64:
		return object{"type": "number", "format": "double"}
	case reflect.Interface:
		return object{}
	case reflect.Pointer:
		return orNull(w.of(kind.Elem()))
	case reflect.Slice, reflect.Array:
		return w.ofList(kind)
	case reflect.Map:
		return w.ofMap(kind)
	case reflect.Struct:
		return w.ofStruct(kind)
	}
	if schema := ofInteger(kind); schema != nil {
		return schema
	}
	w.task.panicf("encoding/json does not know %v", kind)
	return nil
}

// isJSON returns whether a type reads or writes its own JSON: nothing is known of it.
func (w *schemaWriter) isJSON(kind reflect.Type) bool {
	if w.direction == writes {
		return kind.Implements(marshalerType)
	}
	return implements(kind, unmarshalerType)
}

func (w *schemaWriter) isText(kind reflect.Type) bool {
	if w.direction == writes {
		return kind.Implements(textMarshalerType)
	}
	return implements(kind, textUnmarshalerType)
}

// implements returns whether a type or the pointer to it has the methods.
func implements(kind, methods reflect.Type) bool {
	return kind.Implements(methods) || reflect.PointerTo(kind).Implements(methods)
}

func ofInteger(kind reflect.Type) object {
	schema := object{"type": "integer", "format": kind.Kind().String()}
	switch kind.Kind() {
	case reflect.Int, reflect.Int64:
		schema["format"] = "int64"
	case reflect.Int8, reflect.Int16, reflect.Int32:
		most := int64(math.MaxInt64) >> (64 - kind.Bits())
		schema["minimum"], schema["maximum"] = -most-1, most
	case reflect.Uint, reflect.Uint64, reflect.Uintptr:
		schema["format"], schema["minimum"] = "uint64", 0
	case reflect.Uint8, reflect.Uint16, reflect.Uint32:
		schema["minimum"], schema["maximum"] = 0, uint64(math.MaxUint64)>>(64-kind.Bits())
	default:
		return nil
	}
	return schema
}

func (w *schemaWriter) ofList(kind reflect.Type) object {
	if kind.Kind() == reflect.Slice && kind.Elem().Kind() == reflect.Uint8 && !w.isJSON(kind.Elem()) && !w.isText(kind.Elem()) {
		return orNull(object{"type": "string", "contentEncoding": "base64"})
	}
	schema := object{"type": "array", "items": w.of(kind.Elem())}
	if kind.Kind() == reflect.Array {
		schema["minItems"], schema["maxItems"] = kind.Len(), kind.Len()
		return schema
	}
	return orNull(schema)
}

func (w *schemaWriter) ofMap(kind reflect.Type) object {
	key := kind.Key()
	if key.Kind() != reflect.String && ofInteger(key) == nil && !w.isText(key) {
		w.task.panicf("encoding/json knows no map with the keys of %v", kind)
	}
	return orNull(object{"type": "object", "additionalProperties": w.of(kind.Elem())})
}

// orNull also allows null: what encoding/json reads and writes for nil.
func orNull(schema object) object {
	switch kind := schema["type"].(type) {
	case string:
		schema["type"] = []string{kind, "null"}
	case nil:
		if len(schema) > 0 {
			return object{"anyOf": []object{schema, {"type": "null"}}}
		}
	}
	return schema
}

func (w *schemaWriter) ofStruct(kind reflect.Type) object {
	if kind.Name() == "" {
		return w.structBody(kind)
	}
	name, known := w.names[kind]
	if !known {
		name = w.freeName(kind)
		w.names[kind] = name
		w.definitions[name] = w.structBody(kind)
	}
	return object{"$ref": "#/$defs/" + name}
}

// freeName returns a name for the definition of a type that no other type has.
func (w *schemaWriter) freeName(kind reflect.Type) string {
	isPlain := func(r rune) rune {
		if r == '_' || '0' <= r && r <= '9' || 'A' <= r && r <= 'Z' || 'a' <= r && r <= 'z' {
			return r
		}
		return '_'
	}
	name := strings.Map(isPlain, kind.Name())
	for _, taken := w.definitions[name]; taken; _, taken = w.definitions[name] {
		name += "_"
	}
	// Reserves it: the type may contain another one of the same name.
	w.definitions[name] = nil
	return name
}

func (w *schemaWriter) structBody(kind reflect.Type) object {
	properties, required := object{}, []string{}
	w.addFields(kind, properties, &required)
	schema := object{"type": "object", "properties": properties}
	if len(required) > 0 {
		schema["required"] = required
	}
	return schema
}

// addFields adds the fields of a struct, those of embedded structs as its own. Outer fields hide those of embedded
// structs.
func (w *schemaWriter) addFields(kind reflect.Type, properties object, required *[]string) {
	var embedded []reflect.Type
	for i := range kind.NumField() {
		field := kind.Field(i)
		tag, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		if field.Anonymous && tag == "" {
			inner := field.Type
			if inner.Kind() == reflect.Pointer {
				inner = inner.Elem()
			}
			if inner.Kind() == reflect.Struct && !w.isJSON(inner) && !w.isText(inner) {
				embedded = append(embedded, inner)
				continue
			}
		}
		if !field.IsExported() || tag == "-" && options == "" {
			continue
		}
		name := tag
		if name == "" {
			name = field.Name
		}
		w.addField(name, options, field.Type, properties, required)
	}
	for _, inner := range embedded {
		w.addFields(inner, properties, required)
	}
}

func (w *schemaWriter) addField(name, options string, kind reflect.Type, properties object, required *[]string) {
	if _, hidden := properties[name]; hidden {
		return
	}
	schema := w.of(kind)
	isOptional := kind.Kind() == reflect.Pointer && w.direction == reads
	for _, option := range strings.Split(options, ",") {
		switch option {
		case "omitempty", "omitzero":
			isOptional = true
		case "string":
			schema = object{"type": "string"}
		}
	}
	properties[name] = schema
	if !isOptional {
		*required = append(*required, name)
	}
}

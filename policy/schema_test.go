package policy

import (
	"encoding"
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const schemaFile = "../docs/policy.schema.json"

// schemaWords are the values of each type that reads words by a rule of its own.
var schemaWords = map[string]map[string]any{
	"AllowedTransitions": {"enum": []AllowedTransitions{TrustObserve, TrustOverlay, TrustAll}},
	"Mode":               {"enum": Modes()},
	"DrainRule":          {"enum": []DrainRule{DrainWait, DrainNever}},
	"Place":              {"enum": []Place{Local, Remote}},
	"DrainAction":        {"enum": []DrainAction{DrainFail, DrainStop}},
	"PowerProfile":       {"enum": []PowerProfile{ProfilePerformance, ProfileAlone}},
	"Memory":             {"pattern": `^(?:infinity|[0-9]{1,7}[MGT])?$`},
	"CPUList":            {"pattern": `^([0-9]+(-[0-9]+)?(,[0-9]+(-[0-9]+)?)*)?$`},
	"Duration":           {"pattern": `^[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|ms|s|m|h)([0-9.]+(ns|us|µs|ms|s|m|h))*$`},
}

// docs/policy.schema.json is written from the Go types and their comments, so that
// an editor says of a policy what the daemon would, as far as a schema can.
func TestTheSchemaIsThatOfTheTypes(t *testing.T) {
	comments := fieldComments(t)
	schema := schemaOf(t, comments, reflect.ValueOf(Default()))
	schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	schema["title"] = "The policy of Dubnium"
	data, err := json.MarshalIndent(schema, "", "  ")
	require.NoError(t, err)
	golden(t, schemaFile, string(data)+"\n")
}

// schemaOf describes a value whose default is v.
func schemaOf(t *testing.T, comments map[string]string, v reflect.Value) map[string]any {
	t.Helper()
	if isTable(v.Type()) {
		properties := map[string]any{}
		for i := range v.NumField() {
			field := v.Type().Field(i)
			property := schemaOf(t, comments, v.Field(i))
			if comment := comments[v.Type().Name()+"."+field.Name]; comment != "" {
				property["description"] = strings.Replace(comment, field.Name, keyOf(field), 1)
			}
			properties[keyOf(field)] = property
		}
		return map[string]any{"type": "object", "additionalProperties": false, "properties": properties}
	}
	schema := schemaOfType(t, comments, v.Type())
	if v.Kind() != reflect.Slice || !v.IsNil() {
		schema["default"] = v.Interface()
	}
	return schema
}

func schemaOfType(t *testing.T, comments map[string]string, of reflect.Type) map[string]any {
	t.Helper()
	schema := map[string]any{}
	if reflect.PointerTo(of).Implements(wordType) {
		require.Contains(t, schemaWords, of.Name(), "schemaWords has to say what it reads")
		for rule, value := range schemaWords[of.Name()] {
			schema[rule] = value
		}
		schema["type"] = "string"
		return schema
	}
	switch of.Kind() {
	case reflect.Slice:
		schema["type"], schema["items"] = "array", schemaOfType(t, comments, of.Elem())
	case reflect.Map:
		schema["type"] = "object"
		if isTable(of.Elem()) {
			schema["additionalProperties"] = schemaOf(t, comments, reflect.Zero(of.Elem()))
		} else {
			schema["additionalProperties"] = schemaOfType(t, comments, of.Elem())
		}
	default:
		name := map[reflect.Kind]string{
			reflect.String: "string", reflect.Bool: "boolean", reflect.Float64: "number",
			reflect.Int: "integer", reflect.Int64: "integer",
		}[of.Kind()]
		require.NotEmpty(t, name, "%s has no form in a schema", of)
		schema["type"] = name
	}
	return schema
}

// fieldComments reads the comments of this package's structs: "Type.Field".
func fieldComments(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("*.go")
	require.NoError(t, err)
	comments := map[string]string{}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
		require.NoError(t, err)
		ast.Inspect(parsed, func(n ast.Node) bool {
			spec, ok := n.(*ast.TypeSpec)
			if !ok {
				return true
			}
			if structure, ok := spec.Type.(*ast.StructType); ok {
				for _, field := range structure.Fields.List {
					for _, name := range field.Names {
						text := field.Doc.Text() + field.Comment.Text()
						comments[spec.Name.Name+"."+name.Name] = strings.Join(strings.Fields(text), " ")
					}
				}
			}
			return false
		})
	}
	return comments
}

// What the schema allows as words, the types read; what it does not, they refuse.
func TestTheSchemasWordsAreThoseThatAreRead(t *testing.T) {
	read := func(word string, into any) error { return into.(encoding.TextUnmarshaler).UnmarshalText([]byte(word)) }
	types := map[string]func() any{
		"AllowedTransitions": func() any { return new(AllowedTransitions) },
		"Mode":               func() any { return new(Mode) }, "DrainAction": func() any { return new(DrainAction) },
		"PowerProfile": func() any { return new(PowerProfile) },
	}
	for name, fresh := range types {
		words := reflect.ValueOf(schemaWords[name]["enum"])
		for i := range words.Len() {
			require.NoError(t, read(words.Index(i).String(), fresh()))
		}
		require.Error(t, read("sauna", fresh()))
	}
	pattern := regexp.MustCompile(schemaWords["Duration"]["pattern"].(string))
	for word, ok := range map[string]bool{
		"90s": true, "1h30m": true, "1.5s": true, "20m0s": true, "90": false, "soon": false, "": false,
	} {
		require.Equal(t, ok, pattern.MatchString(word), word)
		require.Equal(t, ok, read(word, new(Duration)) == nil, word)
	}
}

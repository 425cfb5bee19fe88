package config

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/walferry/walferry/internal/broker"
	"github.com/walferry/walferry/vault"
)

// node is a part of a JSON Schema.
type node = map[string]any

// closedSet returns the values that a key, or an item of its list, may have; nil where any text will do.
func closedSet(key string) []string {
	switch key {
	case "delivery":
		return []string{string(ExactlyOnce), string(AtLeastOnce)}
	case "format":
		return []string{"json"}
	case "events.numeric", "events.int8":
		return []string{"string", "number"}
	case "events.headers":
		return []string{"op", "schema", "table"}
	case "checkpoint.store":
		return []string{string(StoreKafka), string(StoreFile)}
	case "log.level":
		return []string{"debug", "info", "warn", "error"}
	case "log.format":
		return []string{"text", "json"}
	case "postgres.publication.manage":
		return []string{"create", "never"}
	case "kafka.compression":
		return []string{"none", "gzip", "snappy", "lz4", "zstd"}
	case "kafka.oversize":
		return []string{"stop", "dead_letter"}
	case "kafka.sasl.mechanism":
		return broker.Mechanisms()
	case "vault.auth.method":
		return vault.Methods()
	}
	return nil
}

// hasVariable fits a text into which ${NAME} is put before it is judged.
const hasVariable = `\$\{`

// patterns are those of texts that must look like something.
var patterns = map[string]string{
	"name":               pipelineName.String(),
	"postgres.slot.name": slotName.String(),
}

// Schema returns a JSON Schema (2020-12) of the file, for completion and checks in editors. It is made from the
// settings themselves; descriptions are those of docs/configuration.md. What only a start can judge, such as
// keys that exclude each other, is not in it.
func Schema() ([]byte, error) {
	meanings := map[string]string{}
	for _, row := range descriptions() {
		meanings[row.key] = row.meaning
	}
	root := schemaOf("", reflect.ValueOf(defaultSettings()), meanings)
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["$id"] = "https://github.com/walferry/walferry/docs/schema/configuration.schema.json"
	root["title"] = "walferry configuration"
	root["$defs"] = node{"variable": node{"type": "string", "pattern": hasVariable}}
	text, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode the schema: %w", err)
	}
	return append(text, '\n'), nil
}

// schemaOf describes a setting; its value is the default.
func schemaOf(key string, v reflect.Value, meanings map[string]string) node {
	var n node
	switch held := v.Interface().(type) {
	case string:
		n = textSchema(key)
		if held != "" {
			n["default"] = held
		}
	case bool:
		n = node{"anyOf": []node{{"type": "boolean"}, orVariable()}}
		if held {
			n["default"] = held
		}
	case int:
		n = node{"anyOf": []node{{"type": "integer"}, orVariable()}}
		if held != 0 {
			n["default"] = held
		}
	case time.Duration:
		n = node{"type": "string", "pattern": `^([0-9]+(\.[0-9]+)?(ns|us|µs|ms|s|m|h))+$|` + hasVariable}
		if held != 0 {
			n["default"] = durationText(held)
		}
	case []string:
		n = node{"anyOf": []node{{"type": "array", "items": textSchema(key)}, {"type": "string"}, {"type": "null"}}}
	case map[string]string:
		n = node{"type": []string{"object", "null"}, "additionalProperties": node{"type": []string{"string", "number", "boolean"}}}
	case tableList:
		entry := sectionSchema("", reflect.ValueOf(tableEntry{}), nil)
		entry["required"] = []string{"table"}
		n = node{"anyOf": []node{{"type": "array", "items": node{"anyOf": []node{{"type": "string"}, entry}}}, {"type": "string"}}}
	default:
		n = sectionSchema(key, v, meanings)
	}
	if meaning := meanings[key]; meaning != "" {
		n["description"] = meaning
	}
	return n
}

func sectionSchema(key string, v reflect.Value, meanings map[string]string) node {
	properties := node{}
	for i := range v.NumField() {
		name := v.Type().Field(i).Tag.Get("yaml")
		properties[name] = schemaOf(join(key, name), v.Field(i), meanings)
	}
	is := any([]string{"object", "null"}) // what is commented out to the last key says nothing
	if meanings == nil {
		is = "object"
	}
	return node{"type": is, "properties": properties, "additionalProperties": false}
}

func textSchema(key string) node {
	if set := closedSet(key); set != nil {
		return node{"anyOf": []node{{"enum": set}, orVariable()}}
	}
	n := node{"type": "string"}
	if p := patterns[key]; p != "" {
		n["pattern"] = p + "|" + hasVariable
	}
	return n
}

func orVariable() node { return node{"$ref": "#/$defs/variable"} }

// durationText prints a duration as people write it: 1m, not 1m0s.
func durationText(d time.Duration) string {
	text := d.String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

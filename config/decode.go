package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/walferry/walferry/fault"
	"github.com/walferry/walferry/vault"
)

// decoder fills settings from a file and flags, keeping where each key was given and everything
// that is wrong. It goes on after a problem, so that all are found.
type decoder struct {
	file     string
	env      func(string) (string, bool)
	places   map[string]place
	problems problems
	// only are the sections to look at; nil means all.
	only []string
	// secrets are what is read from Vault.
	secrets []*vault.Entry
}

// reject notes a problem of a key, at the place where the key, or else the nearest key around it,
// was given.
func (d *decoder) reject(key, format string, args ...any) {
	d.add(problem{at: d.placeOf(key), key: key, text: fmt.Sprintf(format, args...), code: fault.ConfigInvalid})
}

func (d *decoder) add(p problem) { d.problems = append(d.problems, p) }

// given tells whether a key stands in the file or came by a flag.
func (d *decoder) given(key string) bool {
	_, ok := d.places[key]
	return ok
}

func (d *decoder) placeOf(key string) place {
	for key != "" {
		if p, ok := d.places[key]; ok {
			return p
		}
		key = key[:max(0, strings.LastIndexAny(key, ".["))]
	}
	return place{file: d.file}
}

// shown is a key's value for a message, in quotes: as it was written where variables were put in.
func (d *decoder) shown(key, value string) string {
	if p := d.placeOf(key); strings.Contains(p.text, "${") {
		value = p.text
	}
	return strconv.Quote(value)
}

// yamlLine finds the line in the texts of the YAML parser's errors.
var yamlLine = regexp.MustCompile(`^(?:yaml: )?line (\d+): (.*)$`)

// decodeFile reads YAML into s. It tells whether the text was one YAML document with keys; where
// it was not, what the settings lack need not be told.
func (d *decoder) decodeFile(text []byte, s *settings) bool {
	dec := yaml.NewDecoder(bytes.NewReader(text))
	var doc, next yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return true // An empty file says nothing.
	} else if err != nil {
		d.add(d.notYAML(err))
		return false
	}
	if err := dec.Decode(&next); err == nil {
		d.add(problem{at: place{file: d.file, line: next.Line}, text: "a second document begins here; want one", code: fault.ConfigInvalid})
		return false
	} else if !errors.Is(err, io.EOF) {
		d.add(d.notYAML(err))
		return false
	}
	root := doc.Content[0]
	d.value(root, "", reflect.ValueOf(s).Elem())
	return root.Kind == yaml.MappingNode || root.ShortTag() == "!!null"
}

func (d *decoder) notYAML(err error) problem {
	p := problem{at: place{file: d.file}, text: "not YAML: " + strings.TrimPrefix(err.Error(), "yaml: "), code: fault.ConfigInvalid}
	if m := yamlLine.FindStringSubmatch(err.Error()); m != nil {
		p.at.line, _ = strconv.Atoi(m[1])
		p.text = "not YAML: " + m[2]
	}
	return p
}

// value fills one setting from its node, by the setting's type.
func (d *decoder) value(n *yaml.Node, key string, into reflect.Value) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	switch into := into.Addr().Interface().(type) {
	case *string:
		if text, ok := d.scalar(n, key, "!!str", "text"); ok {
			*into = text
		}
	case *bool:
		d.truth(n, key, into)
	case *int:
		d.number(n, key, into)
	case *time.Duration:
		d.duration(n, key, into)
	case *[]string:
		d.list(n, key, into)
	case *map[string]string:
		d.texts(n, key, into)
	case *tableList:
		d.tables(n, key, into)
	default: // The rest of the settings' types are structs.
		d.section(n, key, reflect.ValueOf(into).Elem())
	}
}

func (d *decoder) truth(n *yaml.Node, key string, into *bool) {
	switch text, ok := d.scalar(n, key, "!!bool", "true or false"); {
	case !ok:
	case text != "true" && text != "false":
		d.reject(key, "want true or false, not %s", d.shown(key, text))
	default:
		*into = text == "true"
	}
}

func (d *decoder) number(n *yaml.Node, key string, into *int) {
	text, ok := d.scalar(n, key, "!!int", "a whole number")
	if !ok {
		return
	}
	v, err := strconv.ParseInt(text, 10, 32)
	if err != nil {
		d.reject(key, "want a whole number, not %s", d.shown(key, text))
		return
	}
	*into = int(v)
}

// section fills a struct from a mapping. An empty section, whose keys may all be commented out,
// says nothing.
func (d *decoder) section(n *yaml.Node, key string, into reflect.Value) {
	if n.ShortTag() == "!!null" {
		return
	}
	if n.Kind != yaml.MappingNode {
		d.rejectKind(n, key, "keys and values")
		return
	}
	keys := keysOf(into.Type())
	seen := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, path := n.Content[i], join(key, n.Content[i].Value)
		at := place{file: d.file, line: name.Line}
		if line, twice := seen[name.Value]; twice {
			d.add(problem{at: at, key: path, text: fmt.Sprintf("given twice, first in line %d", line), code: fault.ConfigInvalid})
			continue
		}
		seen[name.Value] = name.Line
		index := slices.Index(keys, name.Value)
		if index < 0 {
			d.add(problem{at: at, key: path, text: unknown(name.Value, key, keys), code: fault.ConfigInvalid})
			continue
		}
		if key == "" && d.only != nil && !slices.Contains(d.only, name.Value) {
			continue
		}
		d.places[path] = place{file: d.file, line: name.Line, text: n.Content[i+1].Value}
		d.value(n.Content[i+1], path, into.Field(index))
	}
}

// unknown words the error of a key that does not exist: the nearest key beside it, else a key of
// that name elsewhere, else all keys that may stand here.
func unknown(name, section string, keys []string) string {
	if best := Nearest(name, keys); best != "" {
		return fmt.Sprintf("unknown key; did you mean %q?", join(section, best))
	}
	for _, full := range Keys() {
		if full[strings.LastIndexByte(full, '.')+1:] == name {
			return fmt.Sprintf("unknown key here; did you mean %q?", full)
		}
	}
	return "unknown key; the keys here are " + strings.Join(keys, ", ")
}

// scalar returns a scalar's text with variables put in. A text where another type is wanted is
// taken only if a variable made it; a number or truth value is never taken for a text.
func (d *decoder) scalar(n *yaml.Node, key, tag, want string) (string, bool) {
	if n.Kind != yaml.ScalarNode {
		d.rejectKind(n, key, want)
		return "", false
	}
	text, err := expand(n.Value, d.env)
	switch is := n.ShortTag(); {
	case is == "!!null":
		d.reject(key, `has no value; leave the key out, or write "" for an empty text`)
	case is == "!!str" && err != nil:
		d.reject(key, "%v", err)
	case is == "!!str" && (tag == "!!str" || text != n.Value):
		return text, true
	case is == tag:
		return n.Value, true
	case tag == "!!str":
		d.reject(key, `want text, not %s: put it in quotes`, tagWords[is])
	case is == "!!str":
		d.reject(key, "want %s, not the text %s", want, d.shown(key, n.Value))
	default:
		d.reject(key, "want %s, not %s", want, d.shown(key, n.Value))
	}
	return "", false
}

var tagWords = map[string]string{
	"!!int": "a number", "!!float": "a number", "!!bool": "a truth value", "!!timestamp": "a date", "!!binary": "binary data",
}

func (d *decoder) rejectKind(n *yaml.Node, key, want string) {
	is := map[yaml.Kind]string{yaml.MappingNode: "a map", yaml.SequenceNode: "a list", yaml.ScalarNode: "a single value"}[n.Kind]
	p := problem{at: place{file: d.file, line: n.Line}, key: key, text: fmt.Sprintf("want %s, not %s", want, is), code: fault.ConfigInvalid}
	d.add(p)
}

// duration reads a duration above zero in Go's form; a number alone has no unit.
func (d *decoder) duration(n *yaml.Node, key string, into *time.Duration) {
	tag := "!!str"
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!int" {
		tag = "!!int"
	}
	text, ok := d.scalar(n, key, tag, "a duration")
	if !ok {
		return
	}
	v, err := time.ParseDuration(text)
	if err != nil || v <= 0 {
		d.reject(key, "%s is not a duration above zero, such as 60s or 5m", d.shown(key, text))
		return
	}
	*into = v
}

// list reads a list of texts, or one text with commas between.
func (d *decoder) list(n *yaml.Node, key string, into *[]string) {
	*into = nil
	if n.ShortTag() == "!!null" {
		return
	}
	if n.Kind == yaml.ScalarNode {
		if text, ok := d.scalar(n, key, "!!str", "a list"); ok {
			*into = splitList(text)
		}
		return
	}
	if n.Kind != yaml.SequenceNode {
		d.rejectKind(n, key, "a list")
		return
	}
	for i, item := range n.Content {
		var text string
		d.value(item, d.item(key, i, item), reflect.ValueOf(&text).Elem())
		*into = append(*into, text)
	}
}

// item returns the key of a list's item, and notes its place.
func (d *decoder) item(key string, i int, n *yaml.Node) string {
	key = fmt.Sprintf("%s[%d]", key, i)
	d.places[key] = place{file: d.file, line: n.Line, text: n.Value}
	return key
}

func splitList(text string) []string {
	var items []string
	for item := range strings.SplitSeq(text, ",") {
		if item = strings.TrimSpace(item); item != "" {
			items = append(items, item)
		}
	}
	return items
}

// texts reads a map of names that we do not know to scalars of any type, kept as they are written.
func (d *decoder) texts(n *yaml.Node, key string, into *map[string]string) {
	*into = map[string]string{}
	if n.ShortTag() == "!!null" {
		return
	}
	if n.Kind != yaml.MappingNode {
		d.rejectKind(n, key, "names and values")
		return
	}
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, item := n.Content[i].Value, n.Content[i+1]
		path := join(key, name)
		if _, twice := (*into)[name]; twice {
			d.reject(path, "given twice")
		}
		d.places[path] = place{file: d.file, line: item.Line, text: item.Value}
		tag := "!!str"
		if is := item.ShortTag(); item.Kind == yaml.ScalarNode && is != "!!null" {
			tag = is
		}
		if text, ok := d.scalar(item, path, tag, "a single value"); ok {
			(*into)[name] = text
		}
	}
}

// tables reads postgres.tables: all, one text with commas, or a list of texts and long entries.
func (d *decoder) tables(n *yaml.Node, key string, into *tableList) {
	*into = tableList{}
	switch n.Kind {
	case yaml.ScalarNode:
		if text, ok := d.scalar(n, key, "!!str", "a list of tables, or all"); ok {
			d.tableText(key, text, into)
		}
	case yaml.SequenceNode:
		for i, item := range n.Content {
			path := d.item(key, i, item)
			var entry tableEntry
			if item.Kind == yaml.MappingNode {
				d.value(item, path, reflect.ValueOf(&entry).Elem())
				if !d.given(path + ".table") {
					d.reject(path, `lacks the key "table"`)
				}
			} else {
				d.value(item, path, reflect.ValueOf(&entry.Table).Elem())
			}
			into.entries = append(into.entries, entry)
		}
	default:
		d.rejectKind(n, key, "a list of tables, or all")
	}
}

// tableText reads the short form of the table list.
func (d *decoder) tableText(key, text string, into *tableList) {
	if strings.TrimSpace(text) == "all" {
		*into = tableList{all: true}
		return
	}
	names, err := splitQuoted(text, ',')
	if err != nil {
		d.reject(key, "%v", err)
	}
	for _, name := range names {
		if name != "" {
			into.entries = append(into.entries, tableEntry{Table: name})
		}
	}
}

// applyFlags puts the flags that were given over what the file said.
func (d *decoder) applyFlags(f Flags, s *settings) {
	for _, fk := range f.flagKeys() {
		if !fk.flag.Given {
			continue
		}
		d.places[fk.key] = place{flag: fk.name}
		text := fk.flag.Text
		if strings.TrimSpace(text) == "" {
			d.reject(fk.key, "the flag is empty")
			continue
		}
		switch fk.key {
		case "name":
			s.Name = text
		case "postgres.url":
			s.Postgres.URL = text
		case "kafka.brokers":
			s.Kafka.Brokers = splitList(text)
		case "postgres.tables":
			s.Postgres.Tables = tableList{}
			d.tableText(fk.key, text, &s.Postgres.Tables)
		case "delivery":
			s.Delivery = text
		case "format":
			s.Format = text
		}
	}
}

// Keys returns every key of the file, sections left out, in the order of the file.
func Keys() []string {
	var keys []string
	var walk func(reflect.Type, string)
	walk = func(t reflect.Type, at string) {
		for i := range t.NumField() {
			f := t.Field(i)
			key := join(at, f.Tag.Get("yaml"))
			if f.Type.Kind() == reflect.Struct && f.Type != reflect.TypeFor[tableList]() {
				walk(f.Type, key)
				continue
			}
			keys = append(keys, key)
		}
	}
	walk(reflect.TypeFor[settings](), "")
	return keys
}

func keysOf(t reflect.Type) []string {
	keys := make([]string, t.NumField())
	for i := range keys {
		keys[i] = t.Field(i).Tag.Get("yaml")
	}
	return keys
}

func join(section, key string) string {
	if section == "" {
		return key
	}
	return section + "." + key
}

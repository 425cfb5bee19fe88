package config

import (
	"bytes"
	"fmt"
	"maps"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/walferry/walferry/fault"
)

// masked stands for a secret.
const masked = "***"

// Effective reads and checks a configuration as Load does, and returns what holds then: YAML in the order of
// the file, with the place where each key was said, defaults and names that follow others filled in, and ***
// for every secret. The error is that of Load.
func Effective(path string, flags Flags, env func(string) (string, bool)) (string, error) {
	d, s, cfg, err := load(path, flags, env)
	if err != nil {
		return "", err
	}
	root := (&effective{d}).section("", reflect.ValueOf(resolved(s, cfg)))
	var out bytes.Buffer
	enc := yaml.NewEncoder(&out)
	enc.SetIndent(2)
	if err := enc.Encode(root); err != nil {
		return "", fault.New(fault.Internal, "print the configuration", err, "")
	}
	return out.String(), nil
}

// resolved puts into the settings what was made of them, and takes the secrets out.
func resolved(s settings, cfg Config) settings {
	s.Postgres.URL = cfg.Postgres.URL
	s.Postgres.Slot.Name, s.Postgres.Publication.Name = cfg.Postgres.Slot.Name, cfg.Postgres.Publication.Name
	s.Kafka.TLS.Enabled = cfg.Kafka.TLS.Enabled
	hide(&s.Postgres.Password, !cfg.Postgres.Password.Text.IsZero())
	hide(&s.Kafka.SASL.Password, !cfg.Kafka.SASL.Password.Text.IsZero())
	for _, secret := range []*secretSettings{&s.Postgres.Vault, &s.Postgres.TLS.Vault, &s.Kafka.TLS.Vault, &s.Kafka.SASL.Vault} {
		secret.Params = maps.Clone(secret.Params)
		for name := range secret.Params {
			secret.Params[name] = masked // they go to Vault, and may be what opens something
		}
	}
	if len(cfg.Secrets) == 0 {
		s.Vault = vaultSettings{}
		return s
	}
	s.Vault.Address, s.Vault.Auth.JWTFile = cfg.Vault.Address, cfg.Vault.Auth.JWTFile
	hide(&s.Vault.Auth.Token, !cfg.Vault.Auth.Token.IsZero())
	return s
}

func hide(text *string, secret bool) {
	*text = ""
	if secret {
		*text = masked
	}
}

var variableStart = regexp.MustCompile(`\$\{[A-Za-z_][A-Za-z0-9_]*`)

// effective makes YAML of settings.
type effective struct{ d *decoder }

// section prints a struct, without what holds nothing.
func (e *effective) section(key string, v reflect.Value) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode}
	for i := range v.NumField() {
		name := v.Type().Field(i).Tag.Get("yaml")
		full := join(key, name)
		if full == "vault" && v.Field(i).IsZero() {
			continue // its switches have no meaning without it
		}
		if value := e.value(full, v.Field(i)); value != nil {
			n.Content = append(n.Content, scalarNode("!!str", name), value)
		}
	}
	if len(n.Content) == 0 {
		return nil
	}
	return n
}

// value prints a setting; nil where it is empty.
func (e *effective) value(key string, v reflect.Value) *yaml.Node {
	var n *yaml.Node
	switch held := v.Interface().(type) {
	case string:
		if held == "" {
			return nil
		}
		n = textNode(held)
	case bool:
		n = scalarNode("!!bool", strconv.FormatBool(held))
	case int:
		n = scalarNode("!!int", strconv.Itoa(held))
	case time.Duration:
		n = scalarNode("!!str", durationText(held))
	case []string:
		n = listNode(held)
	case map[string]string:
		n = mapNode(held)
	case tableList:
		n = tablesNode(held)
	default:
		return e.section(key, v)
	}
	if n != nil {
		e.comment(n, e.origin(key))
	}
	return n
}

// comment stands behind a single value, and above the first of several.
func (e *effective) comment(n *yaml.Node, words string) {
	if n.Kind != yaml.ScalarNode && len(n.Content) > 0 {
		n.Content[0].HeadComment = words
		return
	}
	n.LineComment = words
}

// origin says where a key was said.
func (e *effective) origin(key string) string {
	fromEnv := map[string]string{"vault.address": "VAULT_ADDR", "vault.auth.token": "VAULT_TOKEN"}
	if key == "postgres.password" && !e.d.given(key) {
		key = "postgres.url"
	}
	p, given := e.d.places[key]
	switch {
	case !given && fromEnv[key] != "":
		return fromEnv[key]
	case !given:
		return "default"
	case p.flag != "":
		return p.flag
	case strings.Contains(p.text, "${"):
		// The names alone: what stands around them may be a secret.
		return fmt.Sprintf("line %d, %s", p.line, strings.Join(variableStart.FindAllString(p.text, -1), "} ")+"}")
	default:
		return fmt.Sprintf("line %d", p.line)
	}
}

func scalarNode(tag, text string) *yaml.Node {
	return &yaml.Node{Kind: yaml.ScalarNode, Tag: tag, Value: text}
}

// textNode is a text as the file would have it: a dollar sign stands there twice.
func textNode(text string) *yaml.Node {
	return scalarNode("!!str", strings.ReplaceAll(text, "$", "$$"))
}

func listNode(items []string) *yaml.Node {
	if len(items) == 0 {
		return nil
	}
	n := &yaml.Node{Kind: yaml.SequenceNode}
	for _, item := range items {
		n.Content = append(n.Content, textNode(item))
	}
	return n
}

func mapNode(items map[string]string) *yaml.Node {
	if len(items) == 0 {
		return nil
	}
	n := &yaml.Node{Kind: yaml.MappingNode}
	for _, name := range slices.Sorted(maps.Keys(items)) {
		n.Content = append(n.Content, scalarNode("!!str", name), textNode(items[name]))
	}
	return n
}

func tablesNode(tables tableList) *yaml.Node {
	if tables.all {
		return textNode("all")
	}
	n := &yaml.Node{Kind: yaml.SequenceNode}
	for _, entry := range tables.entries {
		if entry.Key == nil && entry.Columns == nil && entry.Where == "" {
			n.Content = append(n.Content, textNode(entry.Table))
			continue
		}
		item := &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{scalarNode("!!str", "table"), textNode(entry.Table)}}
		for _, names := range []struct {
			key  string
			list []string
		}{{"key", entry.Key}, {"columns", entry.Columns}} {
			if list := listNode(names.list); list != nil {
				item.Content = append(item.Content, scalarNode("!!str", names.key), list)
			}
		}
		if entry.Where != "" {
			item.Content = append(item.Content, scalarNode("!!str", "where"), textNode(entry.Where))
		}
		n.Content = append(n.Content, item)
	}
	return n
}

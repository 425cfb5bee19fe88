package replication

import "strings"

// captures tells whether the changes of a table are asked for.
func (c Config) captures(schema, name string) bool {
	if c.AllTables {
		return true
	}
	for _, t := range c.Tables {
		if t.matches(schema, name) {
			return true
		}
	}
	return false
}

// matches tells whether the entry names the table.
func (t TableSpec) matches(schema, name string) bool {
	if t.Schema != schema {
		return false
	}
	if !t.Pattern {
		return t.Name == name
	}
	return matchStars(t.Name, name)
}

// matchStars tells whether name fits pattern, in which each * stands for any run of characters and
// nothing else is special.
func matchStars(pattern, name string) bool {
	parts := strings.Split(pattern, "*")
	if len(parts) == 1 {
		return pattern == name
	}
	first, last := parts[0], parts[len(parts)-1]
	if len(name) < len(first)+len(last) || !strings.HasPrefix(name, first) || !strings.HasSuffix(name, last) {
		return false
	}
	name = name[len(first) : len(name)-len(last)]
	for _, part := range parts[1 : len(parts)-1] {
		at := strings.Index(name, part)
		if at < 0 {
			return false
		}
		name = name[at+len(part):]
	}
	return true
}

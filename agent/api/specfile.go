package api

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

	"gopkg.in/yaml.v3"

	"orch/fsm"
)

// MaxSpecFile is the longest spec file read, in bytes: a spec must fit into one
// command of 64 KiB, and a file may hold several.
const MaxSpecFile = 1 << 20

// SpecFault is one thing wrong with a spec file.
type SpecFault struct {
	File string
	Line int // from 1; 0 where it is the whole document
	Text string
}

func (f SpecFault) String() string {
	if f.Line == 0 {
		return f.File + ": " + f.Text
	}
	return fmt.Sprintf("%s:%d: %s", f.File, f.Line, f.Text)
}

// SpecFileError is everything that is wrong with a file, one line a fault.
type SpecFileError []SpecFault

func (e SpecFileError) Error() string {
	lines := make([]string, len(e))
	for i, f := range e {
		lines[i] = f.String()
	}
	return strings.Join(lines, "\n")
}

// ParseSpecs reads the services of a YAML file, several documents allowed, with
// defaults filled in. Unknown keys and wrong values are a SpecFileError that names
// file, line, key and what would be right.
func ParseSpecs(file string, content []byte) ([]fsm.Spec, error) {
	if len(content) > MaxSpecFile {
		return nil, SpecFileError{{file, 0, fmt.Sprintf("is %d bytes long; at most %d are read: split it", len(content), MaxSpecFile)}}
	}
	var specs []fsm.Spec
	var faults SpecFileError
	names := map[string]bool{}
	for d := yaml.NewDecoder(bytes.NewReader(content)); ; {
		var doc yaml.Node
		err := d.Decode(&doc)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, append(faults, yamlFaults(file, err)...)
		}
		spec, wrong := parseSpec(file, &doc)
		if len(wrong) == 0 && names[spec.Name] {
			wrong = SpecFileError{{file, doc.Line, fmt.Sprintf("name: %q stands twice in this file; give each service a name of its own", spec.Name)}}
		}
		names[spec.Name] = true
		specs, faults = append(specs, spec), append(faults, wrong...)
	}
	if len(faults) > 0 {
		return nil, faults
	}
	if len(specs) == 0 {
		return nil, SpecFileError{{file, 0, "holds no service; begin with name: and image:"}}
	}
	return specs, nil
}

func parseSpec(file string, doc *yaml.Node) (fsm.Spec, SpecFileError) {
	var spec fsm.Spec
	lines := map[string]int{}
	faults := walk(file, doc, reflect.TypeOf(spec), "", lines)
	if len(faults) > 0 {
		return spec, faults
	}
	if err := doc.Decode(&spec); err != nil {
		return spec, yamlFaults(file, err)
	}
	spec = spec.WithDefaults()
	var wrong fsm.SpecError
	if errors.As(spec.Validate(), &wrong) {
		for _, f := range wrong {
			faults = append(faults, SpecFault{file, lineOf(lines, f.Key), f.String()})
		}
	}
	return spec, faults
}

// lineOf is the line of a key, or of the nearest one above it that is written.
func lineOf(lines map[string]int, key string) int {
	for key != "" {
		if n, ok := lines[key]; ok {
			return n
		}
		key = key[:max(0, strings.LastIndexAny(key, ".["))]
	}
	return 0
}

// walk notes the line of each key and refuses those that a spec does not have.
func walk(file string, n *yaml.Node, t reflect.Type, path string, lines map[string]int) (faults SpecFileError) {
	switch {
	case n.Kind == yaml.DocumentNode && len(n.Content) == 1:
		return walk(file, n.Content[0], t, path, lines)
	case n.Kind == yaml.AliasNode:
		return SpecFileError{{file, n.Line, "aliases are not read here; write the value out"}}
	case t.Kind() == reflect.Slice && n.Kind == yaml.SequenceNode:
		for i, item := range n.Content {
			at := path + "[" + strconv.Itoa(i) + "]"
			lines[at] = item.Line
			faults = append(faults, walk(file, item, t.Elem(), at, lines)...)
		}
	case t.Kind() == reflect.Struct && n.Kind == yaml.MappingNode:
		keys := keysOf(t)
		for i := 0; i+1 < len(n.Content); i += 2 {
			k, v := n.Content[i], n.Content[i+1]
			field, ok := keys[k.Value]
			at := strings.TrimPrefix(path+"."+k.Value, ".")
			if !ok {
				faults = append(faults, SpecFault{file, k.Line, fmt.Sprintf("%s: unknown key; %s", at, nearest(k.Value, keys))})
				continue
			}
			lines[at] = k.Line
			faults = append(faults, walk(file, v, field, at, lines)...)
		}
	case t.Kind() == reflect.Struct && n.Kind != yaml.MappingNode && n.Tag != "!!null":
		where := path
		if where == "" {
			where = "the spec"
		}
		return SpecFileError{{file, n.Line, where + ": wants keys and values, one a line, below it"}}
	}
	return faults
}

func keysOf(t reflect.Type) map[string]reflect.Type {
	keys := map[string]reflect.Type{}
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("yaml"), ",")
		keys[name] = t.Field(i).Type
	}
	return keys
}

var yamlLine = regexp.MustCompile(`^(?:yaml: )?line (\d+): (.*)$`)

// yamlFaults takes the lines out of the parser's own words.
func yamlFaults(file string, err error) SpecFileError {
	texts := []string{err.Error()}
	var te *yaml.TypeError
	if errors.As(err, &te) {
		texts = te.Errors
	}
	var faults SpecFileError
	for _, text := range texts {
		f := SpecFault{File: file, Text: text}
		if m := yamlLine.FindStringSubmatch(text); m != nil {
			f.Line, _ = strconv.Atoi(m[1])
			f.Text = m[2]
		}
		f.Text = strings.NewReplacer("!!str ", "", "!!int ", "", "!!map", "keys and values", "!!seq", "a list").Replace(f.Text)
		faults = append(faults, f)
	}
	return faults
}

// nearest names the key that was probably meant, or all of them.
func nearest(key string, keys map[string]reflect.Type) string {
	best, least := "", 3
	var all []string
	for k := range keys {
		all = append(all, k)
		if d := distance(key, k); d < least || d == least && best != "" && k < best {
			best, least = k, d
		}
	}
	if best != "" {
		return fmt.Sprintf("did you mean %q?", best)
	}
	slices.Sort(all)
	return "known are " + strings.Join(all, ", ")
}

// distance is Levenshtein's, over bytes; both are short.
func distance(a, b string) int {
	if len(a) > 64 {
		return len(a)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		last := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := last
			if a[i] != b[j] {
				cost++
			}
			last = row[j+1]
			row[j+1] = min(cost, last+1, row[j]+1)
		}
	}
	return row[len(b)]
}

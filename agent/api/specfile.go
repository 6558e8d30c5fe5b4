package api

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
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
	Line int // from 1; 0 where it is the whole file
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
// defaults filled in. Unknown keys and wrong values are a SpecFileError: every fault
// at once, each with file, line, key and what would be right.
func ParseSpecs(file string, content []byte) ([]fsm.Spec, error) {
	if len(content) > MaxSpecFile {
		return nil, SpecFileError{{file, 0, fmt.Sprintf("is %d bytes long; at most %d are read: split it", len(content), MaxSpecFile)}}
	}
	var specs []fsm.Spec
	var faults SpecFileError
	names := map[string]int{} // and the line of each
	for d := yaml.NewDecoder(bytes.NewReader(content)); ; {
		var doc yaml.Node
		err := d.Decode(&doc)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil { // what follows can not be told apart any more
			return nil, append(faults, syntaxFault(file, err))
		}
		if doc.Kind != yaml.DocumentNode || doc.Content[0].ShortTag() == "!!null" {
			continue // nothing between two ---
		}
		spec, wrong := parseSpec(file, doc.Content[0])
		if first, twice := names[spec.Name]; twice && spec.Name != "" {
			wrong = append(wrong, SpecFault{file, doc.Content[0].Line, fmt.Sprintf("name: %q stands twice in this file, first in the document of line %d; give each service a name of its own", spec.Name, first)})
		} else {
			names[spec.Name] = doc.Content[0].Line
		}
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

// parseSpec reads one document. What is wrong is taken out of it, so that the rest is
// checked too.
func parseSpec(file string, root *yaml.Node) (spec fsm.Spec, faults SpecFileError) {
	w := newSpecWalk(file)
	w.value(root, w.spec, "")
	if root.Kind != yaml.MappingNode {
		return spec, w.faults
	}
	if err := root.Decode(&spec); err != nil {
		return spec, append(w.faults, syntaxFault(file, err))
	}
	spec = spec.WithDefaults()
	var wrong fsm.SpecError
	if errors.As(spec.Validate(), &wrong) {
		for _, f := range wrong {
			if !w.blamed(f.Key) {
				w.faults = append(w.faults, SpecFault{file, w.lineOf(f.Key, root.Line), f.String()})
			}
		}
	}
	slices.SortStableFunc(w.faults, func(a, b SpecFault) int { return cmp.Compare(a.Line, b.Line) })
	return spec, w.faults
}

var yamlLine = regexp.MustCompile(`^(?:yaml: )?line (\d+): ((?s).*)$`)

// syntaxFault takes the line out of the parser's own words.
func syntaxFault(file string, err error) SpecFault {
	f := SpecFault{File: file, Text: err.Error()}
	if m := yamlLine.FindStringSubmatch(f.Text); m != nil {
		f.Line, _ = strconv.Atoi(m[1])
		f.Text = m[2]
	}
	f.Text = "this is no YAML: " + strings.TrimPrefix(f.Text, "yaml: ") +
		"; write `key: value` lines, indented with blanks and never with tabs, with every quote and bracket closed"
	return f
}

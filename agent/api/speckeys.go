package api

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"orch/fsm"
)

// specWalk goes over the nodes of a document beside the type that they are to become.
// It notes the line of each key and every fault, and takes what is at fault out of the
// document: unknown keys go, wrong values become null.
type specWalk struct {
	file   string
	spec   reflect.Value // a spec of nothing but defaults
	faults SpecFileError
	lines  map[string]int
	blame  map[string]bool // keys that have their fault already
}

func newSpecWalk(file string) *specWalk {
	return &specWalk{
		file: file, spec: reflect.ValueOf(fsm.Spec{}.WithDefaults()),
		lines: map[string]int{}, blame: map[string]bool{},
	}
}

// blamed says whether key, or what it stands below, has a fault already.
func (w *specWalk) blamed(key string) bool {
	for ; key != ""; key = above(key) {
		if w.blame[key] {
			return true
		}
	}
	return false
}

// lineOf is the line of a key, or of the nearest one above it that is written.
func (w *specWalk) lineOf(key string, otherwise int) int {
	for ; key != ""; key = above(key) {
		if n, ok := w.lines[key]; ok {
			return n
		}
	}
	return otherwise
}

// above is the key that a key stands below: scale of scale.min, volumes of volumes[1].
func above(key string) string { return key[:max(0, strings.LastIndexAny(key, ".["))] }

// wrong notes a fault of the value n, which becomes null.
func (w *specWalk) wrong(n *yaml.Node, path, value, want string) {
	text := fmt.Sprintf("%s: %s is wrong; %s", path, value, want)
	if path == "" {
		text = value + " is no spec; " + want
	}
	w.faults = append(w.faults, SpecFault{w.file, n.Line, text})
	w.blame[path] = true
	if path != "" {
		*n = yaml.Node{Kind: yaml.ScalarNode, Tag: "!!null", Value: "null", Line: n.Line}
	}
}

// value checks what stands at path against the type and the default that it has there.
func (w *specWalk) value(n *yaml.Node, def reflect.Value, path string) {
	switch {
	case n.Kind == yaml.AliasNode:
		w.wrong(n, path, shown(n), "aliases are not read here: write the value out")
	case n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null": // as good as left out
	case def.Kind() == reflect.Struct && n.Kind != yaml.MappingNode:
		w.wrong(n, path, shown(n), "keys and values, one a line: "+strings.Join(slices.Sorted(maps.Keys(keysOf(def.Type()))), ", "))
	case def.Kind() == reflect.Struct:
		w.keys(n, def, path)
	case def.Kind() == reflect.Map && n.Kind != yaml.MappingNode:
		w.wrong(n, path, shown(n), "keys and values, for example {KEY: value}")
	case def.Kind() == reflect.Map:
		w.entries(n, def.Type().Elem(), path)
	case def.Kind() == reflect.Slice && n.Kind != yaml.SequenceNode:
		w.wrong(n, path, shown(n), "a list, for example [first, second], or a line that begins with - for each")
	case def.Kind() == reflect.Slice && len(n.Content) == 0 && def.Len() > 0:
		w.wrong(n, path, "[]", fmt.Sprintf("an empty list stands for the default, %v: leave the key out, or name at least one", def))
	case def.Kind() == reflect.Slice:
		for i, item := range n.Content {
			at := path + "[" + strconv.Itoa(i) + "]"
			w.lines[at] = item.Line
			w.value(item, reflect.Zero(def.Type().Elem()), at)
		}
	default:
		w.scalar(n, def, path)
	}
}

// keys checks a mapping that becomes a struct.
func (w *specWalk) keys(n *yaml.Node, def reflect.Value, path string) {
	known := keysOf(def.Type())
	w.pairs(n, path, func(k, v *yaml.Node, at string) bool {
		field, ok := known[k.Value]
		if !ok {
			hint, meant := nearest(k.Value, known)
			w.faults = append(w.faults, SpecFault{w.file, k.Line, fmt.Sprintf("%s: unknown key; %s", at, hint)})
			if meant != "" {
				w.blame[join(path, meant)] = true // it is not missing, it is misspelt
			}
			return false
		}
		w.value(v, def.Field(field), at)
		return true
	})
}

// entries checks a mapping whose keys are free.
func (w *specWalk) entries(n *yaml.Node, elem reflect.Type, path string) {
	w.pairs(n, path, func(_, v *yaml.Node, at string) bool {
		w.value(v, reflect.Zero(elem), at)
		return true
	})
}

// pairs calls keep for each key of a mapping, once, and lets go of those that it does
// not keep.
func (w *specWalk) pairs(n *yaml.Node, path string, keep func(k, v *yaml.Node, at string) bool) {
	var kept []*yaml.Node
	for i := 0; i+1 < len(n.Content); i += 2 {
		k, v := n.Content[i], n.Content[i+1]
		at := join(path, word(k))
		first, twice := w.lines[at]
		switch {
		case k.Kind != yaml.ScalarNode || k.ShortTag() == "!!merge":
			w.faults = append(w.faults, SpecFault{w.file, k.Line, at + ": is no plain word; aliases and merges are not read here: write keys and values out"})
			continue
		case twice:
			w.faults = append(w.faults, SpecFault{w.file, k.Line, fmt.Sprintf("%s: stands here and in line %d; keep one of them", at, first)})
			continue
		}
		w.lines[at] = k.Line
		if keep(k, v, at) {
			kept = append(kept, k, v)
		}
	}
	n.Content = kept
}

func join(path, key string) string { return strings.TrimPrefix(path+"."+key, ".") }

// word is a key as a fault names it.
func word(k *yaml.Node) string {
	plain := func(r rune) bool { return r > ' ' && r <= '~' }
	if k.Kind == yaml.ScalarNode && len(k.Value) <= maxShown && strings.IndexFunc(k.Value, func(r rune) bool { return !plain(r) }) < 0 {
		return k.Value
	}
	return shown(k)
}

// scalar checks a value that is neither a list nor keys and values. A zero that is
// written out where the default is another value would be taken for "not written".
func (w *specWalk) scalar(n *yaml.Node, def reflect.Value, path string) {
	into := reflect.New(def.Type())
	want, ok := wanted(def, n)
	if !ok || n.Decode(into.Interface()) != nil {
		w.wrong(n, path, shown(n), want)
		return
	}
	if into.Elem().IsZero() && !def.IsZero() && def.Kind() != reflect.Bool {
		w.wrong(n, path, shown(n), fmt.Sprintf("it stands for the default, %s: leave the key out, or write another value", text(def)))
	}
}

// wanted says in words what a scalar of that type looks like, and whether n may be one.
func wanted(def reflect.Value, n *yaml.Node) (string, bool) {
	tag := n.ShortTag()
	isScalar := n.Kind == yaml.ScalarNode
	switch {
	case def.Type() == reflect.TypeFor[fsm.Duration]():
		return "a duration such as 2m, 30s or 750ms", isScalar
	case def.Kind() == reflect.Int || def.Kind() == reflect.Int64:
		return "a whole number", isScalar && tag == "!!int"
	case def.Kind() == reflect.Float64:
		return "a number", isScalar && (tag == "!!int" || tag == "!!float")
	case def.Kind() == reflect.Bool:
		return "true or false", isScalar
	}
	return "a text", isScalar
}

// text is a default as it would be written.
func text(v reflect.Value) string {
	if b, ok := v.Interface().(interface{ MarshalText() ([]byte, error) }); ok {
		if t, err := b.MarshalText(); err == nil {
			return string(t)
		}
	}
	return fmt.Sprint(v)
}

// maxShown is the longest value repeated in a fault, in bytes: half a line.
const maxShown = 40

// shown is a value as a fault repeats it.
func shown(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a block of keys and values"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.Kind == yaml.AliasNode:
		return "*" + n.Value
	case len(n.Value) > maxShown:
		return strconv.Quote(strings.ToValidUTF8(n.Value[:maxShown], "") + "…")
	case n.ShortTag() == "!!int" || n.ShortTag() == "!!float" || n.ShortTag() == "!!bool":
		return n.Value
	}
	return strconv.Quote(n.Value)
}

// keysOf gives each key of a struct and its field.
func keysOf(t reflect.Type) map[string]int {
	keys := map[string]int{}
	for i := range t.NumField() {
		name, _, _ := strings.Cut(t.Field(i).Tag.Get("yaml"), ",")
		keys[name] = i
	}
	return keys
}

package worker

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strconv"

	"orch/fsm"
)

// Labels of every container of a cluster. Cluster and node together say who owns
// it; the rest says which version of which row it is.
const (
	LabelCluster    = "orch.cluster"
	LabelNode       = "orch.node"
	LabelService    = "orch.service"
	LabelNumber     = "orch.number"
	LabelGeneration = "orch.generation"
	LabelCreated    = "orch.created" // index that placed the row: tells rows of one number apart
)

// suffixLen is the length of a name's cluster suffix, in hexadecimal digits: two
// clusters on one engine collide once in 16 million.
const suffixLen = 6

// key names a row.
type key struct {
	service string
	number  int
}

func (k key) String() string { return fmt.Sprintf("%s/%d", k.service, k.number) }

func compareKeys(a, b key) int {
	return cmp.Or(cmp.Compare(a.service, b.service), cmp.Compare(a.number, b.number))
}

// Name is the name of a row's container: service, number, generation and a short
// mark of the cluster. The same row always gives the same name.
func Name(clusterID string, row fsm.Container) string {
	sum := sha256.Sum256([]byte(clusterID))
	return fmt.Sprintf("%s-%d-%d-%s", row.Service, row.Number, row.Generation, hex.EncodeToString(sum[:])[:suffixLen])
}

// labels are the two that make a container this node's.
func (w *Worker) labels() map[string]string {
	return map[string]string{LabelCluster: w.cfg.ClusterID(), LabelNode: w.cfg.Node}
}

func (w *Worker) rowLabels(row fsm.Container) map[string]string {
	l := w.labels()
	l[LabelService] = row.Service
	l[LabelNumber] = strconv.Itoa(row.Number)
	l[LabelGeneration] = strconv.FormatUint(row.Generation, 10)
	l[LabelCreated] = strconv.FormatUint(row.Created, 10)
	return l
}

// keyOf reads a container's key. Labels that make no key give one that no row
// has, so that the container is an orphan by itself.
func keyOf(c Container) key {
	n, err := strconv.Atoi(c.Labels[LabelNumber])
	if err != nil || n < 1 || c.Labels[LabelService] == "" {
		return key{service: "unlabelled " + c.ID}
	}
	return key{c.Labels[LabelService], n}
}

// versionOf reads which version of its row a container is; 0 is none.
func versionOf(c Container) version {
	generation, _ := strconv.ParseUint(c.Labels[LabelGeneration], 10, 64)
	created, _ := strconv.ParseUint(c.Labels[LabelCreated], 10, 64)
	return version{created, generation}
}

// version tells the containers of one number apart: the row's Created index and
// its generation.
type version struct{ created, generation uint64 }

func versionOfRow(r *fsm.Container) version {
	if r == nil {
		return version{}
	}
	return version{r.Created, r.Generation}
}

// byKey groups containers by their key.
func byKey(list []Container) map[key][]Container {
	m := map[key][]Container{}
	for _, c := range list {
		m[keyOf(c)] = append(m[keyOf(c)], c)
	}
	return m
}

func sortedKeys[A, B any](a map[key]A, b map[key]B) []key {
	var keys []key
	for k := range a {
		keys = append(keys, k)
	}
	for k := range b {
		if _, twice := a[k]; !twice {
			keys = append(keys, k)
		}
	}
	slices.SortFunc(keys, compareKeys)
	return keys
}

package acts

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// asked is a store that notes how many long texts are asked for at once, and removes the
// act of id gone before it says.
type asked struct {
	store
	gone int64
	at   []int
}

func (a *asked) texts(ctx context.Context, photos []string, visit func(photo, username, caption string) error) error {
	a.at = append(a.at, len(photos))
	if a.gone >= 0 {
		if _, err := a.removeAct(ctx, a.gone); err != nil {
			return err
		}
		a.gone = -1
	}
	return a.store.texts(ctx, photos, visit)
}

// TestLongTextsAreReadTogether: a page of them costs one question to the database, or one
// for each MiB. An act that is removed meanwhile is left out, and the page is not kept.
func TestLongTextsAreReadTogether(t *testing.T) {
	for name, c := range map[string]struct {
		acts, bytes int
		at          []int
	}{
		"small ones":  {100, longText + 1, []int{100}},
		"larger ones": {7, together / 3, []int{2, 2, 2, 1}}, // with a name each is a little more than a third
		"whole ones":  {3, 2 * together, []int{1, 1, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			s := opened(t, Config{Data: t.TempDir()})
			url := serving(t, s).URL
			settled(t, url)
			want := map[int]string{}
			for id := range c.acts {
				want[id] = strings.Repeat(fmt.Sprintf("%03d ", id), c.bytes/4+1)
				if status, answer, _ := ask(t, url, "POST", "/api/v1/acts", anAct(id, map[string]any{"caption": want[id]})); status != 201 {
					t.Fatalf("%d %s", status, answer)
				}
			}
			db := &asked{store: s.store, gone: -1}
			s.store = db
			list := func(query string) {
				t.Helper()
				_, answer, _ := ask(t, url, "GET", "/api/v1/categories/green/acts"+query, "")
				var list []struct {
					ActID   int    `json:"actId"`
					Caption string `json:"caption"`
				}
				if err := json.Unmarshal([]byte(answer), &list); err != nil || len(list) != len(want) {
					t.Fatalf("%d acts of %d, %v: %.200s", len(list), len(want), err, answer)
				}
				for _, a := range list {
					if a.Caption != want[a.ActID] {
						t.Errorf("act %d: %.40q, %d bytes", a.ActID, a.Caption, len(a.Caption))
					}
				}
			}
			list("")
			if !slices.Equal(db.at, c.at) {
				t.Errorf("asked for %v, want %v", db.at, c.at)
			}
			db.gone = int64(c.acts - 1) // the newest is in the first question
			delete(want, c.acts-1)
			list("?images=0")
			list("?images=0")
			if want := 3 * len(c.at); len(db.at) > want {
				t.Errorf("asked %d times, at most %d", len(db.at), want)
			}
		})
	}
}

// TestListsOnDiskHaveALimit: a list that waits on disk for its client counts there, until
// it has been read. One that is small waits in memory.
func TestListsOnDiskHaveALimit(t *testing.T) {
	s := opened(t, Config{Data: t.TempDir()})
	url := serving(t, s).URL
	settled(t, url)
	if status, answer, _ := ask(t, url, "POST", "/api/v1/acts", anAct(1, map[string]any{"caption": strings.Repeat("x", together)})); status != 201 {
		t.Fatalf("%d %s", status, answer)
	}
	long := strings.Repeat("y", spoolInMemory)
	const users, categories, acts = "/api/v1/users", "/api/v1/categories", "/api/v1/categories/green/acts"
	gets := func(path string, want int) {
		t.Helper()
		if status, answer, _ := ask(t, url, "GET", path, ""); status != want || want == 503 && !strings.Contains(answer, "read slowly") {
			t.Errorf("GET %s: %d %.200q, want %d", path, status, answer, want)
		}
	}
	takeAll(t, "room on disk", s.aside, maxAside)
	takeAll(t, "room on disk for lists", s.lists, maxLists)
	gets(users, 200)
	gets(categories, 200)
	gets(acts, 503)
	for path, body := range map[string]string{users: fmt.Sprintf(`{"username":%q,"password":%q}`, long, hash), categories: fmt.Sprintf("[%q]", long)} {
		if status, answer, _ := ask(t, url, "POST", path, body); status != 201 {
			t.Fatalf("POST %s: %d %s", path, status, answer)
		}
		gets(path, 503)
	}
	s.aside.Release(maxAside)
	gets(users, 503)
	s.lists.Release(maxLists)
	for _, path := range []string{users, categories, acts} {
		gets(path, 200)
	}
	takeAll(t, "what the page took", s.aside, maxAside)
	takeAll(t, "what the lists took", s.lists, maxLists)
}

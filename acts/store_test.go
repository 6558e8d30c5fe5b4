package acts

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"orch/acts/contract"
)

// contractOver holds processes to the contract, request by request in turn.
func contractOver(t *testing.T, configs ...Config) {
	t.Helper()
	var processes []http.Handler
	for _, c := range configs {
		c.Photos = cmp.Or(c.Photos, "file://"+configs[0].Data+"/shared") // of one cluster
		processes = append(processes, opened(t, c))
	}
	var turn atomic.Uint64
	front := serving(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		processes[turn.Add(1)%uint64(len(processes))].ServeHTTP(w, r)
	}))
	contract.Run(t, front.URL, contract.Options{Internals: true})
}

// longNames of 100 KB that do not compress are taken or refused, never a fault of ours;
// names with a NUL are refused, and those beyond the basic plane are kept.
func longNames(t *testing.T, c Config, status int) {
	url := serving(t, opened(t, c)).URL
	long := fmt.Sprintf("%x", noise(1, 50<<10))
	for _, x := range []struct {
		name   string
		status int
	}{{long, status}, {"a\x00b", 400}, {"\U0001F333 \U00020BB7", 201}} {
		for path, body := range map[string]any{"/api/v1/users": map[string]string{"username": x.name, "password": hash}, "/api/v1/categories": []string{x.name}} {
			b, err := json.Marshal(body)
			if err != nil {
				t.Fatal(err)
			}
			got, answer, _ := ask(t, url, "POST", path, string(b))
			if got != x.status {
				t.Errorf("%s with %.10q: %d %.200s, want %d", path, x.name, got, answer, x.status)
			}
			if _, all, _ := ask(t, url, "GET", path, ""); got == 201 && !strings.Contains(all, x.name) {
				t.Errorf("%s: %.10q is not listed", path, x.name)
			}
		}
	}
}

// strangePaths name nothing that there can be: that is no fault of ours.
func strangePaths(t *testing.T, c Config) {
	url := serving(t, opened(t, c)).URL
	for _, x := range []struct{ method, path, field string }{
		{"DELETE", "/api/v1/users/%FF", "username"}, {"DELETE", "/api/v1/users/%00", "username"}, {"DELETE", "/api/v1/users/a%00b", "username"},
		{"DELETE", "/api/v1/categories/%00", "category"}, {"DELETE", "/api/v1/categories/%ED%A0%80", "category"}, {"GET", "/api/v1/categories/%FF/acts", "category"},
		{"GET", "/api/v1/categories/%00/acts?start=1&end=1", "category"}, {"GET", "/api/v1/categories/%C3/acts/size", "category"}, {"DELETE", "/api/v1/acts/%00", "actId"}, {"GET", "/api/v1/acts/1%FF/image", "actId"},
	} {
		if status, answer, _ := ask(t, url, x.method, x.path, ""); status != 400 || !strings.Contains(answer, x.field) {
			t.Errorf("%s %s: %d %s", x.method, x.path, status, answer)
		}
	}
	if status, _, _ := ask(t, url, "PUT", "/api/v1/users/%00", ""); status != 405 {
		t.Errorf("a method before the path's name: %d", status)
	}
}

func TestSQLite(t *testing.T) {
	t.Run("strange paths", func(t *testing.T) { strangePaths(t, Config{Data: t.TempDir()}) })
	t.Run("long names", func(t *testing.T) { longNames(t, Config{Data: t.TempDir()}, 201) })
	t.Run("store", func(t *testing.T) {
		storeContract(t, func(t *testing.T) store {
			s, err := openSQLite(t.Context(), t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			return s
		})
	})
	t.Run("plan", func(t *testing.T) {
		s, err := openSQLite(t.Context(), t.TempDir())
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		rows, err := s.db.QueryContext(t.Context(), "EXPLAIN QUERY PLAN "+newestActs, "big", 20, 0, longText)
		if err != nil {
			t.Fatal(err)
		}
		defer rows.Close()
		var plan []string
		for rows.Next() {
			var a, b, c int
			var line string
			if err := rows.Scan(&a, &b, &c, &line); err != nil {
				t.Fatal(err)
			}
			plan = append(plan, line)
		}
		t.Log(plan)
		if len(plan) != 1 || !strings.Contains(plan[0], "USING INDEX acts_newest") {
			t.Errorf("the first page is not read from the index: %v", plan)
		}
	})
}

// storeContract is what both databases promise.
func storeContract(t *testing.T, open func(t *testing.T) store) {
	for name, run := range map[string]func(t *testing.T, s store){
		"users": storeUsers, "acts": storeActs, "categories": storeCategories, "at once": storeAtOnce, "adding to what goes": storeRace, "versions": storeVersions, "one number": storeSameAct,
	} {
		t.Run(name, func(t *testing.T) {
			s := open(t)
			defer func() {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}()
			if err := s.ping(t.Context()); err != nil {
				t.Fatal(err)
			}
			run(t, s)
		})
	}
}

// is fails where an error is not the one that is wanted.
func is(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) || want == nil && err != nil {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}

func storeUsers(t *testing.T, s store) {
	ctx := t.Context()
	for _, name := range []string{"b", "a", "B", "ü", "a' OR 1=1 --"} {
		is(t, "add "+name, s.addUser(ctx, name, hash), nil)
	}
	is(t, "twice", s.addUser(ctx, "a", hash), errExists)
	is(t, "remove", s.removeUser(ctx, "a"), nil)
	is(t, "remove twice", s.removeUser(ctx, "a"), errUnknown)
	var names []string
	err := s.users(ctx, func(name string) error { names = append(names, name); return nil })
	if want := []string{"B", "a' OR 1=1 --", "b", "ü"}; err != nil || !slices.Equal(names, want) {
		t.Errorf("users %q, %v; want them by their bytes, %q", names, err, want)
	}
}

func oneAct(id int64, category string, at int64) act {
	return act{ID: id, Username: "ann", Timestamp: "28-02-2019:05-04-03", Caption: "helped ☺", Category: category, At: time.Unix(at, 0), Photo: photo{Key: fmt.Sprintf("aa/%d", id), Type: "image/png", Size: 7}}
}

func add(t *testing.T, s store, a act, field string, want error) {
	t.Helper()
	got, err := s.addAct(t.Context(), a, false)
	is(t, fmt.Sprintf("add act %d", a.ID), err, want)
	if got != field {
		t.Errorf("add act %d: field %q, want %q", a.ID, got, field)
	}
}

func storeActs(t *testing.T, s store) {
	ctx := t.Context()
	is(t, "user", s.addUser(ctx, "ann", hash), nil)
	is(t, "category", s.addCategory(ctx, "green"), nil)
	add(t, s, oneAct(1, "green", 100), "", nil)
	add(t, s, oneAct(1, "green", 100), "actId", errExists)
	add(t, s, oneAct(2, "none", 100), "categoryName", errUnknown)
	stranger := oneAct(2, "green", 100)
	stranger.Username = "bob"
	add(t, s, stranger, "username", errUnknown)
	if field, err := s.addAct(ctx, stranger, true); err != nil || field != "" { // known elsewhere
		t.Errorf("%q, %v", field, err)
	}
	add(t, s, oneAct(1<<62, "green", 300), "", nil)
	add(t, s, oneAct(4, "green", 100), "", nil)
	list, err := s.newest(ctx, "green", 0, 10)
	var ids []int64
	for _, a := range list {
		ids = append(ids, a.ID)
	}
	if want := []int64{1 << 62, 4, 2, 1}; err != nil || !slices.Equal(ids, want) {
		t.Errorf("newest first: %v, %v; want %v", ids, err, want)
	}
	if a := list[0]; a.Caption != "helped ☺" || a.Photo != (photo{fmt.Sprintf("aa/%d", a.ID), "image/png", 7}) || a.Upvotes != 0 || a.Category != "green" {
		t.Errorf("%+v", a)
	}
	if list, err := s.newest(ctx, "green", 1, 2); err != nil || len(list) != 2 || list[0].ID != 4 {
		t.Errorf("a part: %+v, %v", list, err)
	}
	is(t, "vote", s.upvote(ctx, 4), nil)
	is(t, "vote for none", s.upvote(ctx, 5), errUnknown)
	if n, _, err := s.size(ctx, "green"); n != 4 || err != nil {
		t.Errorf("size %d, %v", n, err)
	}
	_, _, err = s.size(ctx, "none")
	is(t, "size of none", err, errUnknown)
	if key, err := s.removeAct(ctx, 4); key != "aa/4" || err != nil {
		t.Errorf("removed %q, %v", key, err)
	}
	_, err = s.removeAct(ctx, 4)
	is(t, "remove twice", err, errUnknown)
	_, err = s.photo(ctx, 4)
	is(t, "photo of none", err, errUnknown)
	have, err := s.referenced(ctx, []string{"aa/1", "aa/4", "aa/9"})
	if err != nil || len(have) != 1 || !have["aa/1"] {
		t.Errorf("referenced %v, %v", have, err)
	}
	if n, err := s.count(ctx); n != 3 || err != nil {
		t.Errorf("count %d, %v", n, err)
	}
}

func storeCategories(t *testing.T, s store) {
	ctx := t.Context()
	is(t, "user", s.addUser(ctx, "ann", hash), nil)
	for _, name := range []string{"green", "Green"} {
		is(t, "add", s.addCategory(ctx, name), nil)
	}
	is(t, "twice", s.addCategory(ctx, "green"), errExists)
	add(t, s, oneAct(1, "green", 1), "", nil)
	add(t, s, oneAct(2, "green", 1), "", nil)
	add(t, s, oneAct(3, "Green", 1), "", nil)
	all := map[string]int64{}
	err := s.categories(ctx, func(name string, acts int64) error { all[name] = acts; return nil })
	if err != nil || len(all) != 2 || all["green"] != 2 || all["Green"] != 1 {
		t.Errorf("categories %v, %v", all, err)
	}
	keys, err := s.removeCategory(ctx, "green", 10)
	slices.Sort(keys)
	if err != nil || !slices.Equal(keys, []string{"aa/1", "aa/2"}) {
		t.Errorf("photos %v, %v", keys, err)
	}
	_, err = s.removeCategory(ctx, "green", 10)
	is(t, "remove twice", err, errUnknown)
	if n, err := s.count(ctx); n != 1 || err != nil {
		t.Errorf("count %d, %v", n, err)
	}
	is(t, "its number is free", s.addCategory(ctx, "green"), nil)
	add(t, s, oneAct(1, "green", 1), "", nil)
}

// storeAtOnce: nothing is lost and nothing fails, whoever writes beside.
func storeAtOnce(t *testing.T, s store) {
	ctx := t.Context()
	is(t, "user", s.addUser(ctx, "ann", hash), nil)
	is(t, "category", s.addCategory(ctx, "green"), nil)
	add(t, s, oneAct(0, "green", 1), "", nil)
	const workers, each = 24, 8 // more than a process has connections
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for i := range each {
				id := int64(1 + w*each + i)
				if field, err := s.addAct(ctx, oneAct(id, "green", id), false); err != nil {
					t.Errorf("%q: %v", field, err)
				}
				if err := s.upvote(ctx, 0); err != nil {
					t.Error(err)
				}
				if i%2 == 0 {
					if _, err := s.removeAct(ctx, id); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	list, err := s.newest(ctx, "green", 0, 1000)
	n, _, serr := s.size(ctx, "green")
	if want := int64(workers*each/2 + 1); err != nil || serr != nil || int64(len(list)) != want || n != want || list[len(list)-1].Upvotes != workers*each {
		t.Errorf("%d acts, size %d, want %d; votes %d; %v, %v", len(list), n, want, list[len(list)-1].Upvotes, err, serr)
	}
}

// storeVersions: each change of what a list shows is seen, and nothing comes back.
func storeVersions(t *testing.T, s store) {
	ctx := t.Context()
	is(t, "user", s.addUser(ctx, "ann", hash), nil)
	seen := map[int64]string{}
	step := func(what string, err error) {
		t.Helper()
		is(t, what, err, nil)
		_, version, err := s.size(ctx, "green")
		is(t, "size", err, nil)
		if before, ok := seen[version]; ok {
			t.Errorf("%s: the version is that after %s", what, before)
		}
		seen[version] = what
	}
	step("add category", s.addCategory(ctx, "green"))
	_, err := s.addAct(ctx, oneAct(1, "green", 1), false)
	step("add act", err)
	step("vote", s.upvote(ctx, 1))
	_, err = s.removeAct(ctx, 1)
	step("remove act", err)
	_, err = s.removeCategory(ctx, "green", 10)
	is(t, "remove category", err, nil)
	step("add category again", s.addCategory(ctx, "green"))
}

// storeSameAct: one number is added, voted for and removed by all at once; nobody waits
// for ever, and the number of acts is right.
func storeSameAct(t *testing.T, s store) {
	ctx := t.Context()
	is(t, "user", s.addUser(ctx, "ann", hash), nil)
	for _, name := range []string{"green", "blue"} {
		is(t, "category", s.addCategory(ctx, name), nil)
	}
	var wg sync.WaitGroup
	for w := range 6 {
		wg.Go(func() {
			for i := range 30 {
				var err error
				switch (w + i) % 3 {
				case 0:
					a := oneAct(1, []string{"green", "blue"}[i%2], 1)
					a.Photo.Key = newKey()
					_, err = s.addAct(ctx, a, false)
				case 1:
					_, err = s.removeAct(ctx, 1)
				case 2:
					err = s.upvote(ctx, 1)
				}
				if err != nil && !errors.Is(err, errExists) && !errors.Is(err, errUnknown) {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	sum := 0
	for _, name := range []string{"green", "blue"} {
		n, _, err := s.size(ctx, name)
		list, lerr := s.newest(ctx, name, 0, 10)
		if err != nil || lerr != nil || int(n) != len(list) {
			t.Errorf("%s: size %d, %d acts, %v, %v", name, n, len(list), err, lerr)
		}
		sum += len(list)
	}
	if sum > 1 {
		t.Errorf("%d acts have one number", sum)
	}
}

// storeRace: acts are added to a category while it goes; each is in it, or refused.
func storeRace(t *testing.T, s store) {
	ctx := t.Context()
	is(t, "user", s.addUser(ctx, "ann", hash), nil)
	var wg sync.WaitGroup
	var id atomic.Int64
	for range 4 {
		wg.Go(func() {
			for range 40 {
				if field, err := s.addAct(ctx, oneAct(id.Add(1), "green", 1), false); err != nil && (field != "categoryName" || !errors.Is(err, errUnknown)) {
					t.Errorf("add: %q, %v", field, err)
				}
			}
		})
	}
	wg.Go(func() {
		for range 20 {
			if err := s.addCategory(ctx, "green"); err != nil {
				t.Error(err)
			}
			if _, err := s.removeCategory(ctx, "green", 10); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	if n, err := s.count(ctx); n != 0 || err != nil {
		t.Errorf("%d acts are in no category, %v", n, err)
	}
	is(t, "category", s.addCategory(ctx, "green"), nil)
	if n, _, err := s.size(ctx, "green"); n != 0 || err != nil {
		t.Errorf("a new category has %d acts, %v", n, err)
	}
}

package acts

import (
	"container/list"
	"sync"
)

// cache keeps the bytes that were used last, up to a number of bytes, those that keeping
// an entry takes included. What it hands out must not be changed.
type cache struct {
	mu    sync.Mutex
	size  int
	limit int
	order *list.List // of *entry, the newest in front
	items map[string]*list.Element
}

type entry struct {
	key  string
	body []byte
	err  error // why there is no body, and will be none
}

// entryCost is what an entry takes beside its key and its body, in bytes: the map's, the
// list's and its own.
const entryCost = 256

func (e *entry) cost() int { return entryCost + len(e.key) + len(e.body) }

func newCache(limit int) *cache {
	return &cache{limit: limit, order: list.New(), items: map[string]*list.Element{}}
}

func (c *cache) get(key string) (*entry, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.items[key]
	if !ok {
		return nil, false
	}
	c.order.MoveToFront(e)
	return e.Value.(*entry), true
}

func (c *cache) put(key string, body []byte, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := &entry{key, body, err}
	if _, ok := c.items[key]; ok || e.cost() > c.limit {
		return
	}
	c.items[key] = c.order.PushFront(e)
	for c.size += e.cost(); c.size > c.limit; {
		last := c.order.Remove(c.order.Back()).(*entry)
		delete(c.items, last.key)
		c.size -= last.cost()
	}
}

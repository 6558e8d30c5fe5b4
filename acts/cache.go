package acts

import (
	"container/list"
	"sync"
)

// cache keeps the bytes that were used last, up to a number of bytes. What it hands
// out must not be changed.
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
}

func newCache(limit int) *cache {
	return &cache{limit: limit, order: list.New(), items: map[string]*list.Element{}}
}

func (c *cache) get(key string) ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.items[key]
	if !ok {
		return nil, false
	}
	c.order.MoveToFront(e)
	return e.Value.(*entry).body, true
}

func (c *cache) put(key string, body []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.items[key]; ok || len(body) > c.limit {
		return
	}
	c.items[key] = c.order.PushFront(&entry{key, body})
	for c.size += len(body); c.size > c.limit; {
		last := c.order.Remove(c.order.Back()).(*entry)
		delete(c.items, last.key)
		c.size -= len(last.body)
	}
}

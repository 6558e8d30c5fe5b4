package acts

import (
	"context"
	"errors"
	"time"
)

// What a store refuses.
var (
	errExists  = errors.New("exists already")
	errUnknown = errors.New("unknown")
	errTooLong = errors.New("is too long for this database")
	// errOutcome: it may have been done, or be done yet.
	errOutcome = errors.New("outcome not known")
)

// act is one photo of a good deed, as the database has it.
type act struct {
	ID        int64
	Username  string
	Timestamp string
	Caption   string
	Category  string
	Upvotes   int64
	At        time.Time
	Photo     photo
	LongText  int64 // bytes of Username and Caption where they are longer than longText; else 0
}

// photo is where the bytes of a photo are, and what they are.
type photo struct {
	Key  string // of the blob; never used again for other bytes
	Type string // content type, by content
	Size int64  // bytes
}

// store is the database of the service. Every method may be called by any goroutine;
// several processes use one database at once, and what one has written the next reads.
type store interface {
	// ping reads and writes. A database that is merely busy is alive.
	ping(ctx context.Context) error
	// name is this database's, for ever: random, and safe as a folder's.
	name(ctx context.Context) (string, error)

	addUser(ctx context.Context, name, password string) error
	removeUser(ctx context.Context, name string) error
	// users visits their names by their bytes. It holds a connection and, of some
	// databases, one name at a time: visit must not wait for a client.
	users(ctx context.Context, visit func(name string) error) error

	addCategory(ctx context.Context, name string) error
	// removeCategory takes its acts along and returns the keys of their photos, limit
	// of them at most.
	removeCategory(ctx context.Context, name string, limit int) (photos []string, err error)
	// categories visits them by their bytes, as users does, with their number of acts.
	categories(ctx context.Context, visit func(name string, acts int64) error) error
	// size is the number of acts of a category, and a number that is another one after
	// each change of what newest says of it.
	size(ctx context.Context, category string) (n, version int64, err error)
	count(ctx context.Context) (int64, error)

	// newest returns limit acts of a category from the offset-th newest on. Those with
	// LongText come without Username and Caption, which texts has.
	newest(ctx context.Context, category string, offset, limit int64) ([]act, error)
	// texts of the acts with those photos, as far as they are there, in any order.
	texts(ctx context.Context, photos []string, visit func(photo, username, caption string) error) error
	// addAct says which field is refused with errUnknown or errExists. knownUser: the
	// user has been asked for elsewhere.
	addAct(ctx context.Context, a act, knownUser bool) (field string, err error)
	removeAct(ctx context.Context, id int64) (photo string, err error)
	upvote(ctx context.Context, id int64) error
	photo(ctx context.Context, id int64) (photo, error)
	// referenced returns those of the keys that an act has.
	referenced(ctx context.Context, keys []string) (map[string]bool, error)

	Close() error
}

// counter counts requests over all processes.
type counter interface {
	add()
	// read is exact: it includes every request that was answered before it was called.
	read(ctx context.Context) (uint64, error)
	reset(ctx context.Context) error
	Close() error
}

package proxy

// work is what a request in progress needs: buffers, and its parsed heads.
type work struct {
	in   []byte // from the client; [r:w] has not been taken
	r, w int
	scan int // where to look on for the end of a head
	out  []byte
	back []byte // from the row; [br:bw] has not been taken
	br   int
	bw   int
	resp []byte
	req  request
	ans  answer
	trip trip

	chunks, upload chunkReader
}

const (
	inSizeStart = 4 << 10 // bytes: most heads with room; it grows to maxHead
	firstSize   = 1 << 10 // bytes: most heads in one read
	backSize    = 16 << 10
	keptBuffer  = 32 << 10 // a buffer that grew beyond is not kept
)

func newWork(most *bounds) *work {
	w := &work{in: make([]byte, inSizeStart), out: make([]byte, 0, inSizeStart), back: make([]byte, backSize), resp: make([]byte, 0, backSize)}
	w.req.bounds = most
	return w
}

// borrow sees that there is a buffer with room in it.
func (c *client) borrow() {
	if c.w == nil {
		c.w = c.proxy.works.Get().(*work)
		c.resume()
	}
	w := c.w
	if w.w < len(w.in) {
		return
	}
	if w.r > 0 {
		w.w = copy(w.in, w.in[w.r:w.w])
		w.r = 0
		return
	}
	in := make([]byte, 2*len(w.in))
	copy(in, w.in)
	w.in = in
}

// resume goes on with the beginning of a head.
func (c *client) resume() {
	if len(c.begun) == 0 {
		return
	}
	w := c.w
	w.scan = c.scan
	if len(c.begun) < copyBegun {
		w.w = copy(w.in, c.begun)
	} else {
		c.small, w.in, w.w = w.in, c.begun[:cap(c.begun)], len(c.begun)
	}
	c.begun = nil
}

// copyBegun is from how many bytes on the beginning of a head keeps the buffer it came
// in: to copy it for each byte that comes would be a client's way to keep a core busy.
const copyBegun = inSizeStart / 2

// release gives the buffers back when nothing is in them but the beginning of a head,
// of which only the bytes are kept: who sends a head slowly costs what it has sent.
func (c *client) release() {
	w := c.w
	if w == nil {
		return
	}
	if w.r < w.w && !c.ended {
		if c.phase != phaseHead {
			return
		}
		c.setAside(w)
	}
	c.w = nil
	c.small = nil
	w.r, w.w, w.scan, w.br, w.bw = 0, 0, 0, 0, 0
	if len(w.in) > keptBuffer || cap(w.out) > keptBuffer || cap(w.resp) > keptBuffer || len(w.back) > keptBuffer {
		return
	}
	w.trip = trip{tried: w.trip.tried[:0]}
	c.proxy.works.Put(w)
}

// setAside keeps the beginning of a head.
func (c *client) setAside(w *work) {
	c.scan = w.scan
	if w.w-w.r < copyBegun {
		c.begun = append([]byte(nil), w.in[w.r:w.w]...)
		return
	}
	if w.r > 0 {
		w.w, w.r = copy(w.in, w.in[w.r:w.w]), 0
	}
	c.begun, w.in = w.in[:w.w], c.small
	if w.in == nil {
		w.in = make([]byte, inSizeStart)
	}
}

package proxy

import "bytes"

// chunkReader decodes a chunked body (RFC 9112, 7.1) from the bytes it is given, a
// piece at a time, and holds none of them.
type chunkReader struct {
	state    chunkState
	left     int64 // of the chunk
	spare    int64 // bytes that were no body, beyond what chunks need
	size     int   // bytes of the line so far
	trailing int   // bytes of the trailer section so far
	digits   int
	trailers []byte // lines that may be passed on, with their ends
}

func (c *chunkReader) done() bool { return c.state == chunksDone }

func (c *chunkReader) reset() { *c = chunkReader{trailers: c.trailers[:0]} }

type chunkState uint8

const (
	inSize chunkState = iota
	inExtension
	inQuoted
	inEscape
	sizeLF
	inData
	dataCR
	dataLF
	inTrailer
	chunksDone
)

// Limits of a chunked body.
const (
	maxChunkLine = 256      // bytes of a chunk's size and extensions
	maxSpare     = 16 << 10 // bytes of extensions in all, less 16 and twice its data for each chunk: nobody has a use for more
	maxTrailer   = 8 << 10  // bytes of the trailer section
	maxChunk     = 1 << 50  // bytes of a chunk
)

// next decodes the beginning of b: it returns a piece of the body, which may be empty,
// how much of b that took, and whether the body is whole. A trailer line is taken when
// b holds all of it.
func (c *chunkReader) next(b []byte) (piece []byte, taken int, done bool, err error) {
	for i := 0; i < len(b); {
		switch c.state {
		case inData:
			n := int(min(c.left, int64(len(b)-i)))
			c.left -= int64(n)
			if c.left == 0 {
				c.state = dataCR
			}
			return b[i : i+n], i + n, false, nil
		case inTrailer:
			end := bytes.IndexByte(b[i:], '\n')
			if end < 0 {
				if len(b)-i > maxTrailer {
					return nil, i, false, errChunk
				}
				return nil, i, false, nil
			}
			if c.trailing += end + 1; end < 1 || b[i+end-1] != '\r' || c.trailing > maxTrailer {
				return nil, i, false, errChunk
			}
			line := b[i : i+end-1]
			i += end + 1
			if len(line) == 0 {
				c.state = chunksDone
				return nil, i, true, nil
			}
			pass, err := trailerAllowed(line)
			if err != nil {
				return nil, i, false, err
			}
			if pass {
				c.trailers = append(append(c.trailers, line...), "\r\n"...)
			}
		default:
			if err := c.step(b[i]); err != nil {
				return nil, i, false, err
			}
			i++
		}
		taken = i
	}
	return nil, taken, false, nil
}

// step takes one byte between the data of two chunks.
func (c *chunkReader) step(x byte) error {
	if c.size++; c.size > maxChunkLine {
		return errChunk
	}
	switch c.state {
	case inSize:
		if v := unhex(x); v >= 0 {
			if c.digits++; c.left > maxChunk>>4 || c.digits > 16 {
				return errChunk
			}
			c.left = c.left<<4 | int64(v)
			return nil
		}
		if c.digits == 0 {
			return errChunk
		}
		switch x {
		case '\r':
			c.state = sizeLF
		case ';':
			c.state = inExtension
		default:
			return errChunk
		}
	case inExtension, inQuoted, inEscape:
		return c.extension(x)
	case sizeLF:
		if x != '\n' {
			return errChunk
		}
		c.spare = max(c.spare+int64(c.size)-16-2*c.left, 0)
		if c.spare > maxSpare {
			return errChunk
		}
		c.size, c.digits = 0, 0
		if c.state = inData; c.left == 0 {
			c.state = inTrailer
		}
	case dataCR:
		if x != '\r' {
			return errChunk
		}
		c.state = dataLF
	case dataLF:
		if x != '\n' {
			return errChunk
		}
		c.state, c.size = inSize, 0
	}
	return nil
}

// extension skips what nobody uses; a quoted string may hold what would end it.
func (c *chunkReader) extension(x byte) error {
	if x < ' ' && x != '\t' && (x != '\r' || c.state != inExtension) || x == 0x7f {
		return errChunk
	}
	switch {
	case c.state == inEscape:
		c.state = inQuoted
	case x == '\r':
		c.state = sizeLF
	case c.state == inQuoted && x == '\\':
		c.state = inEscape
	case x == '"' && c.state == inQuoted:
		c.state = inExtension
	case x == '"':
		c.state = inQuoted
	}
	return nil
}

// trailerAllowed says whether a trailer line is well formed and may be passed on:
// nothing that frames, routes, or speaks of the connection (RFC 9110, 6.5.1).
func trailerAllowed(line []byte) (pass bool, err error) {
	colon := bytes.IndexByte(line, ':')
	if colon < 1 || !all(line[:colon], isToken) || !validValue(line[colon+1:]) {
		return false, errChunk
	}
	n := line[:colon]
	if known(n) != other || essential(n) {
		return false, nil
	}
	for _, s := range [...]string{"content-encoding", "content-type", "content-range", "cache-control", "max-forwards", "set-cookie", "age", "date", "location", "retry-after", "vary", "warning", "expires"} {
		if fold(n, s) {
			return false, nil
		}
	}
	return !bytes.HasPrefix(bytes.ToLower(n), []byte("if-")), nil
}

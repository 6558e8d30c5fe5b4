package acts

import (
	"bytes"
	"image"
)

// decodedCost is what the decoder of a format may take for a whole image, in bytes: its
// pixels, and what it holds for each beside them until it is done. c is what the head of
// the file says. The code trees of a lossless WebP are not in it, which nothing at its
// head tells: the decoder takes 2600 groups of them at most, of up to 52 KB.
func decodedCost(format string, c image.Config, whole []byte) int64 {
	pixels := int64(c.Width) * int64(c.Height)
	if pixels > maxDecoded { // a byte each is too much, and more might not fit into the number
		return pixels
	}
	switch format {
	case "jpeg":
		return jpegCost(pixels, whole)
	case "png":
		return pixels * pngCost(whole)
	case "gif":
		return pixels * 2 // an index, and where it is interlaced the lines in their order
	}
	const firstChunk = 12 // RIFF, its length, WEBP (RFC 9649)
	if bytes.HasPrefix(whole[min(len(whole), firstChunk):], []byte("VP8 ")) {
		return pixels * 2 // lossy alone: a brightness, and two colours for four pixels
	}
	return pixels * 12 // lossless: 8 with a palette, and of an alpha channel as much, the image beside
}

// jpegCost goes by how many samples each component has: the decoder makes whole blocks
// of all of them (ITU T.81, A.2).
func jpegCost(pixels int64, whole []byte) int64 {
	const most = 4 * (1 + 4) * 4 * 4 // bytes: four components, each four by four times finer than the image, and waiting
	frame, progressive, found := []byte(nil), false, false
	segments(whole, func(marker byte, body []byte) {
		if !found && marker >= 0xc0 && marker <= 0xc2 {
			frame, progressive, found = body, marker == 0xc2, true
		}
	})
	if len(frame) < 6 || len(frame) != 6+3*int(frame[5]) {
		return pixels * most
	}
	high, wide := int64(frame[1])<<8|int64(frame[2]), int64(frame[3])<<8|int64(frame[4])
	components := frame[6:]
	var across, down int64 = 1, 1 // of the finest component
	for i := 1; i < len(components); i += 3 {
		across, down = max(across, int64(components[i]>>4)), max(down, int64(components[i]&15))
	}
	const side = 8 // of a block
	rows, columns := (high+side*down-1)/(side*down), (wide+side*across-1)/(side*across)
	var samples int64
	for i := 1; i < len(components); i += 3 {
		samples += rows * columns * side * side * int64(components[i]>>4) * int64(components[i]&15)
	}
	cost := samples
	if progressive {
		cost += samples * 4 // each coefficient waits in four bytes for the scans to come
	}
	if len(components) == 4*3 || len(components) == 3*3 && rgb(components, whole) {
		cost += pixels * 4 // made from the components when all are there
	}
	return cost
}

// maxScans of a JPEG that is decoded: a progressive one has about ten. The decoder works
// through all of its blocks for each, however few bytes a scan has.
const maxScans = 100

// scans is how many a JPEG has at most, one in a preview of its metadata included. A marker
// does not occur in the data of a scan, and the length after this one begins with 0: by
// chance these three bytes stand about once in 16 MiB of anything else.
func scans(whole []byte) int { return bytes.Count(whole, []byte{0xff, 0xda, 0x00}) }

// rgb says whether a JPEG of three components may be taken for one of red, green and
// blue: by their names, or as Adobe's marker says wherever it stands.
func rgb(components, whole []byte) bool {
	if components[0] == 'R' && components[3] == 'G' && components[6] == 'B' {
		return true
	}
	const transform = 11 // bytes from the name on; 0: none
	for b := whole; ; b = b[1:] {
		i := bytes.Index(b, []byte("Adobe"))
		if i < 0 || len(b) <= i+transform {
			return false
		}
		if b = b[i:]; b[transform] == 0 {
			return true
		}
	}
}

// pngCost is of one pixel.
func pngCost(whole []byte) int64 {
	const depthAt, kindAt, interlaceAt = 24, 25, 28 // IHDR is the first chunk (PNG, 5.6)
	const grey, palette = 0, 3
	if len(whole) <= interlaceAt {
		return 2 * 8
	}
	cost := int64(4) // red, green, blue and alpha
	switch {
	case whole[kindAt] == palette:
		cost = 1
	case whole[kindAt] == grey && !bytes.Contains(whole, []byte("tRNS")):
		cost = 1
	}
	if whole[depthAt] == 16 {
		cost *= 2
	}
	if whole[interlaceAt] != 0 {
		cost *= 2 // the passes, beside the whole
	}
	return cost
}

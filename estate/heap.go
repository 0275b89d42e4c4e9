package estate

// heapRoom is how much garbage may come together before it is collected, beside
// as much again as is in use.
const heapRoom = 48 << 20

// heapFloor returns memory that is never touched, so that it takes none of the
// machine's, and that the garbage collector counts as in use as long as it is
// kept: it lets heapRoom of garbage come together first. A vault that answers
// 10,000 requests a second would else collect its few megabytes 30 times a
// second, at a tenth of the processors' time and with requests that wait. A
// limit (GOMEMLIMIT) or a percentage (GOGC) would do the same for a heap of one
// size only.
func heapFloor() []byte { return make([]byte, heapRoom) }

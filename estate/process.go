package estate

import (
	"os"
	"runtime"
)

// heapRoom is how much garbage may come together before it is collected, beside
// as much again as is in use.
const heapRoom = 48 << 20

// TuneProcess fits Go's runtime to a process that serves vaults, until release
// is called:
//
//   - heapRoom of garbage comes together before it is collected. A vault that
//     answers 10,000 requests a second would else collect its few megabytes 30
//     times a second, at a tenth of the processors' time, while requests wait.
//     It is done with memory that is never touched, and so takes none of the
//     machine's, but counts as in use; GOGC and GOMEMLIMIT mean what they always
//     do.
//   - One thread more than there are processors runs Go code, because one of
//     them usually waits for the disk: the runtime takes 40 to 100
//     microseconds to see that, about as long as the wait is. Where the
//     environment has GOMAXPROCS, that is what it is.
func TuneProcess() (release func()) {
	floor := make([]byte, heapRoom)
	threads := runtime.GOMAXPROCS(0)
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(threads + 1)
	}
	return func() {
		runtime.GOMAXPROCS(threads)
		runtime.KeepAlive(floor)
	}
}

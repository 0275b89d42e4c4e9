package revocation_test

import (
	"fmt"
	"log"
	"os"
	"path/filepath"
	"time"

	"verdant/trustlist/revocation"
)

// A verifier builds its list of the batches that it downloaded, and asks it of
// every certificate (with Check; here by one hash).
func Example() {
	dir, err := os.MkdirTemp("", "revocation-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	builder, err := revocation.NewBuilder(filepath.Join(dir, "revoked"))
	if err != nil {
		log.Fatal(err)
	}
	batch := &revocation.Batch{ID: "f3b2", Country: "IE", KID: revocation.UnknownKID, Type: revocation.UCI,
		Expires: time.Date(2027, 1, 1, 0, 0, 0, 0, time.UTC), Entries: []revocation.Hash{revocation.UCIHash("URN:UVCI:01:IE:1")}}
	if err := builder.Add(batch); err != nil {
		log.Fatal(err)
	}
	if err := builder.Finish(); err != nil {
		log.Fatal(err)
	}
	list, err := revocation.Open(filepath.Join(dir, "revoked"))
	if err != nil {
		log.Fatal(err)
	}
	defer list.Close()
	for _, uci := range []string{"URN:UVCI:01:IE:1", "URN:UVCI:01:IE:2"} {
		revoked := "not revoked"
		err := list.Each(revocation.UCIHash(uci), func(r revocation.Revocation) bool {
			revoked = "revoked by batch " + r.BatchID + " of " + r.Country
			return false
		})
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println(uci, revoked)
	}
	// Output:
	// URN:UVCI:01:IE:1 revoked by batch f3b2 of IE
	// URN:UVCI:01:IE:2 not revoked
}

package vnet

import (
	"bytes"
	"testing"

	"github.com/miekg/dns"
)

// FuzzAnswer gives the resolver bytes from outside: whatever parses as a
// question gets a reply to that question, in a form that parses again.
func FuzzAnswer(f *testing.F) {
	zones := newZoneTable()
	for _, z := range []Zone{
		{ID: "p", Name: "test", Public: true, Records: []Record{
			{Name: "a", Type: A, Values: []string{"203.0.113.1", "203.0.113.2"}},
			{Name: "c", Type: CNAME, Values: []string{"a.private.test"}},
			{Name: "loop", Type: CNAME, Values: []string{"loop.test"}},
			{Name: "*.w", Type: TXT, Values: []string{`back\slash "quote"`}},
		}},
		{ID: "z", Name: "private.test", Links: []Link{{Network: "n"}}, Records: []Record{{Name: "a", Type: A, Values: []string{"10.0.0.4"}}}},
	} {
		built, err := newZone(z)
		if err != nil {
			f.Fatal(err)
		}
		zones.zones[z.ID] = built
	}
	for _, q := range []struct {
		name string
		kind uint16
	}{{"a.test.", dns.TypeA}, {"C.test.", dns.TypeAAAA}, {"loop.test.", dns.TypeA}, {"x.w.test.", dns.TypeTXT}, {".", dns.TypeANY}, {"private.test.", dns.TypeSOA}} {
		m := new(dns.Msg)
		m.SetQuestion(q.name, q.kind)
		m.SetEdns0(4096, true)
		wire, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(wire)
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		q := new(dns.Msg)
		if q.Unpack(wire) != nil {
			return
		}
		r := zones.answer("n", q)
		packed, err := r.Pack()
		if err != nil {
			// A question that was parsed leniently may not pack strictly; then
			// its bare echo must not either.
			echo := new(dns.Msg)
			echo.Question = q.Question
			if _, echoErr := echo.Pack(); echoErr == nil {
				t.Fatalf("the reply to %v does not pack: %v", q, err)
			}
			return
		}
		back := new(dns.Msg)
		if err := back.Unpack(packed); err != nil {
			t.Fatalf("the reply does not parse: %v", err)
		}
		if !back.Response || back.Id != q.Id || len(q.Question) > 0 && len(back.Question) > 0 && back.Question[0] != q.Question[0] {
			t.Fatalf("got a reply to another question: %v for %v", back, q)
		}
		if r.Rcode == dns.RcodeSuccess && len(r.Question) == 1 {
			again, _ := zones.answer("n", q).Pack()
			if !bytes.Equal(again, packed) {
				t.Fatal("the same question gets two answers")
			}
		}
	})
}

// FuzzTarget gives a proxy's destination from outside to name resolution.
func FuzzTarget(f *testing.F) {
	fabric, err := Open(Config{Driver: Loopback})
	if err != nil {
		f.Fatal(err)
	}
	fabric.networks["n"] = &network{}
	for _, s := range []string{"a:1", "[::1]:443", "1.2.3.4:80", "a.b.:70000", ":", "a..b:1", "[::ffff:1.2.3.4%eth0]:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, target string) {
		addrs, err := fabric.lookup("n", target)
		if (err == nil) != (len(addrs) > 0) {
			t.Fatalf("%q: got %v, %v", target, addrs, err)
		}
		for _, a := range addrs {
			if !a.IsValid() || a.Port() == 0 {
				t.Fatalf("%q: got %v", target, a)
			}
		}
	})
}

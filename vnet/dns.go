package vnet

import (
	"net"
	"net/netip"
	"strings"

	"github.com/miekg/dns"
)

// maxUDP is the largest answer that goes out over UDP (RFC 6891 as amended by
// the DNS flag day 2020); a longer one is truncated and asked again over TCP.
const maxUDP = 1232

// answer makes the reply to one question from a network, per RFC 1034 §4.3.2
// and RFC 2308 for what does not exist.
func (t *zoneTable) answer(networkName string, q *dns.Msg) *dns.Msg {
	m := new(dns.Msg)
	m.SetReply(q)
	m.RecursionAvailable = true
	if q.Opcode != dns.OpcodeQuery {
		m.Rcode = dns.RcodeNotImplemented
		return m
	}
	if len(q.Question) != 1 {
		m.Rcode = dns.RcodeFormatError
		return m
	}
	if opt := q.IsEdns0(); opt != nil {
		m.SetEdns0(maxUDP, false)
		if opt.Version() != 0 {
			m.Rcode = dns.RcodeBadVers
			return m
		}
	}
	question := q.Question[0]
	name, ok := canonical(question.Name)
	if question.Qclass != dns.ClassINET {
		m.Rcode = dns.RcodeRefused
		return m
	}
	if !ok {
		m.Rcode = dns.RcodeNameError
		return m
	}
	r := t.resolve(networkName, name, RecordType(dns.TypeToString[question.Qtype]))
	owner := question.Name // The asker's own spelling comes back to it.
	for _, h := range r.hops {
		for _, v := range h.values {
			m.Answer = append(m.Answer, record(owner, h.kind, v))
		}
		if h.kind == CNAME {
			owner = dns.Fqdn(h.values[0])
		}
	}
	if !r.exists {
		m.Rcode = dns.RcodeNameError
	}
	if n := len(r.hops); n == 0 || r.hops[n-1].kind == CNAME && question.Qtype != dns.TypeCNAME {
		m.Ns = append(m.Ns, soa(r.origin))
	}
	return m
}

func record(owner string, kind RecordType, value string) dns.RR {
	header := dns.RR_Header{Name: owner, Class: dns.ClassINET, Ttl: TTL}
	switch kind {
	case A:
		header.Rrtype = dns.TypeA
		return &dns.A{Hdr: header, A: net.IP(netip.MustParseAddr(value).AsSlice())}
	case CNAME:
		header.Rrtype = dns.TypeCNAME
		return &dns.CNAME{Hdr: header, Target: dns.Fqdn(value)}
	default:
		header.Rrtype = dns.TypeTXT
		return &dns.TXT{Hdr: header, Txt: []string{value}}
	}
}

// soa is what Azure puts at the top of a private zone; its minimum is how long
// a resolver may remember that a name does not exist.
func soa(origin string) dns.RR {
	return &dns.SOA{
		Hdr: dns.RR_Header{Name: dns.Fqdn(origin), Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: TTL},
		Ns:  "azureprivatedns.net.", Mbox: "azureprivatedns-host.microsoft.com.",
		Serial: 1, Refresh: 3600, Retry: 300, Expire: 2419200, Minttl: TTL,
	}
}

// dnsHandler answers the questions that come from one network.
func (t *zoneTable) dnsHandler(networkName string) dns.Handler {
	return dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := t.answer(networkName, q)
		if strings.HasPrefix(w.RemoteAddr().Network(), "udp") {
			size := dns.MinMsgSize
			if opt := q.IsEdns0(); opt != nil {
				size = min(max(size, int(opt.UDPSize())), maxUDP)
			}
			m.Truncate(size)
		}
		// The asker that is gone by now asks again or does not care.
		_ = w.WriteMsg(m)
	})
}

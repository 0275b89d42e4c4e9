package jumpbox

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/crypto/ssh"
)

// refusal is why a channel does not open: a word for the record, and a
// sentence for the person.
type refusal struct {
	code    ssh.RejectionReason
	reason  string
	message string
}

func prohibited(reason, format string, args ...any) *refusal {
	return &refusal{ssh.Prohibited, reason, fmt.Sprintf(format, args...)}
}

// destination decides where a channel leads: the region whose development
// network it leaves from, and the address to connect to there. asked is the
// region of the user name, or "".
func (s *Server) destination(asked, host string, port uint32) (region, address string, no *refusal) {
	if port > 65535 || !slices.Contains(s.cfg.Ports, uint16(port)) {
		return "", "", prohibited("port not allowed", "port %d is not allowed; the jump-box reaches ports %s", port, portList(s.cfg.Ports))
	}
	name := strings.ToLower(strings.TrimSuffix(host, "."))
	text := strconv.Itoa(int(port))
	if addr, err := netip.ParseAddr(name); err == nil {
		addr = addr.Unmap()
		switch {
		case addr.Zone() != "" || !slices.ContainsFunc(s.cfg.Addresses, func(p netip.Prefix) bool { return p.Contains(addr) }):
			return "", "", prohibited("address not allowed", "this IP address is not allowed; give a host name, which the private DNS resolves")
		case asked == "":
			return "", "", prohibited("region not given", "the regions' address ranges overlap: sign in as REGION+NAME to reach an IP address")
		}
		return asked, net.JoinHostPort(addr.String(), text), nil
	}
	if !validHost(name) {
		return "", "", prohibited("malformed host name", "the destination is not a host name")
	}
	if region, no = s.regionOf(asked, name); no != nil {
		return "", "", no
	}
	return region, net.JoinHostPort(name, text), nil
}

func (s *Server) regionOf(asked, name string) (string, *refusal) {
	if asked != "" {
		return asked, nil
	}
	found := ""
	for _, r := range s.cfg.Regions {
		// A registry's name cannot have dashes: eudccieacr.azurecr.io.
		if !strings.Contains(name, r) && !strings.Contains(name, strings.ReplaceAll(r, "-", "")) {
			continue
		}
		if found != "" {
			return "", prohibited("region ambiguous", "the destination's name carries two regions: sign in as REGION+NAME")
		}
		found = r
	}
	if found == "" {
		found = s.cfg.DefaultRegion
	}
	if found == "" {
		return "", prohibited("region not given", "the destination's name carries no region: sign in as REGION+NAME")
	}
	return found, nil
}

// validHost reports whether name is a DNS host name in lower case that no
// resolver can take for an IP address.
func validHost(name string) bool {
	if len(name) > 253 {
		return false
	}
	labels := strings.Split(name, ".")
	for _, label := range labels {
		if label == "" || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' {
			return false
		}
		for _, c := range []byte(label) {
			if !(c >= 'a' && c <= 'z' || c >= '0' && c <= '9' || c == '-' || c == '_') {
				return false
			}
		}
	}
	last := labels[len(labels)-1]
	return last[0] < '0' || last[0] > '9'
}

func portList(ports []uint16) string {
	words := make([]string, len(ports))
	for i, p := range ports {
		words[i] = strconv.Itoa(int(p))
	}
	return strings.Join(words, ", ")
}

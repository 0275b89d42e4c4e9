package kql

import (
	"math/bits"
	"net/netip"
	"strconv"
	"strings"
)

// Functions over IPv4 and IPv6 addresses.

// parseIPv4 reads a.b.c.d[/prefix].
func parseIPv4(s string) (addr uint32, prefix int, ok bool) {
	s = strings.TrimSpace(s)
	text, suffix, has := strings.Cut(s, "/")
	prefix = 32
	if has {
		n, err := strconv.Atoi(suffix)
		if err != nil || n < 0 || n > 32 {
			return 0, 0, false
		}
		prefix = n
	}
	a, err := netip.ParseAddr(text)
	if err != nil || !a.Is4() {
		return 0, 0, false
	}
	b := a.As4()
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3]), prefix, true
}

func maskIPv4(a uint32, prefix int) uint32 {
	if prefix <= 0 {
		return 0
	}
	return a &^ (1<<(32-prefix) - 1)
}

func textIPv4(a uint32) string {
	return netip.AddrFrom4([4]byte{byte(a >> 24), byte(a >> 16), byte(a >> 8), byte(a)}).String()
}

// compareIPv4 compares under the shortest of the prefixes.
func compareIPv4(a []val) (int64, bool) {
	x, px, ok1 := parseIPv4(a[0].s)
	y, py, ok2 := parseIPv4(a[1].s)
	if !ok1 || !ok2 {
		return 0, false
	}
	p := min(px, py)
	if len(a) > 2 {
		if a[2].i < 0 || a[2].i > 32 {
			return 0, false
		}
		p = min(p, int(a[2].i))
	}
	x, y = maskIPv4(x, p), maskIPv4(y, p)
	switch {
	case x < y:
		return -1, true
	case x > y:
		return 1, true
	}
	return 0, true
}

func inIPv4(ip, cidr string) (bool, bool) {
	x, _, ok1 := parseIPv4(ip)
	y, p, ok2 := parseIPv4(cidr)
	return ok1 && ok2 && maskIPv4(x, p) == maskIPv4(y, p), ok1 && ok2
}

func networkFunctions() map[string]impl {
	return map[string]impl{
		"parse_ipv4": {fn: func(_ *exec, a []val) val {
			x, p, ok := parseIPv4(a[0].s)
			if !ok {
				return nullOf(Long)
			}
			return longVal(int64(maskIPv4(x, p)))
		}},
		"parse_ipv4_mask": {fn: func(_ *exec, a []val) val {
			x, p, ok := parseIPv4(a[0].s)
			if !ok || a[1].i < 0 || a[1].i > 32 {
				return nullOf(Long)
			}
			return longVal(int64(maskIPv4(x, min(p, int(a[1].i)))))
		}},
		"ipv4_compare": {fn: func(_ *exec, a []val) val {
			if c, ok := compareIPv4(a); ok {
				return longVal(c)
			}
			return nullOf(Long)
		}},
		"ipv4_is_match": {fn: func(_ *exec, a []val) val {
			if c, ok := compareIPv4(a); ok {
				return boolVal(c == 0)
			}
			return nullOf(Bool)
		}},
		"ipv4_is_in_range": {fn: func(_ *exec, a []val) val {
			if in, ok := inIPv4(a[0].s, a[1].s); ok {
				return boolVal(in)
			}
			return nullOf(Bool)
		}},
		"ipv4_is_in_any_range": {nulls: true, fn: func(_ *exec, a []val) val { return anyRange(a, inIPv4) }},
		"ipv6_is_in_any_range": {nulls: true, fn: func(_ *exec, a []val) val { return anyRange(a, inIPv6) }},
		"ipv6_is_in_range": {fn: func(_ *exec, a []val) val {
			if in, ok := inIPv6(a[0].s, a[1].s); ok {
				return boolVal(in)
			}
			return nullOf(Bool)
		}},
		"ipv4_is_private": {fn: func(_ *exec, a []val) val {
			x, p, ok := parseIPv4(a[0].s)
			if !ok {
				return nullOf(Bool)
			}
			for _, r := range []string{"10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16"} {
				y, q, _ := parseIPv4(r)
				if p >= q && maskIPv4(x, q) == y {
					return boolVal(true)
				}
			}
			return boolVal(false)
		}},
		"ipv4_netmask_suffix": {fn: func(_ *exec, a []val) val {
			_, p, ok := parseIPv4(a[0].s)
			if !ok {
				return nullOf(Long)
			}
			return longVal(int64(p))
		}},
		"format_ipv4": {fn: func(_ *exec, a []val) val {
			x, ok := ipv4Arg(a[0])
			p := 32
			if len(a) > 1 {
				p = int(a[1].i)
			}
			if !ok || p < 0 || p > 32 {
				return strVal("")
			}
			return strVal(textIPv4(maskIPv4(x, p)))
		}},
		"format_ipv4_mask": {fn: func(_ *exec, a []val) val {
			x, ok := ipv4Arg(a[0])
			if !ok || a[1].i < 0 || a[1].i > 32 {
				return strVal("")
			}
			return strVal(textIPv4(maskIPv4(x, int(a[1].i))) + "/" + strconv.FormatInt(a[1].i, 10))
		}},
	}
}

// addressFunctions are those over IPv6 and over addresses inside texts.
func addressFunctions() map[string]impl {
	return map[string]impl{
		"parse_ipv6": {fn: func(_ *exec, a []val) val { return maskedIPv6(a[0].s, 128) }},
		"parse_ipv6_mask": {fn: func(_ *exec, a []val) val {
			if a[1].i < 0 || a[1].i > 128 {
				return strVal("")
			}
			return maskedIPv6(a[0].s, int(a[1].i))
		}},
		"ipv6_compare": {fn: func(_ *exec, a []val) val {
			if c, ok := compareIPv6(a); ok {
				return longVal(c)
			}
			return nullOf(Long)
		}},
		"ipv6_is_match": {fn: func(_ *exec, a []val) val {
			if c, ok := compareIPv6(a); ok {
				return boolVal(c == 0)
			}
			return nullOf(Bool)
		}},
		"ipv4_range_to_cidr_list": {fn: rangeToCIDR},
		"has_ipv4":                {fn: func(_ *exec, a []val) val { return boolVal(hasIPv4(valText(a[0]), a[1].s, false)) }},
		"has_ipv4_prefix":         {fn: func(_ *exec, a []val) val { return boolVal(hasIPv4(valText(a[0]), a[1].s, true)) }},
		"has_any_ipv4":            {fn: func(_ *exec, a []val) val { return hasAnyIPv4(a, false) }},
		"has_any_ipv4_prefix":     {fn: func(_ *exec, a []val) val { return hasAnyIPv4(a, true) }},
	}
}

func ipv4Arg(v val) (uint32, bool) {
	if v.t.isInteger() {
		return uint32(v.i), v.i >= 0 && v.i <= 1<<32-1
	}
	x, p, ok := parseIPv4(valText(v))
	return maskIPv4(x, p), ok
}

func anyRange(a []val, in func(ip, cidr string) (bool, bool)) val {
	ip := valText(a[0])
	found := false
	for _, v := range a[1:] {
		for _, r := range flatten(v) {
			yes, ok := in(ip, valText(r))
			if yes {
				return boolVal(true)
			}
			found = found || ok
		}
	}
	if !found {
		return nullOf(Bool)
	}
	return boolVal(false)
}

// parseIPv6 reads an address of either family as 16 bytes and its prefix.
func parseIPv6(s string) (netip.Addr, int, bool) {
	text, suffix, has := strings.Cut(strings.TrimSpace(s), "/")
	addr, err := netip.ParseAddr(text)
	if err != nil || addr.Zone() != "" {
		return netip.Addr{}, 0, false
	}
	prefix := 128
	if has {
		n, err := strconv.Atoi(suffix)
		limit := 128
		if addr.Is4() {
			limit = 32
		}
		if err != nil || n < 0 || n > limit {
			return netip.Addr{}, 0, false
		}
		prefix = n
		if addr.Is4() {
			prefix += 96
		}
	}
	return netip.AddrFrom16(addr.As16()), prefix, true
}

func maskIPv6(a netip.Addr, prefix int) netip.Addr {
	b := a.As16()
	for i := range b {
		keep := min(max(prefix-8*i, 0), 8)
		b[i] &= byte(0xff << (8 - keep))
	}
	return netip.AddrFrom16(b)
}

func maskedIPv6(s string, mask int) val {
	a, p, ok := parseIPv6(s)
	if !ok {
		return strVal("")
	}
	if strings.Contains(s, ":") && strings.Contains(s, ".") && p <= 32 { // a prefix of the IPv4 part
		p += 96
	}
	b := maskIPv6(a, min(p, mask)).As16()
	var sb strings.Builder
	for i := 0; i < 16; i += 2 {
		if i > 0 {
			sb.WriteByte(':')
		}
		h := strconv.FormatUint(uint64(b[i])<<8|uint64(b[i+1]), 16)
		sb.WriteString(strings.Repeat("0", 4-len(h)) + h)
	}
	return strVal(sb.String())
}

func compareIPv6(a []val) (int64, bool) {
	x, px, ok1 := parseIPv6(a[0].s)
	y, py, ok2 := parseIPv6(a[1].s)
	if !ok1 || !ok2 {
		return 0, false
	}
	p := min(px, py)
	if len(a) > 2 {
		if a[2].i < 0 || a[2].i > 128 {
			return 0, false
		}
		p = min(p, int(a[2].i))
	}
	return int64(maskIPv6(x, p).Compare(maskIPv6(y, p))), true
}

func inIPv6(ip, cidr string) (bool, bool) {
	x, _, ok1 := parseIPv6(ip)
	y, p, ok2 := parseIPv6(cidr)
	return ok1 && ok2 && maskIPv6(x, p) == maskIPv6(y, p), ok1 && ok2
}

func rangeToCIDR(_ *exec, a []val) val {
	lo, _, ok1 := parseIPv4(a[0].s)
	hi, _, ok2 := parseIPv4(a[1].s)
	if !ok1 || !ok2 || lo > hi {
		return nullOf(Dynamic)
	}
	out := []any{}
	for at, end := uint64(lo), uint64(hi); at <= end; {
		size := 32
		if at != 0 {
			size = bits.TrailingZeros64(at)
		}
		size = min(size, 32, bits.Len64(end-at+1)-1)
		out = append(out, textIPv4(uint32(at))+"/"+strconv.Itoa(32-size))
		at += 1 << size
	}
	return dynVal(out)
}

// hasIPv4 finds an address, or an address that begins with a prefix such as
// "192.168.", as a whole: no digit, letter or dot may touch it.
func hasIPv4(text, want string, prefix bool) bool {
	if !prefix {
		if _, _, ok := parseIPv4(want); !ok || strings.Contains(want, "/") {
			return false
		}
	} else if _, _, whole := parseIPv4(want); !whole && !strings.HasSuffix(want, ".") {
		return false
	}
	for off := 0; ; {
		i := strings.Index(text[off:], want)
		if i < 0 {
			return false
		}
		i += off
		off = i + 1
		if i > 0 && (isIdentByte(text[i-1]) || text[i-1] == '.') {
			continue
		}
		j := i
		for j < len(text) && (isDigit(text[j]) || text[j] == '.') {
			j++
		}
		if j < len(text) && isIdentByte(text[j]) {
			continue
		}
		addr := strings.TrimSuffix(text[i:j], ".")
		if _, _, ok := parseIPv4(addr); ok && (prefix || addr == want) {
			return true
		}
	}
}

func hasAnyIPv4(a []val, prefix bool) val {
	text := valText(a[0])
	for _, v := range a[1:] {
		for _, w := range flatten(v) {
			if hasIPv4(text, valText(w), prefix) {
				return boolVal(true)
			}
		}
	}
	return boolVal(false)
}

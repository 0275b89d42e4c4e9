package rbac

import "strings"

// Ids, scopes and actions are ASCII and compare without regard to case. These
// comparisons fold ASCII letters only, so that no other letter passes for one
// of them, and make no copies: they are on the path of every request.

func lower(c byte) byte {
	if c >= 'A' && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// equalFold compares s with folded, which is in lower case already.
func equalFold(s, folded string) bool {
	if len(s) != len(folded) {
		return false
	}
	for i := range len(s) {
		if lower(s[i]) != folded[i] {
			return false
		}
	}
	return true
}

// foldInto appends s in lower case.
func foldInto(b []byte, s string) []byte {
	for i := range len(s) {
		b = append(b, lower(s[i]))
	}
	return b
}

func cutPrefixFold(s, folded string) (rest string, ok bool) {
	if len(s) < len(folded) || !equalFold(s[:len(folded)], folded) {
		return s, false
	}
	return s[len(folded):], true
}

// indexFold finds the first place of folded in s, or -1.
func indexFold(s, folded string) int {
	for i := 0; i+len(folded) <= len(s); i++ {
		if equalFold(s[i:i+len(folded)], folded) {
			return i
		}
	}
	return -1
}

// pattern is a lower-case action pattern cut at its stars.
type pattern []string

func patterns(ss []string) []pattern {
	ps := make([]pattern, len(ss))
	for i, s := range ss {
		ps[i] = strings.Split(strings.ToLower(s), "*")
	}
	return ps
}

func anyMatches(ps []pattern, action string) bool {
	for _, p := range ps {
		if p.matches(action) {
			return true
		}
	}
	return false
}

// matches places the pieces between the stars from left to right; the first
// is anchored at the start, the last at the end.
func (p pattern) matches(s string) bool {
	if len(p) == 1 {
		return equalFold(s, p[0])
	}
	s, ok := cutPrefixFold(s, p[0])
	if !ok {
		return false
	}
	for _, piece := range p[1 : len(p)-1] {
		i := indexFold(s, piece)
		if i < 0 {
			return false
		}
		s = s[i+len(piece):]
	}
	last := p[len(p)-1]
	return len(s) >= len(last) && equalFold(s[len(s)-len(last):], last)
}

// covers reports whether the folded scope reaches the resource: it is the same
// or lies above it. A scope that is no path reaches nothing.
func covers(scope, resource string) bool {
	if scope == "/" {
		return strings.HasPrefix(resource, "/")
	}
	if !strings.HasPrefix(scope, "/") {
		return false
	}
	rest, ok := cutPrefixFold(resource, scope)
	return ok && (rest == "" || rest[0] == '/')
}

// foldScope makes scopes comparable: lower case and no trailing slash, except
// that the root is "/".
func foldScope(s string) string {
	trimmed := strings.TrimRight(s, "/")
	if trimmed == "" && s != "" {
		return "/"
	}
	return strings.ToLower(trimmed)
}

// guidOf takes a role's GUID out of a GUID or an ARM id.
func guidOf(id string) string {
	id = strings.TrimRight(id, "/")
	return strings.ToLower(id[strings.LastIndexByte(id, '/')+1:])
}

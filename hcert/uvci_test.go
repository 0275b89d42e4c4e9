package hcert

import (
	"crypto/rand"
	"errors"
	"io"
	"regexp"
	"strings"
	"testing"
)

func TestCheckCharactersOfPublicIdentifiers(t *testing.T) {
	// From the public test data of Austria and France.
	for _, id := range []string{
		"URN:UVCI:01:AT:10807843F94AEE0EE5093FBC254BD813#B",
		"URN:UVCI:01:AT:71EE2559DE38C6BF7304FB65A1A451EC#3",
		"URN:UVCI:01:FR:Y4996KBJ4Q3Q#:",
		"URN:UVCI:01:FR:P4LU2647E8HN#/",
		"urn:uvci:01:FR:GOGX8HDCXKQU#2",
	} {
		if got := ParseUVCI(id).Check; got != CheckRight {
			t.Errorf("%s: got %s, want %s", id, got, CheckRight)
		}
		// Luhn finds every single wrong character.
		for i := strings.LastIndexByte(id, ':') + 1; i < len(id)-2; i++ {
			for _, c := range uvciAlphabet {
				wrong := id[:i] + string(c) + id[i+1:]
				if !strings.EqualFold(wrong, id) && ParseUVCI(wrong).Check != CheckWrong {
					t.Errorf("%s: a wrong character was not found", wrong)
				}
			}
		}
	}
}

func TestIdentifiersOfAnyShapeAreTakenApart(t *testing.T) {
	for id, want := range map[string]UVCI{
		"URN:UVCI:01:AT:10807843F94AEE0EE5093FBC254BD813#B": {"01", "AT", "10807843F94AEE0EE5093FBC254BD813", CheckRight},
		"urn:uvci:01:CH:501183D39F3F64408CE7F87C":           {"01", "CH", "501183D39F3F64408CE7F87C", CheckAbsent},
		"URN:UVCI:01DE/IZ12345A/5CWLU12RNOB9RXSEOP6FG8#W":   {"01", "DE", "IZ12345A/5CWLU12RNOB9RXSEOP6FG8", CheckWrong},
		"01ITA65E2BD36C9E4900B0273D2E7C92EEB9#1":            {"01", "IT", "A65E2BD36C9E4900B0273D2E7C92EEB9", CheckWrong},
		"URN:UVCI:01:IE:52d0dc929c884cf8998a7987f0b9d863#2": {"01", "IE", "52d0dc929c884cf8998a7987f0b9d863", CheckWrong},
		"dgci:V1:FR:ME8M4JGYO2UKFHKKMQO8KW9QP:36":           {"", "", "dgci:V1:FR:ME8M4JGYO2UKFHKKMQO8KW9QP:36", CheckAbsent},
		"":     {"", "", "", CheckAbsent},
		"#":    {"", "", "", CheckWrong},
		"é#é":  {"", "", "é", CheckWrong},
		"01:é": {"", "", "01:é", CheckAbsent},
	} {
		if got := ParseUVCI(id); got != want {
			t.Errorf("%q: got %+v, want %+v", id, got, want)
		}
	}
}

func TestNewIdentifiers(t *testing.T) {
	form := regexp.MustCompile(`^URN:UVCI:01:IE:[A-Z0-9]{24}#[A-Z0-9/:]$`)
	seen := map[string]bool{}
	for range 200 {
		id, err := NewUVCI("IE", rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if !form.MatchString(id) || seen[id] || len(id) > 50 {
			t.Fatalf("%s has the wrong form or occurred before", id)
		}
		seen[id] = true
		if u := ParseUVCI(id); u.Check != CheckRight || u.Country != "IE" || u.Version != "01" {
			t.Errorf("%s: got %+v", id, u)
		}
	}
	for _, country := range []string{"", "ie", "IRL", "I<", "é"} {
		if _, err := NewUVCI(country, rand.Reader); err == nil {
			t.Errorf("country %q was accepted", country)
		}
	}
	if _, err := NewUVCI("IE", strings.NewReader("short")); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("without randomness: got %v", err)
	}
}

func FuzzParseUVCI(f *testing.F) {
	f.Add("URN:UVCI:01:AT:10807843F94AEE0EE5093FBC254BD813#B")
	f.Add("01ITA65E2#1")
	f.Fuzz(func(t *testing.T, s string) {
		u := ParseUVCI(s)
		if u.Check == CheckRight && !strings.Contains(s, "#") {
			t.Fatal("a check character out of nowhere")
		}
	})
}

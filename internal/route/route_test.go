package route

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"reflect"
	"strings"
	"testing"
	"time"
)

func complete() Route {
	return Route{Name: "Echo", Method: "POST", Path: "/echo", Versions: AnyVersion, Action: Anyone,
		MaxBody: 4, Timeout: time.Second, Audit: AuditNone,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if _, ok := r.Context().Deadline(); !ok {
				w.WriteHeader(http.StatusInternalServerError)
			}
		})}
}

func TestEveryZeroPolicyFieldIsAStartUpError(t *testing.T) {
	typ := reflect.TypeFor[Route]()
	for i := range typ.NumField() {
		r := complete()
		reflect.ValueOf(&r).Elem().Field(i).SetZero()
		if _, err := New([]Route{r}, nil); !errors.Is(err, ErrIncomplete) {
			t.Errorf("zero %s: got %v, want ErrIncomplete", typ.Field(i).Name, err)
		}
	}
}

func TestAnActionNeedsAGuard(t *testing.T) {
	r := complete()
	r.Action = "keys/sign"
	if _, err := New([]Route{r}, nil); !errors.Is(err, ErrIncomplete) {
		t.Fatalf("got %v, want ErrIncomplete", err)
	}
}

func TestConflictingRoutesAreAnErrorNotAPanic(t *testing.T) {
	if _, err := New([]Route{complete(), complete()}, nil); err == nil {
		t.Fatal("two routes with one pattern were accepted")
	}
}

func TestABodyOverTheLimitIsRefused(t *testing.T) {
	mux, err := New([]Route{complete()}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for body, want := range map[string]int{"1234": 200, "12345": http.StatusRequestEntityTooLarge} {
		rec := httptest.NewRecorder()
		mux.ServeHTTP(rec, httptest.NewRequest("POST", "/echo", strings.NewReader(body)))
		if rec.Code != want {
			t.Errorf("%d bytes: got %d, want %d", len(body), rec.Code, want)
		}
	}
}

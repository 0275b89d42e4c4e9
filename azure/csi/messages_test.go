package csi

import (
	"context"
	"os"
	"reflect"
	"testing"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/dynamicpb"
)

// compiled is provider.proto as an independent implementation reads it.
func compiled(t testing.TB) protoreflect.FileDescriptor {
	t.Helper()
	source, err := os.ReadFile("provider.proto")
	if err != nil {
		t.Fatal(err)
	}
	c := protocompile.Compiler{Resolver: &protocompile.SourceResolver{Accessor: protocompile.SourceAccessorFromMap(map[string]string{"provider.proto": string(source)})}}
	files, err := c.Compile(context.Background(), "provider.proto")
	if err != nil {
		t.Fatal(err)
	}
	return files[0]
}

func TestTheCodecWritesWhatTheProtoFileDescribes(t *testing.T) {
	file := compiled(t)
	messages := map[protoreflect.Name]message{
		"VersionRequest":  &versionRequest{"v1alpha1"},
		"VersionResponse": &versionResponse{"v1alpha1", "name", "1.2.3"},
		"MountRequest": &MountRequest{Attributes: `{"a":"b"}`, Secrets: "{}", TargetPath: "/target", Permission: "420",
			Current: []ObjectVersion{{"secret/a", "1"}, {}, {"key/b", "2"}}},
		"MountResponse": &MountResponse{Versions: []ObjectVersion{{"secret/a", "1"}}, ErrorCode: "E",
			Files: []File{{"a", 0o400, []byte("x\x00y")}, {"b/0", -1, nil}, {}}},
		"ObjectVersion": &ObjectVersion{"id", "version"},
		"File":          &File{"path", 0o644, []byte("contents")},
		"Error":         &failure{"code"},
	}
	if got, want := file.Messages().Len(), len(messages); got != want {
		t.Errorf("the file describes %d messages, the test %d", got, want)
	}
	for name, m := range messages {
		d := file.Messages().ByName(name)
		if d == nil {
			t.Errorf("%s is not in the file", name)
			continue
		}
		theirs := dynamicpb.NewMessage(d)
		if err := proto.Unmarshal(m.marshal(), theirs); err != nil {
			t.Errorf("%s: their reading of ours: %v", name, err)
		}
		if unknown := theirs.GetUnknown(); len(unknown) > 0 {
			t.Errorf("%s: they do not know %x", name, unknown)
		}
		for i := range d.Fields().Len() {
			if f := d.Fields().Get(i); !theirs.Has(f) {
				t.Errorf("%s: we did not write %s", name, f.Name())
			}
		}
		raw, err := proto.MarshalOptions{Deterministic: true}.Marshal(theirs)
		if err != nil {
			t.Fatal(err)
		}
		back := reflect.New(reflect.TypeOf(m).Elem()).Interface().(message)
		if err := unmarshal(raw, back); err != nil || !reflect.DeepEqual(back, m) {
			t.Errorf("%s: our reading of theirs: got %+v, %v, want %+v", name, back, err, m)
		}
	}
	service := file.Services().ByName("CSIDriverProvider")
	if service == nil || string(service.FullName()) != serviceName || service.Methods().Len() != 2 {
		t.Errorf("got service %v", service)
	}
}

func FuzzMessages(f *testing.F) {
	file := compiled(f)
	request := file.Messages().ByName("MountRequest")
	response := file.Messages().ByName("MountResponse")
	f.Add((&MountRequest{Attributes: "a", Current: []ObjectVersion{{"i", "v"}}}).marshal())
	f.Add((&MountResponse{Files: []File{{"p", 1, []byte("c")}}, ErrorCode: "x"}).marshal())
	f.Add([]byte{0x0a, 0xff})
	f.Add([]byte{0x0b, 0x0c})
	f.Fuzz(func(t *testing.T, data []byte) {
		for d, ours := range map[protoreflect.MessageDescriptor]message{request: &MountRequest{}, response: &MountResponse{}} {
			theirs := dynamicpb.NewMessage(d)
			theirErr, ourErr := proto.Unmarshal(data, theirs), unmarshal(data, ours)
			if (theirErr == nil) != (ourErr == nil) {
				t.Fatalf("%s %x: they say %v, we say %v", d.Name(), data, theirErr, ourErr)
			}
			if ourErr != nil {
				continue
			}
			again := dynamicpb.NewMessage(d)
			if err := proto.Unmarshal(ours.marshal(), again); err != nil {
				t.Fatal(err)
			}
			discard(theirs)
			// An error without a code is none (MountResponse).
			if f := d.Fields().ByName("error"); f != nil && !theirs.Get(f).Message().Has(f.Message().Fields().ByName("code")) {
				theirs.Clear(f)
			}
			if !proto.Equal(theirs, again) {
				t.Fatalf("%s %x: they read %v, we read %v", d.Name(), data, theirs, again)
			}
		}
	})
}

// discard takes away what neither side knows.
func discard(m protoreflect.Message) {
	m.SetUnknown(nil)
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		switch {
		case f.Message() == nil:
		case f.IsList():
			for i := range v.List().Len() {
				discard(v.List().Get(i).Message())
			}
		default:
			discard(v.Message())
		}
		return true
	})
}

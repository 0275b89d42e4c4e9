package barcode_test

import (
	"bytes"
	"errors"
	"fmt"
	"image"
	"image/png"
	"log"

	"verdant/hcert/barcode"
)

// The text of a certificate becomes a picture, and the picture the text.
func Example() {
	var picture bytes.Buffer
	if err := barcode.WriteQR(&picture, "HC1:6BFOXN", 300); err != nil {
		log.Fatal(err)
	}
	text, err := barcode.Read(&picture)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(text)
	// Output: HC1:6BFOXN
}

// A picture that anybody may have sent is read within bounds; a photograph that
// the caller chose needs the setting for it.
func ExampleScanner() {
	var picture bytes.Buffer
	if err := png.Encode(&picture, image.NewGray(image.Rect(0, 0, 4000, 3000))); err != nil {
		log.Fatal(err)
	}
	_, err := barcode.Read(bytes.NewReader(picture.Bytes()))
	fmt.Println(errors.Is(err, barcode.ErrTooLarge))
	_, err = barcode.Photo().Read(&picture)
	fmt.Println(errors.Is(err, barcode.ErrNotFound))
	// Output:
	// true
	// true
}

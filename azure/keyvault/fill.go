package keyvault

import (
	"context"
	"errors"
	"fmt"

	"verdant/hsm"
)

const fillBatch = 1000

// Fill makes secrets, or P-256 keys, called FillName(from) up to but not
// including FillName(to), a thousand in a transaction: for measurements of a
// large vault. It writes no audit records, and if it is interrupted, keys
// without an owner stay in the token.
func (s *Server) Fill(ctx context.Context, kind Kind, from, to int) error {
	for ; from < to; from += fillBatch {
		var objects []Entry
		var records []any
		for n := from; n < min(from+fillBatch, to); n++ {
			e := Entry{Object{Kind: kind, Name: FillName(n)}, Version{ID: newVersion(), Created: s.now().Unix()}}
			attributes := (&attributesIn{}).fresh(e.Version.Created)
			switch kind {
			case Secrets:
				var err error
				if e.Version.Value, err = s.seal(ctx, kind, e.Object.Name, e.Version.ID, "value of "+e.Object.Name); err != nil {
					return err
				}
				records = append(records, secretRecord{Attributes: attributes})
			case Keys:
				k, err := s.token.Generate(ctx, hsm.NewKeyID(), hsm.KeySpec{Type: hsm.EC, Curve: hsm.P256})
				if err != nil {
					return err
				}
				record := keyRecord{Type: "EC", Ops: keyOps["EC"], Attributes: attributes}
				if err := record.take(k); err != nil {
					return err
				}
				records = append(records, record)
			default:
				return fmt.Errorf("fill a vault with %s: only secrets and keys are made", kind)
			}
			objects = append(objects, e)
		}
		err := s.store.Update(ctx, func(tx Tx) error {
			var errs []error
			for i, e := range objects {
				errs = append(errs, add(tx, e.Object, e.Version, records[i]))
			}
			return errors.Join(errs...)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// FillName is the name of an object that Fill makes.
func FillName(n int) string { return fmt.Sprintf("fill-%07d", n) }

package kql

import (
	"context"
	"fmt"
	"testing"
	"time"
)

func TestSmoke(t *testing.T) {
	for _, s := range []string{
		`print 1+1, "a" has "A", 5 % -3`,
		`range x from 1 to 10 step 1 | where x % 2 == 0 | summarize n=count(), sum(x), avg(x) by bin = x > 4 | sort by n`,
		`datatable(a:string,b:long)["x",1,"y",2,"x",3] | summarize arg_max(b,*), make_list(b) by a | project a, b, list_b`,
	} {
		q, err := Parse(s)
		if err != nil {
			t.Error(s, err)
			continue
		}
		p, err := Bind(q, nil, BindOptions{Now: time.Now()})
		if err != nil {
			t.Error(s, err)
			continue
		}
		r, err := p.Run(context.Background(), Limits{})
		if err != nil {
			t.Error(s, err)
			continue
		}
		fmt.Println(string(r.Tables[0].AppendJSON(nil)))
	}
}

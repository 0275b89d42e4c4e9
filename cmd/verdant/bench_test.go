package main

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"time"
)

func TestAFigureOfSeveralRunsIsThatOfTheMedianRatio(t *testing.T) {
	runs := [][]figure{
		{rate("signs", 80, "1/s", "bound", 100), cost("p99", 2, "ms", "bound", 5)},
		{rate("signs", 90, "1/s", "bound", 100), cost("p99", 9, "ms", "bound", 5)},
		{rate("signs", 70, "1/s", "bound", 200), cost("p99", 3, "ms", "bound", 5)},
	}
	got := medianOfRuns(runs)
	if s := got[0].Spread; got[0].Value != 80 || s.Runs != 3 || s.Values != [2]float64{70, 90} || s.Ratios != [2]float64{0.35, 0.9} {
		t.Errorf("signs: got %+v, %+v", got[0], s)
	}
	if s := got[1].Spread; got[1].Value != 3 || s.Values != [2]float64{2, 9} {
		t.Errorf("p99: got %+v, %+v", got[1], s)
	}
	if runs[0][0].Spread != nil {
		t.Error("a run was changed")
	}
}

// Work that takes longer than the pause between two arrivals still arrives on
// time: how late it was is part of how long it took.
func TestPacedWorkCountsFromWhenItWasDue(t *testing.T) {
	var running, most atomic.Int64
	took, err := paced(t.Context(), 50*time.Millisecond, 1000, func(context.Context) error {
		most.Store(max(most.Load(), running.Add(1)))
		defer running.Add(-1)
		time.Sleep(5 * time.Millisecond)
		return nil
	})
	if err != nil || len(took) != 50 || !slices.IsSorted(took) || took[0] < 5*time.Millisecond || most.Load() < 2 {
		t.Fatalf("got %v, %d at once, %v", took, most.Load(), err)
	}
}

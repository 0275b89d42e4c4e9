// Package lifecycle runs a program as a set of named tasks.
//
// A task is a function that works until its context ends. The first task that
// returns an error ends all of them; a task that returns nil before the
// context ends has simply finished. After the context ends the tasks have a
// bounded time to stop, and those that did not are named in the error.
package lifecycle

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Task is one long-running part of a program.
type Task struct {
	// Name identifies the task in errors, for example "vault eudcc-ie-kv-g1".
	Name string
	// Run works until ctx ends and then returns nil or ctx's error. Any other
	// error stops every other task.
	Run func(ctx context.Context) error
}

// ErrStuck is wrapped by the error of Run when tasks did not stop in time.
var ErrStuck = errors.New("tasks did not stop in time")

type outcome struct {
	name string
	err  error
}

// Run starts every task and returns when all have ended, or when ctx or a
// task's error ended the run and grace has passed since. The result joins the
// cause of the end (nil if ctx ended or all tasks finished) with an ErrStuck
// that names the tasks still running.
func Run(ctx context.Context, grace time.Duration, tasks ...Task) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)

	done := make(chan outcome, len(tasks))
	running := make([]string, 0, len(tasks))
	for _, task := range tasks {
		running = append(running, task.Name)
		go func() { done <- outcome{task.Name, guarded(ctx, task)} }()
	}

	var first error
	var expired <-chan time.Time
	ended := ctx.Done()
	for len(running) > 0 {
		select {
		case o := <-done:
			running = slices.DeleteFunc(running, func(n string) bool { return n == o.name })
			if o.err != nil && !errors.Is(o.err, context.Canceled) && first == nil {
				first = fmt.Errorf("%s: %w", o.name, o.err)
				cancel(first)
			}
		case <-ended:
			ended = nil
			timer := time.NewTimer(grace)
			defer timer.Stop()
			expired = timer.C
		case <-expired:
			slices.Sort(running)
			return errors.Join(first, fmt.Errorf("%w: %s", ErrStuck, strings.Join(running, ", ")))
		}
	}
	return first
}

// guarded turns a panic of a task into its error, so that one broken part
// stops the program in an orderly way and not in the middle of a write.
func guarded(ctx context.Context, task Task) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
	}()
	return task.Run(ctx)
}

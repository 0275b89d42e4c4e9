package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"verdant/estate"
)

// benchVaultScale measures one vault as it grows. Each size is opened by a
// process of its own, so that start and memory are those of a server alone.
func benchVaultScale(ctx context.Context, flags benchFlags) (figures []figure, err error) {
	dir, err := os.MkdirTemp("", "verdant-bench-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	var first estate.VaultAtSize
	secrets, keys := 0, 0
	for size := 1000; size <= flags.objects; size *= 10 {
		more := min(size/10, 100_000)
		begun := time.Now()
		if err := estate.GrowMeasuredVault(ctx, dir, [2]int{secrets, size}, [2]int{keys, more}); err != nil {
			return nil, err
		}
		fmt.Fprintf(os.Stderr, "%d secrets and %d keys made in %.0f s\n", size-secrets, more-keys, time.Since(begun).Seconds())
		secrets, keys = size, more
		at, err := measureAtSize(ctx, dir, secrets, keys)
		if err != nil {
			return nil, err
		}
		if first.Secrets == 0 {
			first = at
		}
		figures = append(figures, scaleFigures(at, first)...)
	}
	return figures, nil
}

func scaleFigures(at, first estate.VaultAtSize) []figure {
	name := func(what string) string { return fmt.Sprintf("%s, %d secrets, %d keys", what, at.Secrets, at.Keys) }
	same := fmt.Sprintf("with %d secrets", first.Secrets)
	return []figure{
		cost(name("start to first answer"), at.Started, "s", "bound", 2),
		cost(name("first page of 25"), at.ListFirst, "ms", same, first.ListFirst),
		cost(name("page in the middle"), at.ListMiddle, "ms", same, first.ListMiddle),
		cost(name("get a secret"), at.GetSecret, "ms", same, first.GetSecret),
		cost(name("get a key"), at.GetKey, "ms", same, first.GetKey),
		cost(name("sign, P-256"), at.Sign, "ms", same, first.Sign),
		cost(name("memory at most"), at.PeakMB, "MB", "bound", 300),
	}
}

const scaleCommand = "bench-vault"

func measureAtSize(ctx context.Context, dir string, secrets, keys int) (at estate.VaultAtSize, err error) {
	exe, err := os.Executable()
	if err != nil {
		return at, err
	}
	cmd := exec.CommandContext(ctx, exe, scaleCommand, dir, strconv.Itoa(secrets), strconv.Itoa(keys), strconv.FormatInt(time.Now().UnixNano(), 10))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return at, fmt.Errorf("measure a vault with %d secrets: %w", secrets, err)
	}
	return at, json.Unmarshal(out, &at)
}

// newScaleCommand is the process that measureAtSize starts.
func newScaleCommand() *cobra.Command {
	return &cobra.Command{
		Use: scaleCommand + " DIR SECRETS KEYS BEGUN", Hidden: true, Args: exactly(4, "what bench vault-scale passes"),
		RunE: func(cmd *cobra.Command, args []string) error {
			var numbers [3]int64
			for i := range numbers {
				var err error
				if numbers[i], err = strconv.ParseInt(args[i+1], 10, 64); err != nil {
					return usagef("%w", err)
				}
			}
			at, err := estate.MeasureVaultAtSize(cmd.Context(), args[0], int(numbers[0]), int(numbers[1]), time.Unix(0, numbers[2]))
			if err != nil {
				return err
			}
			return json.NewEncoder(os.Stdout).Encode(at)
		},
	}
}

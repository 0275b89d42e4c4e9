package main

import (
	"bytes"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
)

func newRestCommand() *cobra.Command {
	var flags sessionFlags
	var body, resource, from string
	var headers []string
	cmd := &cobra.Command{
		Use:   "rest METHOD URL",
		Short: "Make a signed-in request to any platform API, from the jump-box's network",
		Example: `  verdant rest GET 'https://eudcc-ie-kv-g1.vault.azure.net/keys?api-version=7.4'
  verdant rest DELETE 'https://management.verdant.localhost/<assignment id>?api-version=2022-04-01'`,
		Args: exactly(2, "a method and a URL"),
		RunE: func(cmd *cobra.Command, args []string) error {
			method := strings.ToUpper(args[0])
			if !slices.Contains([]string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}, method) {
				return usagef("%q is not an HTTP method", args[0])
			}
			u, err := url.Parse(args[1])
			if err != nil || u.Scheme != "https" || u.Host == "" {
				return usagef("%q is not an https URL", args[1])
			}
			s, err := flags.open()
			if err != nil {
				return err
			}
			if resource == "" {
				if resource, err = s.resourceOf(u); err != nil {
					return err
				}
			}
			var content []byte
			if body != "" {
				if content, err = readInput(body, 16<<20); err != nil {
					return err
				}
			}
			ctx := cmd.Context()
			client, err := s.client(ctx, from)
			if err != nil {
				return err
			}
			token, err := s.token(ctx, resource)
			if err != nil {
				return err
			}
			req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(content))
			if err != nil {
				return err
			}
			req.Header.Set("Authorization", "Bearer "+token)
			if len(content) > 0 {
				req.Header.Set("Content-Type", "application/json")
			}
			for _, h := range headers {
				name, value, ok := strings.Cut(h, ":")
				if !ok {
					return usagef("--header %q: write it as 'Name: value'", h)
				}
				req.Header.Set(strings.TrimSpace(name), strings.TrimSpace(value))
			}
			resp, err := client.Do(req)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			answer, err := io.ReadAll(io.LimitReader(resp.Body, 64<<20))
			if err != nil {
				return err
			}
			if _, err := os.Stdout.Write(answer); err != nil {
				return err
			}
			if len(answer) > 0 && !bytes.HasSuffix(answer, []byte("\n")) {
				fmt.Println()
			}
			if resp.StatusCode >= 400 {
				return fmt.Errorf("%s %s: %s", method, u.Redacted(), resp.Status)
			}
			return nil
		},
	}
	flags.register(cmd)
	flags.registerAs(cmd, "admin")
	cmd.Flags().StringVar(&body, "body", "", "file with the request body, - for standard input")
	cmd.Flags().StringVar(&resource, "resource", "", "audience of the access token, if the host does not tell")
	cmd.Flags().StringVar(&from, "from", "", "region whose jump-box the request leaves from")
	cmd.Flags().StringArrayVar(&headers, "header", nil, "a request header, 'Name: value'; may be repeated")
	return cmd
}
